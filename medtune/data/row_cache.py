"""Tokenised rows on disk: found again by what they were made from, read memory-mapped.

An entry is a folder of `.cache/rows/`, named by a hash over the content of the data files, the
tokenizer with its chat template, the options, and the code that makes rows. It is used only if
every file in it has the hash that was recorded when it was written; else it is made again.
"""

import gc
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from medtune.common.cache import cache_root, read_or_build
from medtune.common.errors import DataError
from medtune.common.files import read_json, sha256_of_file, sha256_of_json, write_json
from medtune.common.log import logger
from medtune.data.parts import PARTS, Reject

NUM_ENTRIES_KEPT = 8
INDEX_FILE, FACTS_FILE = "index.json", "facts.json"
FILES = {FACTS_FILE, *(f"{part}.arrow" for part in PARTS)}
BATCH_ROWS = 1000
Row = dict[str, list[int]]


@dataclass
class Rows:
    """What a trainer reads: tokenised and masked rows of the two parts, and how they came about.

    turn_ends: the control tokens that end replies.
    """

    train: Dataset
    validation: Dataset
    ledger: dict[str, Any] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    turn_ends: list[int] = field(default_factory=list)


class RowWriter:
    """Writes rows to an Arrow file in batches, so that few of them are in memory.

    Every column is a list of 32-bit integers; the first row says which there are.
    """

    def __init__(self, path: Path) -> None:
        """Write to `path`, which appears with the first batch."""
        self.num_rows = 0
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


def cached_rows(
    files: list[Path],
    tokenizer: PreTrainedTokenizerBase,
    options: dict[str, Any],
    build: Callable[[Path], None],
) -> Rows:
    """Return the rows made from these files with these options, by `build` if they are not cached.

    build: fills a folder by RowWriter and write_facts.
    Raises DataError if a file changes meanwhile, and what `build` raises.
    """
    started = time.monotonic()
    before = [file_state(file) for file in files]

    def build_entry(folder: Path) -> None:
        gc.freeze()  # or Python looks for garbage in all of the libraries: a fifth of the time
        try:
            build(folder)
        finally:
            gc.unfreeze()
        if [file_state(file) for file in files] != before:
            raise DataError(
                f"{files[0].parent}: expected data files that stay as they are, found one that "
                "changed while it was read; run the same command again."
            )
        hashes = {name: sha256_of_file(folder / name) for name in sorted(FILES)}
        write_json(folder / INDEX_FILE, hashes)

    folder = cache_root() / "rows" / describe(files, tokenizer, options)
    rows, is_built = read_or_build(folder, read_entry, build_entry)
    if is_built:
        logger.info("tokenised rows: built in %.1f s (%s)", time.monotonic() - started, folder)
        remove_old_entries(folder)
    else:
        with suppress(OSError):  # an entry of another user may only be read
            os.utime(folder)  # used last
        logger.info("tokenised rows: read from cache %s", folder)
    return rows


def describe(files: list[Path], tokenizer: PreTrainedTokenizerBase, options: dict[str, Any]) -> str:
    """Return the name of an entry: the SHA-256 over everything that rows are made from."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        saved = {path.name: sha256_of_file(path) for path in Path(folder).iterdir()}
    here = Path(__file__).parent
    code = {str(path.relative_to(here)): sha256_of_file(path) for path in here.rglob("*.py")}
    return sha256_of_json(
        {
            # Paths too: they stand in the rejects.
            "files": [(str(file), sha256_of_file(file)) for file in files],
            "tokenizer": saved,
            "options": options,
            "code": code,
            "libraries": [version(name) for name in ("tokenizers", "transformers")],
        }
    )


def file_state(file: Path) -> tuple[int, int]:
    """Return what changes when a file is written to."""
    state = file.stat()
    return state.st_size, state.st_mtime_ns


def write_facts(
    folder: Path, ledger: dict[str, Any], rejects: list[Reject], turn_ends: list[int]
) -> None:
    """Write what belongs to an entry beside its rows."""
    facts = {
        "ledger": ledger,
        "rejects": [reject.to_dict() for reject in rejects],
        "turn_ends": turn_ends,
    }
    write_json(folder / FACTS_FILE, facts)


def read_entry(folder: Path) -> Rows | None:
    """Return the rows of an entry, memory-mapped; None if it is absent or not as it was written."""
    try:
        hashes = read_json(folder / INDEX_FILE)
        if hashes != {name: sha256_of_file(folder / name) for name in hashes.keys() | FILES}:
            return None
        facts = read_json(folder / FACTS_FILE)
        train, validation = (Dataset.from_file(str(folder / f"{part}.arrow")) for part in PARTS)
    except (OSError, ValueError, AttributeError):
        return None
    rejects = [Reject.from_dict(reject) for reject in facts["rejects"]]
    return Rows(train, validation, facts["ledger"], rejects, facts["turn_ends"])


def remove_old_entries(newest: Path) -> None:
    """Remove all entries but those used last; a process that reads one keeps what it has open."""
    with suppress(OSError):  # another process removes them too
        entries = [path for path in newest.parent.iterdir() if is_entry(path)]
        entries.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in entries[NUM_ENTRIES_KEPT:]:
            shutil.rmtree(path, ignore_errors=True)


def is_entry(path: Path) -> bool:
    """True for a whole entry; others are still being written, or locks."""
    return (path / INDEX_FILE).is_file() and not path.name.startswith(".")
