#!/usr/bin/env bash
# GLM-4 through pretraining, fine-tuning and DPO under the book's names, CMB after each stage.
#   bash recipes/glm4_medical/run.sh                    the tiny GLM, at most ten minutes on two cores
#   MODEL=/models/glm-4-9b-chat-hf DATA=/data NPROC=2 OUT=. bash recipes/glm4_medical/run.sh
# DATA has pretrain/, finetune/ and reward/; EVAL has cmb_exam/ and cmb_clin/ (default: DATA).
# Options that follow go to all three stages. What is complete is not run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
RECIPE=glm4_medical
source scripts/stage.sh
configs=recipes/$RECIPE base=${MODEL:-tiny-glm}
[ -z "${MODEL:-}" ] || configs=configs/glm4-9b
unset MODEL # from here on, each stage starts from the one before

data=${DATA:-../shared/data}
if [ ! -d "$data/pretrain" ] && [ -z "${DATA:-}" ]; then
    data=data EVAL=${EVAL:-data/eval}
fi

stage() { # script configuration data base name [options …]
    local script=$1 config=$2 rows=$3 model=$4 result=$OUT/glm4-$5
    shift 5
    launch "$script" "$configs/$config" --train_file_dir "$data/$rows" \
        --model_name_or_path "$model" --output_dir "$result-v1" "$@"
    attend python merge_peft_adapter.py --model_type chatglm --base_model "$model" \
        --lora_model "$result-v1" --output_dir "$result-merged/"
}
measure() { # name model [the evaluation before]
    start evaluation.py --model_name_or_path "$2" --output_dir "$OUT/glm4-$1-evaluation" \
        --tasks cmb_exam_text,cmb_clin --data_dir "${EVAL:-$data}" --limit "${LIMIT:-100}" \
        --max_new_tokens 96 ${3:+--baseline "$OUT/glm4-$3-evaluation"}
}
measure base "$base"
stage pretraining.py pt.yaml pretrain "$base" pt "$@"
measure pt "$OUT/glm4-pt-merged" base
stage supervised_finetuning.py sft.yaml finetune "$OUT/glm4-pt-merged" sft "$@"
measure sft "$OUT/glm4-sft-merged" pt
stage dpo_training.py dpo.yaml reward "$OUT/glm4-sft-merged" dpo "$@"
measure dpo "$OUT/glm4-dpo-merged" sft
attend python report.py --evaluations "$OUT"/glm4-{base,pt,sft,dpo}-evaluation \
    --output_file "$OUT/glm4-report.html"
echo "the curves: tensorboard --logdir $OUT/glm4-pt-v1/runs --port 8009"
