#!/usr/bin/env bash
# GLM-4 through pretraining, fine-tuning and DPO under the names of the book, and CMB after each stage.
#   bash recipes/glm4_medical/run.sh                     the tiny GLM, at most ten minutes on two cores
#   MODEL=/models/glm-4-9b-chat-hf DATA=/data NPROC=2 bash recipes/glm4_medical/run.sh
#
#   DATA   folder with pretrain/, finetune/, reward/; default: ../shared/data where there is one, else data/
#   EVAL   folder with cmb_exam/ and cmb_clin/; default: DATA, or data/eval
#   OUT    where the results go; with OUT=. they get the book's paths
# Options that follow go to all three stages. What is complete is not run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
DEFAULT_PROFILE=tiny
source scripts/stage.sh

out=${OUT:-outputs/glm4_medical}
configs=recipes/glm4_medical
base=${MODEL:-tiny-glm}
[ -z "${MODEL:-}" ] || configs=configs/glm4-9b
unset MODEL # from here on, each stage starts from the one before
if [ -z "${DATA:-}" ] && [ -d ../shared/data/pretrain ]; then DATA=../shared/data; fi
if [ -n "${DATA:-}" ]; then eval_data=${EVAL:-$DATA}; else eval_data=${EVAL:-data/eval}; fi
DATA=${DATA:-data}

stage() { # script, its configuration, data, base, name of the result, options …
    local script=$1 config=$2 data=$3 model=$4 name=$5
    shift 5
    launch "$script" "$configs/$config" --train_file_dir "$DATA/$data" \
        --model_name_or_path "$model" --output_dir "$out/glm4-$name-v1" "$@"
    attend python merge_peft_adapter.py --model_type chatglm --base_model "$model" \
        --lora_model "$out/glm4-$name-v1" --output_dir "$out/glm4-$name-merged/"
}
measure() { # name, model [the evaluation before]
    start evaluation.py --model_name_or_path "$2" --output_dir "$out/glm4-$1-evaluation" \
        --tasks cmb_exam_text cmb_clin --data_dir "$eval_data" --limit "${LIMIT:-300}" \
        --max_new_tokens 96 ${3:+--baseline "$out/glm4-$3-evaluation"}
}
measure base "$base"
stage pretraining.py pt.yaml pretrain "$base" pt "$@"
measure pt "$out/glm4-pt-merged" base
stage supervised_finetuning.py sft.yaml finetune "$out/glm4-pt-merged" sft "$@"
measure sft "$out/glm4-sft-merged" pt
stage dpo_training.py dpo.yaml reward "$out/glm4-sft-merged" dpo "$@"
measure dpo "$out/glm4-dpo-merged" sft
attend python -m medtune.evaluation.summary --base "$out/glm4-base-evaluation" \
    --pt "$out/glm4-pt-evaluation" --sft "$out/glm4-sft-evaluation" \
    --dpo "$out/glm4-dpo-evaluation" --output_file "$out/glm4-summary.json"
