"""Folders of files become the parts of a stage: every row is kept, or counted with its reason.

Files are read twice: here to check every row and to split, with a hash kept for each record, and
later by whoever iterates over the records. Rejected rows go to `rejects.jsonl`, counts to
`ledger.json`.
"""

from functools import partial
from pathlib import Path

import numpy as np

from medtune.arguments import DataArguments, mix_percentages
from medtune.common.errors import DataError
from medtune.common.log import logger
from medtune.data.formats.files import JSON_SUFFIXES, ROW_SUFFIXES
from medtune.data.formats.inspection import describe_file
from medtune.data.parts import (
    FIRST_MIXED,
    NOT_SAMPLED,
    TRAIN,
    VALIDATION,
    Loaded,
    Part,
    Reader,
    Reject,
    read_files,
)
from medtune.data.reading import (
    SUFFIXES,
    check_rejects,
    find_files,
    format_options,
    read_conversation_file,
    read_preference_file,
    read_text_file,
)
from medtune.data.records import Conversation, PreferencePair, RecordT, TextRecord
from medtune.data.splitting import KEY_BYTES, ordered_key, sample, split_keys

IN_VALIDATION = "in_validation"
NAMES = {"train": "training"}  # in messages
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


def load_parts(
    arguments: DataArguments, read: Reader[RecordT], suffixes: tuple[str, ...], seed: int
) -> Loaded[RecordT]:
    """Check the training data, what is mixed in and the validation data, or split the first.

    Raises DataError: a folder or file that is missing or empty, nothing usable in it, a malformed
    row, too many that break a rule.
    """
    loaded, keys = read_parts(arguments, read, suffixes, seed)
    part_of, rows_read = loaded.part_of, sum(loaded.rows_read)
    logger.info("read %s rows from %s files", f"{rows_read:,}", len(loaded.files))
    for file in loaded.files[:MAX_FILES_DESCRIBED]:
        logger.info("%s", describe_file(file, format_options(arguments)))
    check_rejects(loaded.rejects, rows_read, arguments.max_rejected_percentage)
    if not arguments.validation_file_dir:
        places = np.flatnonzero(part_of == TRAIN)
        is_chosen = split_keys(keys[places], arguments.validation_split_percentage)
        part_of[places[is_chosen]] = VALIDATION
    is_validation = part_of == VALIDATION
    reject_overlap(loaded, np.isin(keys, keys[is_validation]) & ~is_validation)
    sample_part(loaded, TRAIN, arguments.max_train_samples, seed)
    sample_part(loaded, VALIDATION, arguments.max_eval_samples, seed)
    check_parts(loaded)
    return loaded


def read_parts(
    arguments: DataArguments, read: Reader[RecordT], suffixes: tuple[str, ...], seed: int
) -> tuple[Loaded[RecordT], np.ndarray]:
    """Return all files, each record in the part of its folder, and the ordered key of each."""
    mixed = list(mix_percentages(arguments.mix))
    folders = [(TRAIN, arguments.train_file_dir)]
    folders += [(VALIDATION, folder) for folder in [arguments.validation_file_dir] if folder]
    folders += list(enumerate(mixed, start=FIRST_MIXED))
    loaded = Loaded([], read, np.zeros(0, np.uint8), [], [], [], mixed)
    keys, part_of = bytearray(), bytearray()
    for part, folder in folders:
        for file in find_files(folder, suffixes):
            num_keys, num_rejects = len(keys), len(loaded.rejects)
            for item in read_files([file], read):
                if isinstance(item, Reject):
                    loaded.rejects.append(item)
                else:
                    keys += ordered_key(item.key, seed)
            num_records = (len(keys) - num_keys) // KEY_BYTES
            loaded.files.append(file)
            loaded.num_records.append(num_records)
            loaded.rows_read.append(num_records + len(loaded.rejects) - num_rejects)
            part_of += bytes([part]) * num_records
    loaded.part_of = np.frombuffer(part_of, np.uint8).copy()
    return loaded, np.frombuffer(bytes(keys), f"S{KEY_BYTES}")


def check_parts(loaded: Loaded[RecordT]) -> None:
    """Raise DataError if a part has no rows."""
    for name, part in loaded.parts.items():
        if not (loaded.part_of == part).any():
            raise DataError(
                f"{loaded.files[0].parent}: expected rows for {NAMES.get(name, name)}, found none "
                f"of {sum(loaded.rows_read):,} usable. Give more rows, or --validation_file_dir."
            )


def data_files(arguments: DataArguments) -> list[Path]:
    """Return every file that a stage reads. Raises DataError if a folder has none."""
    folders = [arguments.train_file_dir, arguments.validation_file_dir]
    folders += mix_percentages(arguments.mix)
    files = [file for folder in folders if folder for file in find_files(folder, SUFFIXES)]
    return files + [f for path in arguments.eval_files for f in find_files(path, JSON_SUFFIXES)]


def reject_overlap(loaded: Loaded[RecordT], in_validation: np.ndarray) -> None:
    """Reject the rows to train on whose question or text is in the validation data.

    in_validation: a bool for each record.
    """
    if in_validation.any():
        message = "the same question or text is in the validation data; it is not trained on."
        for place, record in loaded.records():
            if in_validation[place]:
                loaded.leave_out(place, Reject(record.source, IN_VALIDATION, message))


def sample_part(loaded: Loaded[RecordT], part: int, limit: int | None, seed: int) -> None:
    """Keep at most `limit` records of a part, chosen by the seed."""
    places = np.flatnonzero(loaded.part_of == part)
    if limit is None or len(places) <= limit:
        return
    kept = sample((record.key for record in Part(loaded, part)), limit, seed)
    loaded.part_of[places] = NOT_SAMPLED
    loaded.part_of[places[kept]] = part
