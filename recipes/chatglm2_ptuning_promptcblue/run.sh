#!/usr/bin/env bash
# ChatGLM2 learns PromptCBLUE's eighteen forms of answer by P-Tuning v2 (README.md).
#   bash recipes/chatglm2_ptuning_promptcblue/run.sh     a small stand-in in ChatGLM2's format, offline
#   MODEL=/models/chatglm2-6b DATA=/data/promptcblue bash recipes/chatglm2_ptuning_promptcblue/run.sh
#
#   DATA    folder with train.json and dev.json; default: made from ../shared/data/promptcblue where
#           there is one, else from the tables of the sample data, measured on data/eval/promptcblue
#   OUT     where the results go (default outputs/chatglm2_ptuning_promptcblue)
#   LIMIT   how many held-out rows are measured
# Options of supervised_finetuning.py may follow. What is complete is not run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
RECIPE=chatglm2_ptuning_promptcblue
source scripts/stage.sh

here=recipes/$RECIPE out=$OUT
config=$here/tiny.yaml
[ -z "${MODEL:-}" ] || config=$here/chatglm2_6b.yaml
public=../shared/data/promptcblue

# 1. Rows to learn from, and others to measure with.
rows=$out/rows held_out=$out/held_out/promptcblue
# Training rows that hold a row of the measurement are left out and counted, however many.
search=(--eval_files "$held_out" --max_contaminated_percentage 100)
mkdir -p "$rows" "$held_out"
if [ -n "${DATA:-}" ]; then
    cp "$DATA/train.json" "$rows/"
    cp "$DATA/dev.json" "$held_out/"
elif [ -d "$public" ]; then
    cp "$public"/aug_*.json "$public/toy_train.json" "$rows/"
    tail -n +9 "$public/text2dt_rendered.json" >"$rows/text2dt.json"
    cp "$public/toy_dev.json" "$held_out/"
    head -n 8 "$public/text2dt_rendered.json" >"$held_out/text2dt.json"
else
    python "$here/sample_rows.py" data/source "$rows/sample.jsonl"
    search=() # both ask in the same words, of so few rows that these would count as their content
    cp data/eval/promptcblue/medgen.jsonl "$held_out/"
fi
cp "$here/questions.jsonl" "$out/held_out/"

# 2. The old checkpoint becomes one that loads without its own code. Repeated rows are left out.
attend python convert_chatglm.py --model_dir "${MODEL:-tiny-chatglm2}" --output_dir "$out/chatglm2"
attend python prepare_data.py --input "$rows" --output "$out/data" \
    --validation_percentage 3 --test_percentage 0 "${search[@]}"

# 3. ChatGLM2 was published with instructions read; its stand-in reads a few of these rows.
base=$out/chatglm2
if [ -z "${MODEL:-}" ]; then
    base=$out/read
    start pretraining.py --config "$here/reading.yaml" --model_name_or_path "$out/chatglm2" \
        --train_file_dir "$out/data/train.jsonl" \
        --validation_file_dir "$out/data/validation.jsonl" --output_dir "$base"
fi

# 4. Training: a prefix of 128 keys and values in each layer, the rest frozen.
start supervised_finetuning.py --config "$config" --model_name_or_path "$base" \
    --train_file_dir "$out/data/train.jsonl" --validation_file_dir "$out/data/validation.jsonl" \
    --output_dir "$out/prefix" "$@"

# 5. The score over all tasks and the six questions, before and after.
compare "$base" "$out/prefix" "$out" --data_dir "$out/held_out" \
    --tasks promptcblue,replies --limit "${LIMIT:-88}" --max_new_tokens 96

echo "before and after: $out/report.html"
echo "talk to it: python chat.py --model_name_or_path $base --adapter $out/prefix"
