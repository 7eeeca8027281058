#!/usr/bin/env bash
# Questions of parents: a table of consultations -> GPT-2 -> perplexity and answers (see README.md).
#   bash recipes/gpt2_pediatrics/run.sh                 a small GPT-2 made here, offline
#   MODEL=/models/gpt2 DATA=/data/erke.csv bash recipes/gpt2_pediatrics/run.sh
# Options of pretraining.py may follow. What is complete is not run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
RECIPE=gpt2_pediatrics
source scripts/stage.sh
here=recipes/$RECIPE limit=${LIMIT:-100}

data=${DATA:-../shared/data/csv/toyhom_neike_gb18030.csv}
if [ ! -e "$data" ] && [ -z "${DATA:-}" ]; then
    data=$OUT/consultations.csv
    attend python "$here/sample_table.py" data/finetune "$data"
fi

# 1. Rows without a question or an answer, and repeated ones, are left out and counted; 8:2, so that
#    no question is on both sides. The same files come out each time.
attend python prepare_data.py --input "$data" --output "$OUT/data" \
    --validation_percentage 20 --test_percentage 0
mkdir -p "$OUT/held_out/finetune"
cp "$OUT/data/validation.jsonl" "$OUT/held_out/finetune/"

# 2. The model: made here, or one that is given and gets the two tags.
config=$here/pt.yaml
if [ -n "${MODEL:-}" ]; then
    config=$here/pt_gpt2.yaml
    attend python new_model.py --base_model "$MODEL" --output_dir "$OUT/base"
else
    attend python new_model.py --model_config "$here/config.json" \
        --texts "$OUT/data/train.jsonl" --vocab_size 4000 --output_dir "$OUT/base"
fi

# 3. Training, and the questions of questions.txt before and after it (samples.jsonl).
start pretraining.py --config "$config" --model_name_or_path "$OUT/base" \
    --train_file_dir "$OUT/data/train.jsonl" --validation_file_dir "$OUT/data/validation.jsonl" \
    --output_dir "$OUT/model" "$@"

# 4. Answers to held-out questions, before and after, item by item.
measure() { # model name [the evaluation before]
    start evaluation.py --model_name_or_path "$OUT/$1" --output_dir "$OUT/$1-evaluation" \
        --data_dir "$OUT/held_out" --tasks answer_perplexity,rouge_bleu --limit "$limit" \
        --max_new_tokens 128 ${2:+--baseline "$2"}
}
measure base
measure model "$OUT/base-evaluation"

# 5. Ask.
python chat.py --model_name_or_path "$OUT/model" --no_log True <"$here/questions.txt"
echo "ask it yourself: python chat.py --model_name_or_path $OUT/model"

# 6. Perplexity of the held-out documents: over tokens, and by the formula of the seed.
attend python "$here/seed_perplexity.py" "$OUT/data/validation.jsonl" "$limit" \
    "$OUT/base" "$OUT/model"
