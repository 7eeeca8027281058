"""A model to train from the beginning: a configuration, texts for a tokenizer, random weights.

GPT-2 with byte pairs, for questions and answers:
    python new_model.py --model_config recipes/gpt2_pediatrics/config.json \
        --texts data/finetune --vocab_size 4000 --output_dir outputs/new-gpt2
GPT-2 with BERT's WordPiece, for conversations:
    python new_model.py --model_config recipes/gpt2_chatbot/config.json --tokenizer wordpiece \
        --texts data/finetune --vocab_size 13317 --output_dir outputs/new-chatbot

A stage takes the folder as its base, and trains all weights with the tuner `full`.
"""

from collections.abc import Iterator
from pathlib import Path

from medtune.arguments import NewModelArguments
from medtune.common.errors import run_script
from medtune.data.curation.sets import READERS
from medtune.data.formats.inspection import form_of_file
from medtune.data.reading import SUFFIXES, find_files, read_all
from medtune.models.scratch import write_new_model
from medtune.parsing import parse_into


def main(argv: list[str]) -> None:
    """Make the model that the options describe."""
    (arguments,) = parse_into(argv, [NewModelArguments], {})
    files = [file for name in arguments.texts for file in find_files(name, SUFFIXES)]
    write_new_model(arguments, files, texts_of(files))


def texts_of(files: list[Path]) -> Iterator[str]:
    """Yield every text of the files. Raises DataError for a row that cannot be read."""
    for file in files:
        for record in read_all(str(file), READERS[form_of_file(file).kind]):
            yield from record.texts


if __name__ == "__main__":
    run_script(main)
