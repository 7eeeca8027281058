"""A folder of files becomes checked records: every row is kept, or counted with its reason.

Files are read twice: here to check every row and to split, with a hash kept for each record, and
later by whoever iterates over the records.
Rejected rows go to `rejects.jsonl`, counts to `ledger.json`, and both must balance:
rows read = rows rejected + rows for training + rows for validation.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medtune.arguments import DataArguments, FormatArguments
from medtune.common.errors import ConfigError, DataError
from medtune.common.log import logger
from medtune.data.formats.checks import MalformedRow, RowError, check_order, check_text
from medtune.data.formats.conversations import FORMATS, conversation_from_row
from medtune.data.formats.files import ENCODINGS, ROW_SUFFIXES, TEXT_SUFFIXES, read_rows_of
from medtune.data.formats.inspection import describe_file
from medtune.data.formats.options import AUTO, FOUND, FormatOptions
from medtune.data.formats.preferences import preference_from_row
from medtune.data.formats.texts import (
    dialogue_form,
    read_dialogue_rows,
    read_text_documents,
    text_from_row,
)
from medtune.data.parts import (
    TRAIN,
    UNUSED,
    VALIDATION,
    Loaded,
    Part,
    Reader,
    Reject,
    read_files,
)
from medtune.data.records import Conversation, PreferencePair, RecordT, Source, TextRecord
from medtune.data.splitting import KEY_BYTES, ordered_key, sample, split_keys

MAX_ERRORS_SHOWN = 20
IN_VALIDATION = "in_validation"
SUFFIXES = TEXT_SUFFIXES + ROW_SUFFIXES
MAX_FILES_DESCRIBED = 20  # in the log, a line each


def load_texts(arguments: DataArguments, doc_separator: str, seed: int) -> Loaded[TextRecord]:
    """Return the documents of text files, and of files whose rows have a `text`."""
    logger.info("a document is: %s (--doc_separator)", doc_separator)
    options = format_options(arguments, doc_separator)
    return load_parts(arguments, partial(read_text_file, options=options), SUFFIXES, seed)


def load_conversations(arguments: DataArguments, seed: int) -> Loaded[Conversation]:
    """Return the conversations of files in any known format."""
    read = partial(read_conversation_file, options=format_options(arguments))
    return load_parts(arguments, read, SUFFIXES, seed)


def load_preferences(arguments: DataArguments, seed: int) -> Loaded[PreferencePair]:
    """Return the preference pairs of files of rows."""
    read = partial(read_preference_file, options=format_options(arguments))
    return load_parts(arguments, read, ROW_SUFFIXES, seed)


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
    return FormatOptions(
        data_format=arguments.data_format,
        encoding=arguments.encoding,
        prompt_column=arguments.prompt_column,
        response_column=arguments.response_column,
        history_column=arguments.history_column,
        doc_separator=doc_separator,
    )


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


def read_all(folder: str, read: Reader[RecordT]) -> list[RecordT]:
    """Return every record below a folder of evaluation data; one bad row stops the program."""
    records: list[RecordT] = []
    rejects: list[Reject] = []
    for item in read_files(find_files(folder, SUFFIXES), read):
        if isinstance(item, Reject):
            rejects.append(item)
        else:
            records.append(item)
    check_rejects(rejects, len(records) + len(rejects), max_percentage=0)
    return records


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


def load_parts(
    arguments: DataArguments, read: Reader[RecordT], suffixes: tuple[str, ...], seed: int
) -> Loaded[RecordT]:
    """Check the training data and the validation data, or split the former.

    Raises DataError: a folder or file that is missing or empty, nothing usable in it, a malformed
    row, too many that break a rule.
    """
    files = find_files(arguments.train_file_dir, suffixes)
    keys, rejects = read_keys(files, read, seed)
    part_of = np.full(len(keys), TRAIN, np.uint8)
    if arguments.validation_file_dir:
        validation_files = find_files(arguments.validation_file_dir, suffixes)
        validation_keys, more_rejects = read_keys(validation_files, read, seed)
        files, rejects = files + validation_files, rejects + more_rejects
        part_of = np.append(part_of, np.full(len(validation_keys), VALIDATION, np.uint8))
    loaded = Loaded(files, read, part_of, rejects, rows_read=len(part_of) + len(rejects))
    logger.info("read %s rows from %s files", f"{loaded.rows_read:,}", len(files))
    for file in files[:MAX_FILES_DESCRIBED]:
        logger.info("%s", describe_file(file, format_options(arguments)))
    check_rejects(rejects, loaded.rows_read, arguments.max_rejected_percentage)
    if arguments.validation_file_dir:
        reject_overlap(loaded, np.isin(keys, validation_keys))
    else:
        part_of[split_keys(keys, arguments.validation_split_percentage)] = VALIDATION
    sample_part(loaded, TRAIN, arguments.max_train_samples, seed)
    sample_part(loaded, VALIDATION, arguments.max_eval_samples, seed)
    for part, records in (("training", loaded.train), ("validation", loaded.validation)):
        if not len(records):
            raise DataError(
                f"{arguments.train_file_dir}: expected rows for {part}, found none of "
                f"{loaded.rows_read:,} usable. Give more rows, or --validation_file_dir."
            )
    return loaded


def data_files(arguments: DataArguments) -> list[Path]:
    """Return every data file below the two folders. Raises DataError if one has none."""
    folders = [arguments.train_file_dir, arguments.validation_file_dir]
    return [f for folder in folders if folder for f in find_files(folder, SUFFIXES)]


def find_files(folder: str, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files to read, sorted by path. Raises DataError if there are none."""
    path = Path(folder)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{folder}: expected a folder or file with data, found nothing there.")
    files = sorted(file for file in path.rglob("*") if file.suffix in suffixes and file.is_file())
    if not files:
        kinds = ", ".join(suffixes)
        raise DataError(
            f"{folder}: expected at least one file of {kinds}, found none in the folder."
        )
    return files


def read_keys(
    files: list[Path], read: Reader[RecordT], seed: int
) -> tuple[np.ndarray, list[Reject]]:
    """Return the ordered key of each record, in the order of reading, and the rejects."""
    keys = bytearray()
    rejects: list[Reject] = []
    for item in read_files(files, read):
        if isinstance(item, Reject):
            rejects.append(item)
        else:
            keys += ordered_key(item.key, seed)
    return np.frombuffer(bytes(keys), f"S{KEY_BYTES}"), rejects


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
        shown = "\n".join(f"  {r.source}: {r.message}" for r in bad[:MAX_ERRORS_SHOWN])
        more = f"\n  and {len(bad) - MAX_ERRORS_SHOWN:,} more" * (len(bad) > MAX_ERRORS_SHOWN)
        raise DataError(
            f"{bad[0].source}: {bad[0].message}\n{len(bad):,} bad rows of {rows_read:,}:\n"
            f"{shown}{more}\n{remedy}"
        )


def reject_overlap(loaded: Loaded[RecordT], in_validation: np.ndarray) -> None:
    """Reject the training rows whose question or text is in the validation data.

    in_validation: a bool for each training record; those records come first in `part_of`.
    """
    message = "the same question or text is in the validation data; it is not trained on."
    if in_validation.any():
        for (_, record), is_overlap in zip(loaded.records(), in_validation, strict=False):
            if is_overlap:
                loaded.rejects.append(Reject(record.source, IN_VALIDATION, message))
    loaded.part_of[: len(in_validation)][in_validation] = UNUSED


def sample_part(loaded: Loaded[RecordT], part: int, limit: int | None, seed: int) -> None:
    """Keep at most `limit` records of a part, chosen by the seed."""
    places = np.flatnonzero(loaded.part_of == part)
    if limit is None or len(places) <= limit:
        return
    kept = sample((record.key for record in Part(loaded, part)), limit, seed)
    loaded.part_of[places] = UNUSED
    loaded.part_of[places[kept]] = part
    loaded.rows_not_sampled += len(places) - len(kept)
