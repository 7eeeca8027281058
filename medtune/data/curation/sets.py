"""Files of any known kind to train, validation and test sets in one shape; nothing lost unseen.

Files are read twice, a row at a time: to find what repeats, and to write. A record's part follows
from a seeded hash of its question alone, so the parts never share one, whatever file it stands in.
What is left out is written to `rejects.jsonl` with its reason; for every file, rows read = rows
kept + rows rejected.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from medtune.common.errors import ConfigError, DataError
from medtune.common.files import write_json
from medtune.common.log import logger
from medtune.common.text import nfkc
from medtune.data.card import CARD, LENGTHS, write_card
from medtune.data.contamination.report import MATCHES_FILE
from medtune.data.curation.judge import Judge
from medtune.data.curation.options import PrepareArguments
from medtune.data.curation.report import PARTS, CurationReport, FileReport
from medtune.data.formats.inspection import (
    CONVERSATION,
    PREFERENCE,
    TEXT,
    FileForm,
    form_of_file,
)
from medtune.data.formats.options import FormatOptions
from medtune.data.parts import Reject, read_files
from medtune.data.reading import (
    SUFFIXES,
    check_rejects,
    find_files,
    format_options,
    read_conversation_file,
    read_preference_file,
    read_text_file,
)
from medtune.data.records import Record
from medtune.data.splitting import seeded_order
from medtune.data.writing import row_of

REPORT, REJECTS, REPORTED = "report.json", "rejects.jsonl", "reported.jsonl"
SETS = tuple(f"{part}.jsonl" for part in PARTS)
OURS = {*SETS, REPORT, REJECTS, REPORTED, MATCHES_FILE, CARD, LENGTHS}
READERS: dict[str, Callable[..., Iterator[Any]]] = {
    TEXT: read_text_file,
    CONVERSATION: read_conversation_file,
    PREFERENCE: read_preference_file,
}


def curate(arguments: PrepareArguments) -> CurationReport:
    """Write the three sets, the rejects and the report; return the report.

    Raises ConfigError for folders that cannot be used; DataError if nothing is usable, rows are no
    records, or too many hold evaluation items (all files are written even so).
    """
    files, output = find_files(arguments.input, SUFFIXES), Path(arguments.output)
    check_folders(files, output)
    formats = format_options(arguments, arguments.doc_separator)
    forms = {file: form_of_file(file, formats) for file in files}
    judge = Judge(arguments, records_of(forms, formats))
    writer = Writer(arguments, judge)
    output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        names = (*SETS, REJECTS, REPORTED)
        streams = {name: stack.enter_context(opened(output / f"{name}.part")) for name in names}
        for file, form in forms.items():
            writer.take_file(file, form, items_of(file, form, formats), streams)
        for note in judge.hygiene.reported():
            write_line(streams[REPORTED], note.to_dict())
    for name in names:
        (output / f"{name}.part").replace(output / name)
    writer.report.hygiene = judge.hygiene.report.to_dict()
    (output / MATCHES_FILE).unlink(missing_ok=True)  # of a run before
    if judge.screen.contamination is not None:
        writer.report.contamination = judge.screen.contamination.counts()
        judge.screen.contamination.write_matches(output / MATCHES_FILE)
    report = writer.report.to_dict(arguments)
    write_json(output / REPORT, report)
    write_card(output, report, writer.report.lengths)
    writer.check()
    return writer.report


def opened(path: Path) -> TextIO:
    """Return a file to write JSON to; half a surrogate pair, which is no text, is escaped."""
    return path.open("w", encoding="utf-8", errors="backslashreplace")


def check_folders(files: list[Path], output: Path) -> None:
    """Raise ConfigError if the output would be read as input, or holds what is not ours."""
    check_apart(files, output)
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output}: expected a folder, found a file.")
    found = list(output.iterdir()) if output.exists() else []
    if {path.name.removesuffix(".part") for path in found} - OURS:
        raise ConfigError(
            f"--output {output}: expected an empty folder or one that this program wrote, found "
            "other files; name another."
        )


def check_apart(files: list[Path], output: Path) -> None:
    """Raise ConfigError if the output would be read as input."""
    target = output.resolve()
    if any(file.resolve().is_relative_to(target) for file in files):
        raise ConfigError(f"--output {output}: expected another folder than that of the input.")


def items_of(path: Path, form: FileForm, formats: FormatOptions) -> Iterator[Record | Reject]:
    """Yield what the rows of a file become. Raises DataError for one that cannot be read."""
    read = partial(READERS[form.kind], options=formats)
    return read_files([path], read)


def records_of(forms: dict[Path, FileForm], formats: FormatOptions) -> Iterator[Record]:
    """Yield the records of all files."""
    items = (item for file, form in forms.items() for item in items_of(file, form, formats))
    return (item for item in items if not isinstance(item, Reject))


class Writer:
    """Takes files one after another; keeps counts, never rows."""

    def __init__(self, arguments: PrepareArguments, judge: Judge) -> None:
        """Begin with nothing written."""
        self.arguments = arguments
        self.judge = judge
        self.report = CurationReport()
        self.malformed: list[Reject] = []

    def take_file(
        self,
        path: Path,
        form: FileForm,
        items: Iterable[Record | Reject],
        streams: Mapping[str, TextIO],
    ) -> None:
        """Write the records of a file to their parts, and the rest to the rejects."""
        file = FileReport(str(path), form.form, form.kind, form.encoding)
        self.report.files.append(file)
        for item in items:
            file.rows_read += 1
            judged = item
            if not isinstance(item, Reject):
                judged = self.judge.judge(item, file.patients_data)
            if isinstance(judged, Reject):
                file.rejected[judged.reason] += 1
                if judged.is_malformed:
                    self.malformed.append(judged)
                write_line(streams[REJECTS], judged.to_dict())
                continue
            file.rows_kept += 1
            part = part_of(judged.key, self.arguments)
            self.report.parts[part] += 1
            self.report.lengths[part][judged.num_characters] += 1
            source = {"source": str(judged.source)}
            write_line(streams[f"{part}.jsonl"], row_of(judged, self.arguments.to) | source)
        file.check()

    def check(self) -> None:
        """Raise DataError for malformed rows, evaluation items, or nothing that is usable."""
        rows = sum(file.rows_read for file in self.report.files)
        if self.malformed and not self.arguments.skip_malformed:
            check_rejects(self.malformed, rows, max_percentage=0)
        if self.judge.screen.contamination is not None:
            self.judge.screen.contamination.check()
        if not any(file.rows_kept for file in self.report.files):
            reasons = sum((file.rejected for file in self.report.files), Counter())
            shown = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common(5))
            raise DataError(
                f"{self.report.files[0].path}: expected usable rows, found none of {rows:,} rows "
                f"({shown}); {REJECTS} names each."
            )
        shares = (self.arguments.validation_percentage, self.arguments.test_percentage)
        for part, share in zip(PARTS[1:], shares, strict=True):
            if share and not self.report.parts[part]:
                logger.warning("%s.jsonl has no rows: too few questions for its percentage", part)
        kinds = Counter(file.kind for file in self.report.files if file.rows_kept)
        if len(kinds) > 1:
            logger.warning(
                "the sets hold %s together; a stage reads one kind: prepare them apart",
                " and ".join(sorted(kinds)),
            )


def part_of(key: str, arguments: PrepareArguments) -> str:
    """Return the part of a question: by its seeded hash, blind to width, case and white space."""
    text = "".join(nfkc(key).casefold().split())
    place = int.from_bytes(seeded_order(text, arguments.seed)[:8]) / 2**64 * 100
    if place < arguments.test_percentage:
        return "test"
    is_validation = place < arguments.test_percentage + arguments.validation_percentage
    return "validation" if is_validation else "train"


def write_line(stream: TextIO, row: dict[str, Any]) -> None:
    """Write one row as a JSON line."""
    stream.write(json.dumps(row, ensure_ascii=False) + "\n")
