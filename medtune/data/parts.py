"""What loading found: parts of records that stay in their files, the rejects and the counts."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, compress
from pathlib import Path
from typing import Any, Generic

import numpy as np

from medtune.common.errors import DataError
from medtune.data.records import RecordT, Source

UNUSED, TRAIN, VALIDATION = 0, 1, 2
FIRST_MIXED, NOT_SAMPLED = 3, 255  # between them: what is mixed in, a part for each folder
PARTS = {"train": TRAIN, "validation": VALIDATION}


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that is not used, with the reason it is counted under."""

    source: Source
    reason: str
    message: str
    row: Any = None
    is_malformed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the line that stands for it in rejects.jsonl."""
        place = {"file": self.source.path, "line": self.source.line}
        return {**place, "reason": self.reason, "message": self.message, "row": self.row}

    @classmethod
    def from_dict(cls, line: dict[str, Any]) -> "Reject":
        """Return the Reject that to_dict was called on."""
        source = Source(line["file"], line["line"])
        return cls(source, line["reason"], line["message"], line["row"])


Reader = Callable[[Path], Iterator[RecordT | Reject]]


@dataclass
class Loaded(Generic[RecordT]):
    """What the files of a stage hold: disjoint parts, what was rejected, and the counts.

    Records are read from the files at each iteration.
    part_of: UNUSED, NOT_SAMPLED or the part of each record, in the order of reading (uint8).
    rows_read, num_records: of each file.   mixed: the folders that are mixed in, in order.
    tokens: of each part and file (by its place in `files`), counted while rows are written.
    """

    files: list[Path]
    read: Reader[RecordT]
    part_of: np.ndarray
    rejects: list[Reject]
    rows_read: list[int]
    num_records: list[int]
    mixed: list[str] = field(default_factory=list)
    tokens: dict[tuple[int, int], Counter[str]] = field(default_factory=dict)
    num_rows: dict[str, int] = field(default_factory=dict)  # rows or blocks of each part
    patients_data: dict[int, Counter[str]] = field(default_factory=dict)  # findings in each file

    @property
    def parts(self) -> dict[str, int]:
        """The parts that have rows, by the name that the ledger gives them."""
        return {**PARTS, **{name: n for n, name in enumerate(self.mixed, start=FIRST_MIXED)}}

    @property
    def train(self) -> "Part[RecordT]":
        """The records to train on, but for what is mixed in."""
        return Part(self, TRAIN)

    @property
    def validation(self) -> "Part[RecordT]":
        """The records to validate on."""
        return Part(self, VALIDATION)

    def file_of(self, place: int) -> int:
        """Return the place in `files` of the file that a record stands in."""
        return bisect_right(self._ends, place)

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(self.num_records))

    def records(self) -> Iterator[tuple[int, RecordT]]:
        """Yield (place in part_of, record) of all parts, in the order of reading."""
        records = (item for item in read_files(self.files, self.read) if not is_reject(item))
        numbered = zip(range(len(self.part_of)), records, strict=True)
        is_used = (self.part_of != UNUSED) & (self.part_of != NOT_SAMPLED)
        yield from compress(numbered, is_used.tobytes())

    def leave_out(self, place: int, reject: Reject) -> None:
        """Make a record a Reject."""
        self.part_of[place] = UNUSED
        self.rejects.append(reject)


@dataclass(frozen=True)
class Part(Generic[RecordT]):
    """The records of one part; iterating reads the files."""

    data: Loaded[RecordT]
    part: int

    def __len__(self) -> int:
        """Return the number of records."""
        return int((self.data.part_of == self.part).sum())

    def __iter__(self) -> Iterator[RecordT]:
        """Yield the records in the order of reading."""
        part_of = self.data.part_of.copy()
        return (record for place, record in self.data.records() if part_of[place] == self.part)


def read_files(files: list[Path], read: Reader[RecordT]) -> Iterator[RecordT | Reject]:
    """Yield all records and rejects of the files. Raises DataError for an empty file."""
    for file in files:
        is_empty = True
        for item in read(file):
            is_empty = False
            yield item
        if is_empty:
            raise DataError(f"{file}:1: expected data, found an empty file; remove it.")


def is_reject(item: Any) -> bool:
    """True for a row that became no record."""
    return isinstance(item, Reject)
