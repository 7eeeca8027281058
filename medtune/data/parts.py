"""What loading found: two parts of records that stay in their files, the rejects and the counts."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any, Generic

import numpy as np

from medtune.common.errors import DataError
from medtune.data.records import RecordT, Source

UNUSED, TRAIN, VALIDATION = 0, 1, 2
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
    """What the files of a stage hold: two disjoint parts, what was rejected, and the counts.

    Records are read from the files at each iteration.
    part_of: UNUSED, TRAIN or VALIDATION for each record, in the order of reading (uint8).
    """

    files: list[Path]
    read: Reader[RecordT]
    part_of: np.ndarray
    rejects: list[Reject]
    rows_read: int
    rows_not_sampled: int = 0
    tokens: dict[str, Counter[str]] = field(default_factory=dict)
    num_rows: dict[str, int] = field(default_factory=dict)  # rows or blocks that are trained on

    @property
    def train(self) -> "Part[RecordT]":
        """The records to train on."""
        return Part(self, TRAIN)

    @property
    def validation(self) -> "Part[RecordT]":
        """The records to validate on."""
        return Part(self, VALIDATION)

    def records(self) -> Iterator[tuple[int, RecordT]]:
        """Yield (place in part_of, record) of both parts, in the order of reading."""
        records = (item for item in read_files(self.files, self.read) if not is_reject(item))
        numbered = zip(range(len(self.part_of)), records, strict=True)
        yield from compress(numbered, self.part_of.tobytes())

    def ledger(self) -> dict[str, Any]:
        """Return the rows and tokens of this stage; AssertionError if they do not balance."""
        rejected = Counter(reject.reason for reject in self.rejects)
        rows = {
            "read": self.rows_read,
            "rejected": dict(rejected),
            "not_sampled": self.rows_not_sampled,
            "train": len(self.train),
            "validation": len(self.validation),
        }
        accounted = (
            rejected.total() + self.rows_not_sampled + len(self.train) + len(self.validation)
        )
        assert self.rows_read == accounted, f"rows do not balance: {rows}"
        for part, tokens in self.tokens.items():
            assert tokens["read"] == tokens["kept"] + tokens["truncated"], f"{part}: {dict(tokens)}"
        counts = {part: dict(count) for part, count in self.tokens.items()}
        return {"rows": rows, "tokens": counts, "training_rows": self.num_rows}


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
