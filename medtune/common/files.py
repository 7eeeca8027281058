"""Files that are either whole or absent, and hashes of what was read."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medtune.common.errors import CheckpointError

CHUNK_BYTES = 1 << 22


def write_text(path: Path, text: str) -> None:
    """Write `text` so that a reader sees the old file or the whole new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # Half a surrogate pair, as a rejected row may hold, is written as its escape.
    with temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Write one line of JSON for each value, all of them or none."""
    write_text(path, "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values))


def read_json(path: Path) -> Any:
    """Return the content of a JSON file that medtune itself wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_object(path: Path, remedy: str = "") -> dict[str, Any]:
    """Return the JSON object of a file that may have been changed since it was written.

    remedy: what the message says to do.   Raises CheckpointError if there is no object in it.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8 is a ValueError too
        raise CheckpointError(
            f"{path}: expected a JSON object: {error}. {remedy}".rstrip()
        ) from error
    if not isinstance(value, dict):
        found = type(value).__name__
        raise CheckpointError(f"{path}: expected a JSON object, found {found}. {remedy}".rstrip())
    return value


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folders(folder: Path) -> None:
    """Wait until the names in a folder and in all folders below it are on the disk."""
    for path in [*folder.rglob("*"), folder]:
        if path.is_dir():
            sync(path)


def sha256_of_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of_json(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON (sorted keys)."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Give a folder to fill beside `target`; rename it to `target` only if the block succeeds.

    A crash leaves `target` as it was. An existing `target` must be empty or absent.
    """
    staging = target.with_name(f".{target.name}.staging")
    if staging.exists():
        shutil.rmtree(staging)  # the rest of a crashed attempt: it was never renamed
    staging.mkdir(parents=True)
    try:
        yield staging
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    if target.exists():
        target.rmdir()
    os.replace(staging, target)


def apply_umask(folder: Path) -> None:
    """Give the files of a folder the mode that the user's umask asks for.

    safetensors writes 0600 whatever the umask, and then nobody else can serve the model.
    """
    umask = os.umask(0)
    os.umask(umask)
    for path in folder.iterdir():
        if path.is_file():
            path.chmod(0o666 & ~umask)
