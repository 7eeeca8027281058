"""Rows of a benchmark's files, with errors that name file and line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medtune.common.errors import DataError
from medtune.data.formats.checks import MalformedRow
from medtune.data.formats.files import read_rows_of
from medtune.data.records import Source


def object_rows(path: Path) -> Iterator[tuple[Source, dict[str, Any]]]:
    """Yield the objects of a file with where they stand. Raises DataError for anything else."""
    for line, row in read_rows_of(path):
        source = Source(str(path), line)
        if isinstance(row, MalformedRow):
            raise DataError(f"{source}: {row}")
        if not isinstance(row, dict):
            raise DataError(f"{source}: expected an object {{…}}, found {type(row).__name__}.")
        yield source, row


def text_field(row: dict[str, Any], name: str, source: Source) -> str:
    """Return a text of a row. Raises DataError if it is missing or blank."""
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{source}: expected text in {name!r}, found {value!r}; mend the row.")
    if any("\ud800" <= sign <= "\udfff" for sign in value):
        raise DataError(
            f"{source}: expected text in {name!r}, found half of a surrogate pair in it; mend it."
        )
    return value


def item_id(source: Source, path: Path) -> str:
    """Return what an item without an id is known by: its place below the benchmark's folder.

    The same in every checkout, so that evaluations of two of them compare.
    """
    file = Path(source.path)
    return f"{file.relative_to(path) if path.is_dir() else file.name}:{source.line}"
