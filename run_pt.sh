#!/usr/bin/env bash
# Continued pretraining with configs/<profile>/pt.yaml; any option of pretraining.py may follow.
#   bash run_pt.sh --learning_rate 1e-4
#   PROFILE=glm4-9b MODEL=/models/glm-4-9b-chat-hf NPROC=8 bash run_pt.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/stage.sh
launch pretraining.py "configs/$PROFILE/pt.yaml" "$@"
