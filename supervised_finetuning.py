"""Supervised fine-tuning: conversations in, an adapter that answers and stops out.

Adapter (default), on the pretrained tiny model:
    python supervised_finetuning.py --config configs/tiny/sft.yaml
GLM-4-9B on your own conversations:
    python supervised_finetuning.py --config configs/glm4-9b/sft.yaml --model_name_or_path MODEL \
        --train_file_dir CONVERSATIONS --output_dir OUT
Many processes: NPROC=2 bash run_sft.sh, or torchrun with the same options.
"""

from medtune.arguments.training import SFTConfig
from medtune.common.errors import run_script
from medtune.data.added_tokens import add_tokens
from medtune.data.preparation import prepare_conversations
from medtune.data.rendering import ChatRenderer
from medtune.evaluation.scorers.reply_scores import score_reply
from medtune.models.adapters import load_trainable_model
from medtune.models.families import family_of, stop_token_ids
from medtune.models.loading import load_tokenizer
from medtune.parsing import parse_arguments
from medtune.training.progress import show_sample
from medtune.training.runner import run_training
from medtune.training.starting import start_run
from medtune.training.trainers import build_language_model_trainer


def main(argv: list[str]) -> None:
    """Run the stage with these options."""
    arguments = parse_arguments(argv, SFTConfig)
    run = start_run("supervised fine-tuning", arguments, score_reply)
    tokenizer = load_tokenizer(arguments.model, arguments.adapter.peft_path)
    add_tokens(tokenizer, arguments.adapter.add_tokens)
    renderer = ChatRenderer(tokenizer, family_of(tokenizer).turn_end)

    training = arguments.training
    rows = prepare_conversations(arguments.data, renderer, training.max_length, training.seed)
    show_sample(tokenizer, rows.train[0])

    model = load_trainable_model(arguments.model, arguments.adapter, tokenizer)
    trainer = build_language_model_trainer(arguments, model, rows, tokenizer)
    run_training(run, trainer, rows, stop_token_ids(tokenizer, renderer.turn_ends))


if __name__ == "__main__":
    run_script(main)
