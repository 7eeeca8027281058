#!/usr/bin/env bash
# A consultation bot: dialogues -> WordPiece -> GPT-2 from nothing -> chat (see README.md).
#   bash recipes/gpt2_chatbot/run.sh
#   CONFIG=recipes/gpt2_chatbot/config_seed.json DATA=/data/train.txt bash recipes/gpt2_chatbot/run.sh
# Options of supervised_finetuning.py may follow. What is complete is not run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
RECIPE=gpt2_chatbot
source scripts/stage.sh
here=recipes/$RECIPE limit=${LIMIT:-100}

data=${DATA:-../shared/data/finetune/toyhom_neike_chitchat.txt}
if [ ! -e "$data" ] && [ -z "${DATA:-}" ]; then
    data=data/finetune
fi

# 1. A dialogue is lines that take turns, with a blank line after it; a tenth is held out.
attend python prepare_data.py --input "$data" --output "$OUT/data" \
    --validation_percentage 10 --test_percentage 0
mkdir -p "$OUT/held_out/finetune"
cp "$OUT/data/validation.jsonl" "$OUT/held_out/finetune/"

# 2. An untrained GPT-2, with BERT's WordPiece: a vocabulary that is given, or counted here.
if [ -n "${VOCAB:-}" ]; then
    words=(--vocab_file "$VOCAB")
else
    words=(--texts "$OUT/data/train.jsonl" --vocab_size 13317)
fi
attend python new_model.py --model_config "${CONFIG:-$here/config.json}" --tokenizer wordpiece \
    "${words[@]}" --output_dir "$OUT/base"

# 3. Training, with warm-up, accumulation and clipping; the questions of questions.txt are asked
#    before and after it (samples.jsonl).
start supervised_finetuning.py --config "$here/sft.yaml" --model_name_or_path "$OUT/base" \
    --train_file_dir "$OUT/data/train.jsonl" --validation_file_dir "$OUT/data/validation.jsonl" \
    --output_dir "$OUT/model" "$@"

# 4. Talk: each turn sees those before it, and the log is saved in chat_logs/.
python chat.py --model_name_or_path "$OUT/model" --no_log True <"$here/questions.txt"
echo "talk to it yourself: python chat.py --model_name_or_path $OUT/model (--web for a page)"

# 5. Held-out questions, before and after, item by item.
measure() { # model name [the evaluation before]
    start evaluation.py --model_name_or_path "$OUT/$1" --output_dir "$OUT/$1-evaluation" \
        --data_dir "$OUT/held_out" --tasks answer_perplexity,rouge_bleu --limit "$limit" \
        --max_new_tokens 256 ${2:+--baseline "$2"}
}
measure base
measure model "$OUT/base-evaluation"
