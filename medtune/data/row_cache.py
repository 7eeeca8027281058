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
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from medtune.common.cache import cache_root, read_or_build
from medtune.common.errors import DataError
from medtune.common.files import read_json, sha256_of_file, sha256_of_json, write_json
from medtune.common.log import logger
from medtune.data.contamination.report import ContaminationReport
from medtune.data.ledger import ledger_of
from medtune.data.parts import PARTS, Loaded, Reject
from medtune.data.records import RecordT
from medtune.data.rows import Rows, file_of_part

NUM_ENTRIES_KEPT = 8
INDEX_FILE, FACTS_FILE = "index.json", "facts.json"


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
        hashes = {path.name: sha256_of_file(path) for path in sorted(folder.iterdir())}
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
    folder: Path,
    data: Loaded[RecordT],
    turn_ends: Iterable[int] = (),
    contamination: ContaminationReport | None = None,
) -> None:
    """Write what belongs to an entry beside its rows. AssertionError if it does not balance."""
    facts = {
        "ledger": ledger_of(data, contamination),
        "rejects": [reject.to_dict() for reject in data.rejects],
        "turn_ends": sorted(turn_ends),
        "file_names": [str(file) for file in data.files],
        "parts": {name: file_of_part(part) for name, part in data.parts.items()},
        "matches": contamination and [match.to_dict() for match in contamination.matches],
    }
    write_json(folder / FACTS_FILE, facts)


def read_entry(folder: Path) -> Rows | None:
    """Return the rows of an entry, memory-mapped; None if it is absent or not as it was written."""
    try:
        hashes = read_json(folder / INDEX_FILE)
        files = [path for path in folder.iterdir() if path.name != INDEX_FILE]
        if hashes != {path.name: sha256_of_file(path) for path in files}:
            return None
        facts = read_json(folder / FACTS_FILE)
        parts = {p: Dataset.from_file(str(folder / file)) for p, file in facts["parts"].items()}
    except (OSError, ValueError, AttributeError):
        return None
    rejects = [Reject.from_dict(reject) for reject in facts["rejects"]]
    train, validation = (parts.pop(name) for name in PARTS)
    facts = {name: facts[name] for name in ("ledger", "turn_ends", "matches", "file_names")}
    return Rows(train, validation, rejects=rejects, mixed=parts, **facts)


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
