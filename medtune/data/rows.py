"""Tokenised rows: written batch by batch, read memory-mapped, so that few are in memory."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from medtune.data.parts import TRAIN, VALIDATION, Reject

BATCH_ROWS = 1000
ROWS_AT_A_TIME = 10_000
SOURCE = "source"  # of a row: pairs of a file's place in `file_names` and a line
ID_COLUMNS = {"input_ids", "prompt_ids", "chosen_ids", "rejected_ids"}
Row = dict[str, list[int]]


@dataclass
class Rows:
    """What a trainer reads: tokenised and masked rows of the parts, and how they came about.

    sources: of each training row, where it was read.   mixed: the rows of each folder that is
    mixed in.   turn_ends: the control tokens that end
    replies.   matches: which rows held which evaluation items, None if none were given.
    """

    train: Dataset
    validation: Dataset
    ledger: dict[str, Any] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    turn_ends: list[int] = field(default_factory=list)
    mixed: dict[str, Dataset] = field(default_factory=dict)
    matches: list[dict[str, Any]] | None = None
    sources: Dataset | None = None
    file_names: list[str] = field(default_factory=list)

    def source_of(self, row: int) -> str:
        """Return where a training row was read: `file:line`, of a block that of each document."""
        if self.sources is None:
            return f"row {row}"
        pairs = self.sources[row][SOURCE]
        places = zip(pairs[::2], pairs[1::2], strict=True)
        return ", ".join(f"{self.file_names[file]}:{line}" for file, line in places)


class RowWriter:
    """Writes rows to an Arrow file in batches, so that few of them are in memory.

    Every column is a list of 32-bit integers; the first row says which there are.
    """

    def __init__(self, path: Path) -> None:
        """Write to `path`, which appears with the first batch."""
        self.num_rows = 0
        self.num_tokens = 0
        self._rows: list[Row] = []
        self._files = ExitStack()
        self._path = path
        self._stream: pa.RecordBatchStreamWriter | None = None

    def __enter__(self) -> "RowWriter":
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write what is left, unless something failed, and close the file."""
        with self._files:
            if kind is None and self._rows:
                self._flush()

    def add(self, row: Row) -> None:
        """Write one row."""
        self.num_rows += 1
        self.num_tokens += sum(map(len, map(row.__getitem__, ID_COLUMNS & row.keys())))
        self._rows.append(row)
        if len(self._rows) == BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        table = {
            name: pa.array([row[name] for row in self._rows], pa.list_(pa.int32()))
            for name in self._rows[0]
        }
        batch = pa.RecordBatch.from_pydict(table)
        if self._stream is None:
            file = self._files.enter_context(pa.OSFile(str(self._path), "wb"))
            self._stream = self._files.enter_context(pa.ipc.new_stream(file, batch.schema))
        self._stream.write_batch(batch)
        self._rows = []


def row_lengths(rows: Dataset) -> list[int]:
    """Return the tokens of each row; of a pair: prompt, chosen and rejected."""
    names = ID_COLUMNS & set(rows.column_names)
    lengths = np.zeros(len(rows), dtype=np.int64)
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        table = rows.with_format("arrow")[start : start + ROWS_AT_A_TIME]
        for name in names:
            counts = pc.list_value_length(table.column(name)).to_numpy()
            lengths[start : start + len(counts)] += counts
    return lengths.tolist()


def file_of_part(part: int) -> str:
    """Return the name of the file that holds the rows of a part."""
    return {TRAIN: "train.arrow", VALIDATION: "validation.arrow"}.get(part, f"mixed-{part}.arrow")
