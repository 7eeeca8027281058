#!/usr/bin/env bash
# The whole chain: pretraining -> merge -> fine-tuning -> merge -> DPO -> merge,
# then an evaluation of each model and a report on all four.
#   bash run_all.sh                        the built-in tiny model, offline, about six minutes
#   PROFILE=glm4-9b MODEL=/models/glm-4-9b-chat-hf NPROC=8 bash run_all.sh
# What is complete is not run again; what was interrupted goes on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
DEFAULT_PROFILE=tiny # also where a GPU is found: the whole chain must run anywhere
source scripts/stage.sh

out=outputs/$PROFILE
base=${MODEL:-tiny-glm}
if [ "$PROFILE" != tiny ] && [ -z "${MODEL:-}" ]; then
    echo "PROFILE=$PROFILE: expected MODEL=/path/of/the/base/model, found none" >&2
    exit 2
fi
unset MODEL # from here on, each stage starts from the one before

merge() { # base adapter output
    attend python merge_peft_adapter.py --base_model "$1" --lora_model "$2" --output_dir "$3"
}
launch pretraining.py "configs/$PROFILE/pt.yaml" --model_name_or_path "$base"
merge "$base" "$out-pt-v1" "$out-pt-merged"
launch supervised_finetuning.py "configs/$PROFILE/sft.yaml" --model_name_or_path "$out-pt-merged"
merge "$out-pt-merged" "$out-sft-v1" "$out-sft-merged"
launch dpo_training.py "configs/$PROFILE/dpo.yaml" --model_name_or_path "$out-sft-merged"
merge "$out-sft-merged" "$out-dpo-v1" "$out-dpo-merged"

measure() { # stage model [the evaluation of the stage before]
    start evaluation.py --model_name_or_path "$2" --output_dir "$out-$1-evaluation" \
        --max_new_tokens 128 ${3:+--baseline "$3"}
}
measure base "$base"
measure pt "$out-pt-merged" "$out-base-evaluation"
measure sft "$out-sft-merged" "$out-pt-evaluation"
measure dpo "$out-dpo-merged" "$out-sft-evaluation"
attend python -m medtune.evaluation.summary --base "$out-base-evaluation" \
    --pt "$out-pt-evaluation" --sft "$out-sft-evaluation" --dpo "$out-dpo-evaluation" \
    --output_file "$out-summary.json"
attend python report.py --outputs outputs --profile "$PROFILE" --output_file "$out-report.html"
