"""Room on the disk: asked for before it is used; where there is none, an end with exit code 4."""

import shutil
from pathlib import Path

from medtune.common.errors import DISK_FULL, DiskError

MARGIN = 1.05


def check_room(folder: Path, num_bytes: float, what: str) -> None:
    """Raise DiskError if the file system of `folder` has less free than is needed for `what`."""
    free = free_bytes(folder)
    if free < num_bytes * MARGIN:
        raise DiskError(
            f"{folder}: expected room for {what}: need {size(num_bytes * MARGIN)}, have "
            f"{size(free)}. Make room, name another --output_dir, or keep fewer checkpoints "
            "(--save_total_limit); then run the same command again."
        )


def free_bytes(folder: Path) -> int:
    """Return the free bytes where a folder is or will be."""
    while not folder.exists():
        folder = folder.absolute().parent
    return shutil.disk_usage(folder).free


def is_disk_full(error: BaseException, folder: Path, num_bytes: float) -> bool:
    """True if an error while writing means a full disk; torch and safetensors do not say so.

    num_bytes: what is still to be written.
    """
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return True
    return "No space left" in str(error) or free_bytes(folder) < num_bytes


def size(num_bytes: float) -> str:
    """Return a size for people. Example: 1.5 GiB"""
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.1f} {unit}"
    return f"{num_bytes / 1024:.1f} KiB"
