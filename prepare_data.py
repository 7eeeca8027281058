"""Data of any known kind in; train, validation and test sets in one shape and a report out.

    python prepare_data.py --input FILE_OR_DIR --output DIR
    python prepare_data.py --input consultations.csv --output DIR --to sharegpt --show 3

Formats and encodings are found from the content (docs/data_formats.md); a flag wins over that.
Writes DIR/{train,validation,test}.jsonl, rejects.jsonl, report.json and card.html beside them.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.table import Table

from medtune.arguments import ModelArguments
from medtune.common.errors import run_script
from medtune.data.curation.options import PrepareArguments
from medtune.data.curation.report import PARTS, CurationReport
from medtune.data.curation.sets import READERS, curate
from medtune.data.formats.inspection import form_of_file
from medtune.data.parts import Reject
from medtune.data.records import Conversation, PreferencePair, Record
from medtune.data.rendering import ChatRenderer
from medtune.models.families import family_of
from medtune.models.loading import load_tokenizer
from medtune.models.tiny import TINY_GLM, train_tokenizer
from medtune.parsing import parse_into
from medtune.training.progress import show_sample


def main(argv: list[str]) -> None:
    """Prepare what the options name and print what came of each file."""
    (arguments,) = parse_into(argv, [PrepareArguments], {})
    report, output = curate(arguments), Path(arguments.output)
    if arguments.show:
        show(output / "train.jsonl", arguments.show, arguments.tokenizer)
    print_report(report, output)


def show(path: Path, num_rows: int, tokenizer_name: str) -> None:
    """Print the first rows as a model will see them, with what they teach marked."""
    is_built_in = tokenizer_name == TINY_GLM  # its tokenizer is there sooner than its weights
    tokenizer = train_tokenizer() if is_built_in else load_tokenizer(ModelArguments(tokenizer_name))
    renderer = ChatRenderer(tokenizer, family_of(tokenizer).turn_end)
    for record in islice(read_rows(path), num_rows):
        if isinstance(record, Conversation):
            show_sample(tokenizer, vars(renderer.conversation(record)))
        elif isinstance(record, PreferencePair):
            names = ("prompt_ids", "chosen_ids", "rejected_ids")
            show_sample(tokenizer, dict(zip(names, renderer.pair(record), strict=True)))
        else:
            ids = renderer.encoder.batch([record.text])[0]
            show_sample(tokenizer, {"input_ids": ids, "labels": ids})


def read_rows(path: Path) -> Iterator[Record]:
    """Yield the records of a set that was just written."""
    items = READERS[form_of_file(path).kind](path)
    return (record for record in items if not isinstance(record, Reject))


def print_report(report: CurationReport, output: Path) -> None:
    """Print a line for each file, and where its rows went."""
    table = Table(box=None, pad_edge=False)
    for name in ("file", "format", "encoding", "read", "kept", "rejected"):
        table.add_column(name, justify="right" if name in ("read", "kept") else "left")
    for file in report.files:
        reasons = ", ".join(f"{name} {count:,}" for name, count in file.rejected.most_common())
        cells = (file.path, file.format, file.encoding or "", f"{file.rows_read:,}")
        table.add_row(*cells, f"{file.rows_kept:,}", reasons)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # a log has no edge to break lines at
    console.print(table)
    parts = ", ".join(f"{part} {report.parts[part]:,}" for part in PARTS)
    console.print(f"{output}: {parts}")


if __name__ == "__main__":
    run_script(main)
