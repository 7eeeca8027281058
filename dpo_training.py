"""Direct preference optimisation: chosen and rejected answers in, a safer adapter out.

The reference is the base model with the adapter switched off. Adapter (default), tiny model:
    python dpo_training.py --config configs/tiny/dpo.yaml
GLM-4-9B on your own pairs:
    python dpo_training.py --config configs/glm4-9b/dpo.yaml --model_name_or_path MODEL \
        --train_file_dir PAIRS --output_dir OUT
Many processes: NPROC=2 bash run_dpo.sh, or torchrun with the same options.
"""

from medtune.arguments.training import DPOConfig
from medtune.common.errors import run_script
from medtune.data.added_tokens import add_tokens
from medtune.data.preparation import prepare_pairs
from medtune.data.rendering import ChatRenderer
from medtune.evaluation.scorers.reply_scores import score_reply
from medtune.models.adapters import load_trainable_model
from medtune.models.families import family_of
from medtune.models.loading import load_tokenizer
from medtune.parsing import parse_arguments
from medtune.training.progress import show_sample
from medtune.training.runner import run_training
from medtune.training.starting import start_run
from medtune.training.trainers import build_preference_trainer


def main(argv: list[str]) -> None:
    """Run the stage with these options."""
    arguments = parse_arguments(argv, DPOConfig)
    run = start_run("preference optimisation", arguments, score_reply)
    tokenizer = load_tokenizer(arguments.model, arguments.adapter.peft_path)
    add_tokens(tokenizer, arguments.adapter.add_tokens)
    renderer = ChatRenderer(tokenizer, family_of(tokenizer).turn_end)

    training = arguments.training
    rows = prepare_pairs(arguments.data, renderer, training.max_length, training.seed)
    show_sample(tokenizer, rows.train[0])

    model = load_trainable_model(arguments.model, arguments.adapter, tokenizer)
    trainer = build_preference_trainer(arguments, model, rows, tokenizer)
    run_training(run, trainer, rows)


if __name__ == "__main__":
    run_script(main)
