"""Files of any known kind to train, validation and test sets in one shape; nothing lost unseen.

One pass, a row at a time. A record's part follows from a seeded hash of its question alone, so the
parts never share one, whatever file it stands in. What is left out is written to `rejects.jsonl`
with its reason; for every file, rows read = rows kept + rows rejected.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from medtune.arguments import FormatArguments
from medtune.common.errors import ConfigError, DataError
from medtune.common.files import write_json
from medtune.common.log import logger
from medtune.data.card import CARD, LENGTHS, write_card
from medtune.data.formats.inspection import (
    CONVERSATION,
    PREFERENCE,
    TEXT,
    FileForm,
    form_of_file,
)
from medtune.data.loading import (
    SUFFIXES,
    check_rejects,
    find_files,
    format_options,
    read_conversation_file,
    read_preference_file,
    read_text_file,
)
from medtune.data.parts import Reject, read_files
from medtune.data.records import Record
from medtune.data.splitting import seeded_order
from medtune.data.writing import SHAPES, row_of

PARTS = ("train", "validation", "test")
REPORT, REJECTS = "report.json", "rejects.jsonl"
READERS: dict[str, Callable[..., Iterator[Any]]] = {
    TEXT: read_text_file,
    CONVERSATION: read_conversation_file,
    PREFERENCE: read_preference_file,
}


@dataclass
class PrepareArguments(FormatArguments):
    """What is read, where the sets go and what becomes of the rows."""

    input: str = field(metadata={"help": "File, or folder that is searched to any depth."})
    output: str = field(metadata={"help": "Folder for the three sets, the rejects and the report."})
    seed: int = field(default=42, metadata={"help": "Of the split."})
    validation_percentage: float = field(
        default=5.0, metadata={"help": "Percent of the distinct questions for validation."}
    )
    test_percentage: float = field(
        default=5.0, metadata={"help": "Percent of the distinct questions for the test set."}
    )
    to: str = field(
        default="messages",
        metadata={"help": "Shape that conversations are written in.", "choices": list(SHAPES)},
    )
    doc_separator: str = field(
        default="blank_line",
        metadata={
            "help": "What one document of a text file is.",
            "choices": ["file", "blank_line", "line"],
        },
    )
    keep_duplicates: bool = field(
        default=False, metadata={"help": "Keep rows that say the same as an earlier one."}
    )
    skip_malformed: bool = field(
        default=False,
        metadata={"help": "Leave out and count rows that are no records, instead of stopping."},
    )

    show: int = field(default=0, metadata={"help": "Print so many rows as a model will see them."})
    tokenizer: str = field(
        default="tiny-glm", metadata={"help": "Of --show: folder, hub name or the built-in model."}
    )

    def __post_init__(self) -> None:
        """Refuse percentages that leave nothing to train on."""
        shares = (self.validation_percentage, self.test_percentage)
        if min(shares) < 0 or sum(shares) >= 100:
            raise ConfigError(
                "--validation_percentage, --test_percentage: expected 0 or more and less than 100 "
                f"together, found {shares[0]:g} and {shares[1]:g}."
            )


@dataclass
class FileReport:
    """What came of one file. format, kind and encoding: as found, or as the user said."""

    path: str
    format: str
    kind: str
    encoding: str | None
    rows_read: int = 0
    rows_kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def check(self) -> None:
        """AssertionError if the rows do not balance."""
        assert self.rows_read == self.rows_kept + self.rejected.total(), (
            f"{self.path} is unbalanced"
        )


@dataclass
class CurationReport:
    """What came of all files; `parts` counts the rows of each set."""

    files: list[FileReport] = field(default_factory=list)
    parts: Counter[str] = field(default_factory=Counter)
    lengths: dict[str, Counter[int]] = field(  # rows by their number of characters
        default_factory=lambda: {part: Counter() for part in PARTS}
    )

    def to_dict(self, arguments: PrepareArguments) -> dict[str, Any]:
        """Return what report.json holds."""
        rejected: Counter[str] = sum((file.rejected for file in self.files), Counter())
        return {
            "files": [vars(file) | {"rejected": dict(file.rejected)} for file in self.files],
            "rows": {
                "read": sum(file.rows_read for file in self.files),
                "kept": sum(file.rows_kept for file in self.files),
                "rejected": dict(rejected),
            },
            "parts": {part: self.parts[part] for part in PARTS},
            "options": asdict(arguments),
        }


def curate(arguments: PrepareArguments) -> CurationReport:
    """Write the three sets, the rejects and the report; return the report.

    Raises ConfigError for folders that cannot be used, DataError if nothing is usable or rows are
    no records (the report and the rejects are there even so).
    """
    files, output = find_files(arguments.input, SUFFIXES), Path(arguments.output)
    check_folders(files, output)
    curator = Curator(arguments)
    output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        names = [*(f"{part}.jsonl" for part in PARTS), REJECTS]
        streams = {
            name: stack.enter_context(
                (output / f"{name}.part").open("w", encoding="utf-8", errors="backslashreplace")
            )
            for name in names
        }
        for file in files:
            curator.take_file(file, streams)
    for name in names:
        (output / f"{name}.part").replace(output / name)
    report = curator.report.to_dict(arguments)
    write_json(output / REPORT, report)
    write_card(output, report, curator.report.lengths)
    curator.check()
    return curator.report


def opened(path: Path) -> TextIO:
    """Return a file to write JSON to; half a surrogate pair, which is no text, is escaped."""
    return path.open("w", encoding="utf-8", errors="backslashreplace")


def check_folders(files: list[Path], output: Path) -> None:
    """Raise ConfigError if the output would be read as input, or holds what is not ours."""
    target = output.resolve()
    if any(file.resolve().is_relative_to(target) for file in files):
        raise ConfigError(f"--output {output}: expected another folder than that of the input.")
    ours = {*(f"{part}.jsonl" for part in PARTS), REJECTS, REPORT}
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output}: expected a folder, found a file.")
    found = (
        {path.name.removesuffix(".part") for path in output.iterdir()} if output.exists() else []
    )
    if set(found) - ours - {CARD, LENGTHS}:
        raise ConfigError(
            f"--output {output}: expected an empty folder or one that this program wrote, found "
            "other files; name another."
        )


class Curator:
    """Takes files one after another; keeps counts and hashes, never rows."""

    def __init__(self, arguments: PrepareArguments) -> None:
        """Begin with nothing read."""
        self.arguments = arguments
        self.formats = format_options(arguments, arguments.doc_separator)
        self.report = CurationReport()
        self.malformed: list[Reject] = []
        self.seen: set[bytes] = set()

    def take_file(self, path: Path, streams: Mapping[str, TextIO]) -> None:
        """Write the records of a file to their parts, and the rest to the rejects."""
        form = form_of_file(path, self.formats)
        file = FileReport(str(path), form.form, form.kind, form.encoding)
        self.report.files.append(file)
        for item in self.checked(path, form):
            file.rows_read += 1
            if isinstance(item, Reject):
                file.rejected[item.reason] += 1
                if item.is_malformed:
                    self.malformed.append(item)
                write_line(streams[REJECTS], item.to_dict())
                continue
            file.rows_kept += 1
            part = part_of(item.key, self.arguments)
            self.report.parts[part] += 1
            self.report.lengths[part][item.num_characters] += 1
            source = {"source": str(item.source)}
            write_line(streams[f"{part}.jsonl"], row_of(item, self.arguments.to) | source)
        file.check()

    def checked(self, path: Path, form: FileForm) -> Iterator[Record | Reject]:
        """Yield the records of a file that pass all checks, and a Reject for each other row."""
        read = partial(READERS[form.kind], options=self.formats)
        for item in read_files([path], read):
            if isinstance(item, Reject) or self.arguments.keep_duplicates:
                yield item
                continue
            key = seeded_order(json.dumps(row_of(item), sort_keys=True), 0)[:16]
            if key in self.seen:
                message = "says the same as an earlier row; --keep_duplicates keeps such rows."
                yield Reject(item.source, "exact_duplicate", message)
            else:
                self.seen.add(key)
                yield item

    def check(self) -> None:
        """Raise DataError if nothing is usable, or malformed rows are not to be skipped."""
        rows = sum(file.rows_read for file in self.report.files)
        if self.malformed and not self.arguments.skip_malformed:
            check_rejects(self.malformed, rows, max_percentage=0)
        if not any(file.rows_kept for file in self.report.files):
            reasons = sum((file.rejected for file in self.report.files), Counter())
            shown = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common(5))
            raise DataError(
                f"{self.report.files[0].path}: expected usable rows, found none of {rows:,} rows "
                f"({shown}); {REJECTS} names each."
            )
        kinds = Counter(file.kind for file in self.report.files if file.rows_kept)
        if len(kinds) > 1:
            logger.warning(
                "the sets hold %s together; a stage reads one kind: prepare them apart",
                " and ".join(sorted(kinds)),
            )


def part_of(key: str, options: PrepareArguments) -> str:
    """Return the part of a question: by its seeded hash, blind to width, case and white space."""
    text = "".join(unicodedata.normalize("NFKC", key).casefold().split())
    place = int.from_bytes(seeded_order(text, options.seed)[:8]) / 2**64 * 100
    if place < options.test_percentage:
        return "test"
    return (
        "validation" if place < options.test_percentage + options.validation_percentage else "train"
    )


def write_line(stream: TextIO, row: dict[str, Any]) -> None:
    """Write one row as a JSON line."""
    stream.write(json.dumps(row, ensure_ascii=False) + "\n")
