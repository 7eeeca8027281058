#!/usr/bin/env bash
# ChatGLM2 learns consultations by P-Tuning v2 on 4-bit weights, as its own ptuning code did (README.md).
#   bash recipes/chatglm2_ptuning_consult/run.sh         a small stand-in in ChatGLM2's format, offline
#   MODEL=/models/chatglm2-6b DATA=/data/med2023/1.jsonl bash recipes/chatglm2_ptuning_consult/run.sh
#
#   DATA    conversations; default: ../shared/data/med2023_like where there is one, else data/finetune
#   OUT     where the results go (default outputs/chatglm2_ptuning_consult)
#   LIMIT   how many held-out conversations are measured
# Options of supervised_finetuning.py may follow. What is complete is not run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
RECIPE=chatglm2_ptuning_consult
source scripts/stage.sh

here=recipes/$RECIPE out=$OUT
config=$here/tiny.yaml
[ -z "${MODEL:-}" ] || config=$here/chatglm2_6b.yaml
data=${DATA:-../shared/data/med2023_like/dialmed_as_med2023.jsonl}
[ -n "${DATA:-}" ] || [ -e "$data" ] || data=data/finetune

# 1. The old checkpoint becomes one that loads without its own code.
attend python convert_chatglm.py --model_dir "${MODEL:-tiny-chatglm2}" --output_dir "$out/chatglm2"

# 2. Repeated rows are left out, and no question is in two of the three sets.
attend python prepare_data.py --input "$data" --output "$out/data" \
    --validation_percentage 5 --test_percentage 10
mkdir -p "$out/held_out/finetune"
cp "$out/data/test.jsonl" "$out/held_out/finetune/"
cp "$here/questions.jsonl" "$out/held_out/"

# 3. Training: a prefix of 128 keys and values in each layer, the rest frozen.
start supervised_finetuning.py --config "$config" --model_name_or_path "$out/chatglm2" \
    --train_file_dir "$out/data/train.jsonl" --validation_file_dir "$out/data/validation.jsonl" \
    --output_dir "$out/prefix" "$@"

# 4. Held-out conversations and the questions, before and after.
compare "$out/chatglm2" "$out/prefix" "$out" --quantization_bit 4 --data_dir "$out/held_out" \
    --tasks rouge_bleu,answer_perplexity,replies --limit "${LIMIT:-60}" --max_new_tokens 64

echo "before and after: $out/report.html"
echo "talk to it: python chat.py --model_name_or_path $out/chatglm2 --adapter $out/prefix --quantization_bit 4"
