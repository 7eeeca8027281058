"""Files to records: which files a folder has, what each of their rows becomes, and how many fail.

A row becomes a record or a Reject with its reason; nothing is passed over.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from medtune.arguments import AUTO, FormatArguments
from medtune.common.errors import ConfigError, DataError
from medtune.common.log import logger
from medtune.data.formats.checks import MalformedRow, RowError, check_order, check_text
from medtune.data.formats.conversations import FORMATS, conversation_from_row
from medtune.data.formats.files import ENCODINGS, ROW_SUFFIXES, TEXT_SUFFIXES, read_rows_of
from medtune.data.formats.options import FOUND, FormatOptions
from medtune.data.formats.preferences import preference_from_row
from medtune.data.formats.texts import (
    dialogue_form,
    read_dialogue_rows,
    read_text_documents,
    text_from_row,
)
from medtune.data.hub import downloaded, is_hub_name
from medtune.data.parts import Reader, Reject, read_files
from medtune.data.records import Conversation, PreferencePair, RecordT, Source, TextRecord

MAX_ERRORS_SHOWN = 20
MAX_LEFT_OUT_PERCENTAGE = 1  # of evaluation data
SUFFIXES = TEXT_SUFFIXES + ROW_SUFFIXES


def format_options(arguments: FormatArguments, doc_separator: str = "blank_line") -> FormatOptions:
    """Return what the user said about the files. Raises ConfigError for a name that is none."""
    if arguments.data_format not in (AUTO, *FORMATS):
        raise ConfigError(
            f"--data_format: expected one of {', '.join([AUTO, *FORMATS])}, found "
            f"{arguments.data_format}."
        )
    if arguments.encoding not in ENCODINGS:
        raise ConfigError(
            f"--encoding: expected one of {', '.join(ENCODINGS)}, found {arguments.encoding}."
        )
    said = {option.name: getattr(arguments, option.name) for option in fields(FormatArguments)}
    return FormatOptions(**said, doc_separator=doc_separator)


def find_files(folder: str, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files to read, sorted by path. Raises DataError if there are none."""
    path = Path(folder)
    if path.is_file():
        return [path]
    if not path.exists() and is_hub_name(folder):
        return [downloaded(folder)]
    if not path.is_dir():
        raise DataError(f"{folder}: expected a folder or file with data, found nothing there.")
    files = sorted(file for file in path.rglob("*") if file.suffix in suffixes and file.is_file())
    if not files:
        kinds = ", ".join(suffixes)
        raise DataError(
            f"{folder}: expected at least one file of {kinds}, found none in the folder."
        )
    return files


def read_text_file(path: Path, options: FormatOptions = FOUND) -> Iterator[TextRecord | Reject]:
    """Yield the documents of one file."""
    if path.suffix in TEXT_SUFFIXES:
        yield from read_text_documents(path, options.doc_separator, options.encoding)
    else:
        yield from read_rows(path, text_from_row, options.encoding)


def read_conversation_file(
    path: Path, options: FormatOptions = FOUND
) -> Iterator[Conversation | Reject]:
    """Yield the conversations of one file."""
    if path.suffix in TEXT_SUFFIXES:
        return read_dialogue_file(path, options.encoding)
    return read_rows(path, partial(conversation_from_row, options=options), options.encoding)


def read_dialogue_file(path: Path, encoding: str) -> Iterator[Conversation | Reject]:
    """Yield the conversations of a text file. Raises DataError if it is none of dialogues."""
    form = dialogue_form(path, encoding)
    if form is None:
        raise DataError(
            f"{path}:1: expected dialogues (question, answer, blank line; or <question>…<answer>… "
            "lines), found running text; pretraining reads that, or turn it into rows."
        )
    for line, messages in read_dialogue_rows(path, form, encoding):
        source = Source(str(path), line)
        try:
            if isinstance(messages, RowError):
                raise messages
            for number, message in enumerate(messages, start=1):
                check_text(message.content, f"turn {number}")
            check_order(messages, last="assistant")
        except RowError as error:
            yield Reject(source, error.reason, str(error), is_malformed=False)
        else:
            yield Conversation(messages, source)


def read_preference_file(
    path: Path, options: FormatOptions = FOUND
) -> Iterator[PreferencePair | Reject]:
    """Yield the preference pairs of one file."""
    return read_rows(path, preference_from_row, options.encoding)


def read_rows(
    path: Path, from_row: Callable[[dict[str, Any], Source], RecordT], encoding: str
) -> Iterator[RecordT | Reject]:
    """Yield a record, or the Reject it became, for each row of a file."""
    for line, row in read_rows_of(path, encoding):
        source = Source(str(path), line)
        try:
            if isinstance(row, RowError):
                raise row
            if not isinstance(row, dict):
                raise MalformedRow("not_an_object", "expected an object {…}; mend the line.")
            yield from_row(row, source)
        except RowError as error:
            content = None if isinstance(row, RowError) else row
            is_malformed = isinstance(error, MalformedRow)
            yield Reject(source, error.reason, str(error), content, is_malformed)


def read_all(folder: str, read: Reader[RecordT]) -> list[RecordT]:
    """Return every record below a folder of evaluation data.

    Rows that break a rule are left out up to MAX_LEFT_OUT_PERCENTAGE, and their number is said; a
    malformed one stops the program.
    """
    records: list[RecordT] = []
    rejects: list[Reject] = []
    for item in read_files(find_files(folder, SUFFIXES), read):
        if isinstance(item, Reject):
            rejects.append(item)
        else:
            records.append(item)
    check_rejects(rejects, len(records) + len(rejects), MAX_LEFT_OUT_PERCENTAGE)
    if rejects:
        reasons = Counter(reject.reason for reject in rejects)
        shown = ", ".join(f"{number:,} {reason}" for reason, number in reasons.items())
        logger.warning("%s: rows left out: %s", folder, shown)
    return records


def check_rejects(rejects: list[Reject], rows_read: int, max_percentage: float) -> None:
    """Raise DataError for a malformed row, or if over `max_percentage` of the rows break a rule."""
    bad = [reject for reject in rejects if reject.is_malformed]
    remedy = "Such rows are not left out: mend the file."
    if not bad and len(rejects) > rows_read * max_percentage / 100:
        bad = rejects
        remedy = (
            f"At most {max_percentage:g}% may be left out; mend the rows, or allow more with "
            "--max_rejected_percentage (they are then listed in rejects.jsonl)."
        )
    if bad:
        alike = Counter((reject.source.path, reject.message) for reject in bad)
        first = {(reject.source.path, reject.message): reject for reject in reversed(bad)}
        lines = [
            f"  {first[key].source}: {key[1]}" + f" ({count:,} such rows)" * (count > 1)
            for key, count in islice(alike.items(), MAX_ERRORS_SHOWN)
        ]
        shown, num_more = "\n".join(lines), len(bad) - sum(list(alike.values())[:MAX_ERRORS_SHOWN])
        more = f"\n  and {num_more:,} more" * (num_more > 0)
        raise DataError(
            f"{bad[0].source}: {bad[0].message}\n{len(bad):,} bad rows of {rows_read:,}:\n"
            f"{shown}{more}\n{remedy}"
        )
