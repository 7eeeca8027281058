"""What is computed once and kept: folders below `.cache/`, built by one process, used by all."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from medtune.common.errors import ConfigError
from medtune.common.files import staged_folder

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 0.5
ValueT = TypeVar("ValueT")


def cache_root() -> Path:
    """Return the folder of everything cached: $MEDTUNE_CACHE, or `.cache/` in the checkout."""
    return Path(os.environ.get("MEDTUNE_CACHE", ROOT / ".cache"))


def read_or_build(
    folder: Path, read: Callable[[Path], ValueT | None], build: Callable[[Path], None]
) -> tuple[ValueT, bool]:
    """Return what `read` finds in `folder`, built first if need be, and whether this call built it.

    read: returns None for a folder that is absent or not as it was written; it is then replaced.
    build: fills the folder that it is given, which becomes `folder` whole or not at all.
    The first process of each machine builds and the others wait: without a limit, because a
    launcher ends them if it fails. Machines that share the cache take turns, so one of them builds;
    machines that do not share it build one each.   Raises ConfigError if nothing can be written.
    """
    while (value := read(folder)) is None and int(os.environ.get("LOCAL_RANK", "0")) > 0:
        time.sleep(WAIT_SECONDS)
    if value is not None:
        return value, False
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise ConfigError(
            f"{folder.parent}: expected a cache folder that can be written, found: {error}; name "
            "another with the environment variable MEDTUNE_CACHE."
        ) from error
    try:
        value = read(folder)  # another process may have built it while this one waited
        is_built = value is None
        if is_built:
            shutil.rmtree(folder, ignore_errors=True)
            with staged_folder(folder) as staging:
                build(staging)
            value = read(folder)
    finally:
        lock.release()
    assert value is not None, f"{folder}: what was just built cannot be read"
    return value, is_built
