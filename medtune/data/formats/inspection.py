"""What a file is, from its beginning: the encoding, the kind of records and their format."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from medtune.arguments import AUTO
from medtune.data.formats.checks import RowError
from medtune.data.formats.conversations import format_of
from medtune.data.formats.files import (
    BINARY_SUFFIXES,
    TEXT_SUFFIXES,
    UTF8,
    encoding_of,
    read_rows_of,
)
from medtune.data.formats.options import FOUND, FormatOptions
from medtune.data.formats.preferences import is_preference, preference_format_of
from medtune.data.formats.texts import dialogue_form

TEXT, CONVERSATION, PREFERENCE = KINDS = ("text", "conversation", "preference")
UNKNOWN = "unknown"
ROWS_LOOKED_AT = 100


@dataclass(frozen=True)
class FileForm:
    """kind: of KINDS.   form: the name of the format.   encoding: None for a binary file."""

    kind: str
    form: str
    encoding: str | None


def form_of_file(path: Path, options: FormatOptions = FOUND) -> FileForm:
    """Return what a file is, by the first of its rows that fits a format.

    A file in which none does is taken for conversations, whose reader names what is missing.
    Raises DataError for bytes that cannot be read.
    """
    if path.suffix in TEXT_SUFFIXES:
        dialogue = dialogue_form(path, options.encoding)
        kind = CONVERSATION if dialogue else TEXT
        return FileForm(kind, dialogue or options.doc_separator, named_encoding(path, options))
    encoding = None if path.suffix in BINARY_SUFFIXES else named_encoding(path, options)
    for _, row in islice(read_rows_of(path, options.encoding), ROWS_LOOKED_AT):
        if not isinstance(row, dict):
            continue
        if options.data_format == AUTO and options.prompt_column is None and "text" in row:
            return FileForm(TEXT, "text", encoding)
        try:
            if is_preference(row):
                return FileForm(PREFERENCE, preference_format_of(row), encoding)
            return FileForm(CONVERSATION, named_format(row, options), encoding)
        except RowError:
            continue
    return FileForm(CONVERSATION, UNKNOWN, encoding)


def named_format(row: dict[str, object], options: FormatOptions) -> str:
    """Return the name of the format of a row. Raises RowError if it fits none."""
    if options.prompt_column or options.response_column:
        return "columns"
    return format_of(row, options)


def named_encoding(path: Path, options: FormatOptions) -> str:
    """Return the encoding of a text file as people write it."""
    codec = encoding_of(path, options.encoding)
    return "utf-8" if codec == UTF8 else codec


def describe_file(path: Path, options: FormatOptions = FOUND) -> str:
    """Return "path: format, encoding" for the log."""
    form = form_of_file(path, options)
    return f"{path}: {form.kind}, {form.form}, {form.encoding or path.suffix.lstrip('.')}"
