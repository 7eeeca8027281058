#!/usr/bin/env bash
# Direct preference optimisation with configs/<profile>/dpo.yaml; any option of dpo_training.py may follow.
#   bash run_dpo.sh --learning_rate 1e-4
#   PROFILE=glm4-9b MODEL=/models/glm-4-9b-chat-hf NPROC=8 bash run_dpo.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/stage.sh
launch dpo_training.py "configs/$PROFILE/dpo.yaml" "$@"
