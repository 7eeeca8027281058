"""Continued pretraining: medical books in, an adapter that has read them out.

Adapter (default), on the built-in tiny model:
    python pretraining.py --config configs/tiny/pt.yaml
All weights, your own books, GLM-4-9B:
    python pretraining.py --config configs/glm4-9b/pt.yaml --model_name_or_path MODEL \
        --train_file_dir BOOKS --output_dir OUT --use_peft False
Many processes: NPROC=2 bash run_pt.sh, or torchrun with the same options.
"""

from transformers import PreTrainedTokenizerBase

from medtune.arguments import CONVERSATION, StageArguments
from medtune.arguments.training import SFTConfig
from medtune.common.errors import run_script
from medtune.data.added_tokens import add_tokens
from medtune.data.preparation import prepare_blocks, prepare_conversation_blocks
from medtune.data.rendering import ChatRenderer
from medtune.data.rows import Rows
from medtune.models.adapters import load_trainable_model
from medtune.models.families import family_of
from medtune.models.loading import load_tokenizer
from medtune.parsing import parse_arguments
from medtune.training.progress import show_sample
from medtune.training.runner import run_training
from medtune.training.starting import start_run
from medtune.training.trainers import build_language_model_trainer


def main(argv: list[str]) -> None:
    """Run the stage with these options."""
    arguments = parse_arguments(argv, SFTConfig, with_blocks=True)
    run = start_run("pretraining", arguments)
    tokenizer = load_tokenizer(arguments.model, arguments.adapter.peft_path)
    add_tokens(tokenizer, arguments.adapter.add_tokens)

    rows = prepare_rows(arguments, tokenizer)
    show_sample(tokenizer, rows.train[0])

    model = load_trainable_model(arguments.model, arguments.adapter, tokenizer)
    trainer = build_language_model_trainer(arguments, model, rows, tokenizer)
    run_training(run, trainer, rows)


def prepare_rows(arguments: StageArguments[SFTConfig], tokenizer: PreTrainedTokenizerBase) -> Rows:
    """Return blocks of text, or of conversations as the chat template writes them."""
    blocks, seed = arguments.blocks, arguments.training.seed
    if blocks.doc_separator != CONVERSATION:
        separator, size = blocks.doc_separator, blocks.block_size
        return prepare_blocks(arguments.data, tokenizer, separator, size, seed)
    renderer = ChatRenderer(tokenizer, family_of(tokenizer).turn_end)
    return prepare_conversation_blocks(arguments.data, renderer, blocks.block_size, seed)


if __name__ == "__main__":
    run_script(main)
