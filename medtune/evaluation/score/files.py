"""Gold and predictions from files: gold must be sound, predictions may be anything.

Both are JSON lines, one JSON array, or one object. What cannot be read in the gold stops the run;
in the predictions it is counted, because a model may write whatever it likes.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtune.common.errors import ConfigError, DataError
from medtune.data.formats.checks import MalformedRow, describe
from medtune.data.formats.files import encoding_of, not_text, parse_json, rows_of_value
from medtune.data.records import Source

ID_FIELDS = ("id", "sample_id")


@dataclass(frozen=True)
class GoldRow:
    """A row of the gold file and where it stands."""

    source: Source
    row: dict[str, Any]

    def error(self, expected: str, field: str) -> DataError:
        """Return the error that says what the row should hold in a field."""
        found = describe(self.row[field]) if field in self.row else f"fields {sorted(self.row)}"
        return DataError(
            f"{self.source}: expected {expected} in '{field}', found {found}; mend it."
        )

    def text(self, field: str) -> str:
        """Return a field's text. Raises DataError if there is none, or if it is blank."""
        value = self.row.get(field)
        if not isinstance(value, str) or not value.strip():
            raise self.error("text", field)
        return value


@dataclass(frozen=True)
class Joined:
    """Predictions beside the gold rows that they belong to.

    of_gold: for each gold row its prediction, None where there is none; a MalformedRow where the
    line is no JSON.   counts: missing, malformed, unknown and duplicate predictions.
    """

    of_gold: list[Any]
    counts: dict[str, int]


def read_gold(path: Path) -> list[GoldRow]:
    """Return the rows of the gold file. Raises DataError with `file:line`, ConfigError."""
    rows = []
    for number, value in _numbered_rows(path, "--gold", is_strict=True):
        source = Source(str(path), number)
        if isinstance(value, MalformedRow):
            raise DataError(f"{source}: {value}")
        if not isinstance(value, dict):
            found = type(value).__name__
            raise DataError(f"{source}: expected an object {{…}}, found {found}; mend the row.")
        rows.append(GoldRow(source, value))
    if not rows:
        raise DataError(f"{path}:1: expected gold rows, found none; name another file.")
    return rows


def read_predictions(path: Path) -> list[Any]:
    """Return the values of a file of predictions, a MalformedRow for each line that is no JSON.

    Raises ConfigError only if there is no such file.
    """
    return [value for _, value in _numbered_rows(path, "--predictions", is_strict=False)]


def _numbered_rows(path: Path, option: str, is_strict: bool) -> list[tuple[int, Any]]:
    """Return (line or position, value or MalformedRow) of a file."""
    try:
        content = path.read_bytes()
        codec = encoding_of(path)
    except OSError as error:
        raise ConfigError(
            f"{option} {path}: expected a file of JSON lines, found: {error.strerror}; mend the "
            "path."
        ) from error
    try:
        text = content.decode(codec, errors="strict" if is_strict else "replace")
    except UnicodeError as error:
        if is_strict:
            raise not_text(path, codec) from error
        text = content.decode(errors="replace")
    whole = parse_json(text)
    if not isinstance(whole, MalformedRow):
        rows = rows_of_whole(whole)
        is_row = len(rows) == 1 and rows[0] is whole
        num_blank = text[: len(text) - len(text.lstrip())].count("\n")
        return list(enumerate(rows, start=1 + num_blank * is_row))
    if is_strict and text.lstrip().startswith("["):
        return [(1, whole)]  # a broken array: its message names line and character
    lines = enumerate(text.split("\n"), start=1)
    return [(number, parse_value(line)) for number, line in lines if line.strip()]


def rows_of_whole(value: Any) -> Sequence[Any]:
    """Return the rows of a file that is one JSON value; an object of lists of objects is all."""
    if isinstance(value, dict):
        lists = list(value.values())
        are_rows = all(isinstance(rows, list) for rows in lists)
        if any(lists) and are_rows and all(isinstance(row, dict) for rows in lists for row in rows):
            return list(rows_of_value(value))
        return [value]
    return list(value)


def parse_value(line: str) -> Any:
    """Return any JSON value of a line, text and numbers among them, or a MalformedRow."""
    value = parse_json(line)
    if isinstance(value, MalformedRow) and value.reason == "not_an_object":
        return json.loads(line)
    return value


def id_of(value: Any, fields: Sequence[str] = ID_FIELDS) -> str | None:
    """Return a row's id as text, so that 1 and "1" are one; None where it has none."""
    if not isinstance(value, dict):
        return None
    found = next((value[field] for field in fields if field in value), None)
    is_id = isinstance(found, str | int) and not isinstance(found, bool)
    return str(found) if is_id else None


def join(gold: Sequence[GoldRow], predictions: Sequence[Any]) -> Joined:
    """Put each prediction beside its gold row: by id where both have ids, else by line order.

    Of several predictions with one id the first counts.   Raises DataError where two gold rows have
    one id, or some have an id and some have none.
    """
    ids = [id_of(row.row) for row in gold]
    own_ids = [id_of(value) for value in predictions]
    check_ids(gold, ids)
    if ids[0] is None or not any(own_ids):
        return join_by_order(gold, predictions)
    by_id = first_by_name(own_ids, predictions)
    repeated = Counter(name for name in own_ids if name is not None)
    counts = {
        "missing": sum(name not in by_id for name in ids),
        "malformed": sum(name is None for name in own_ids),
        "unknown_ids": len(set(by_id) - set(ids)),
        "duplicate_ids": sum(number - 1 for number in repeated.values()),
    }
    return Joined([by_id.get(name) for name in ids], counts)


def first_by_name(names: Sequence[str | None], values: Sequence[Any]) -> dict[str | None, Any]:
    """Return the first value of each name; values without a name are left out."""
    found: dict[str | None, Any] = {}
    for name, value in zip(names, values, strict=True):
        if name is not None:
            found.setdefault(name, value)
    return found


def join_by_order(gold: Sequence[GoldRow], predictions: Sequence[Any]) -> Joined:
    """Put the n-th prediction beside the n-th gold row; a broken line keeps its place."""
    kept = list(predictions[: len(gold)])
    missing = len(gold) - len(kept)
    counts = {
        "missing": missing,
        "malformed": sum(isinstance(value, MalformedRow) for value in predictions),
        "unknown_ids": len(predictions) - len(kept),
        "duplicate_ids": 0,
    }
    return Joined(kept + [None] * missing, counts)


def check_ids(gold: Sequence[GoldRow], ids: Sequence[str | None]) -> None:
    """Raise DataError unless all gold rows have an id of their own, or none has one."""
    seen: dict[str, GoldRow] = {}
    for row, name in zip(gold, ids, strict=True):
        if (name is None) != (ids[0] is None):
            raise row.error("an id in every row or in none: a text or a whole number", "id")
        if name is not None and name in seen:
            raise DataError(
                f"{row.source}: expected an id of its own, found {name!r} as in "
                f"{seen[name].source}; remove one."
            )
        if name is not None:
            seen[name] = row
