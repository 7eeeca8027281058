"""JSON files that may have been damaged, asked for values by their place."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medtune.common.errors import CheckpointError, DataError
from medtune.common.files import read_object


@dataclass(frozen=True)
class Document:
    """A JSON object and the file that it came from; an empty one stands for a file not there."""

    path: Path
    value: dict[str, Any] = field(default_factory=dict)

    def find(self, *keys: str) -> Any:
        """Return the value at a place, None where there is none or null.

        Raises CheckpointError if something on the way is no object.
        """
        value: Any = self.value
        for position, key in enumerate(keys):
            if not isinstance(value, dict):
                raise self.wrong(keys[:position], "an object", value)
            value = value.get(key)
            if value is None:
                return None
        return value

    def number(self, *keys: str) -> float | None:
        """Return the number at a place, None where there is none. Raises CheckpointError."""
        value = self.find(*keys)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise self.wrong(keys, "a number", value)
        return value

    def text(self, *keys: str) -> str | None:
        """Return the text at a place, None where there is none. Raises CheckpointError."""
        value = self.find(*keys)
        if value is not None and not isinstance(value, str):
            raise self.wrong(keys, "a text", value)
        return value

    def mapping(self, *keys: str) -> dict[str, Any]:
        """Return the object at a place, empty where there is none. Raises CheckpointError."""
        value = self.find(*keys)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(keys, "an object", value)
        return value or {}

    def counts(self, *keys: str) -> dict[str, float]:
        """Return the numbers of the object at a place by name. Raises CheckpointError."""
        return {name: self.number(*keys, name) or 0 for name in self.mapping(*keys)}

    def wrong(self, keys: tuple[str, ...], expected: str, found: Any) -> CheckpointError:
        """Return the error for a value that has not the type it must have."""
        place = ".".join(keys) or "the whole"
        return CheckpointError(
            f"{self.path}: expected {expected} at {place}, found {type(found).__name__}. It was "
            "changed since it was written: run the command that writes it again."
        )


def read_document(path: Path) -> Document:
    """Return a JSON object; an empty one where there is no file. Raises CheckpointError."""
    return Document(path, read_object(path) if path.exists() else {})


def read_lines(path: Path, is_being_written: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the object of each line.

    is_being_written: the last line may be cut.   Raises DataError with `file:line`.
    """
    with path.open("rb") as file:
        for line, text in enumerate(file, start=1):
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:  # not UTF-8 is a ValueError too
                if is_being_written and not text.endswith(b"\n"):
                    return
                raise DataError(f"{path}:{line}: expected a JSON object: {error}.") from error
            if not isinstance(value, dict):
                raise DataError(
                    f"{path}:{line}: expected a JSON object, found {type(value).__name__}."
                )
            yield line, value
