#!/usr/bin/env bash
# Supervised fine-tuning with configs/<profile>/sft.yaml; any option of supervised_finetuning.py may follow.
#   bash run_sft.sh --learning_rate 1e-4
#   PROFILE=glm4-9b MODEL=/models/glm-4-9b-chat-hf NPROC=8 bash run_sft.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/stage.sh
launch supervised_finetuning.py "configs/$PROFILE/sft.yaml" "$@"
