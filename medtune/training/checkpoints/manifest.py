"""The commit of a checkpoint: every file on disk, then the manifest that names them, by rename."""

import json
from pathlib import Path
from typing import Any

from medtune.common.files import sha256_of_file, sync, sync_folders, write_json

MANIFEST_FILE = "MANIFEST.json"


def commit(folder: Path, facts: dict[str, Any]) -> int:
    """Bring all files of a checkpoint to disk and write its manifest; return their bytes.

    facts: what else the manifest says (the run, the step).
    """
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST_FILE:
            sync(path)
            name = str(path.relative_to(folder))
            files[name] = {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
    sync_folders(folder)
    write_json(folder / MANIFEST_FILE, {**facts, "files": files})
    sync(folder)  # the rename of the manifest
    sync(folder.parent)
    return sum(file["bytes"] for file in files.values())


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a checkpoint, None if it was not committed."""
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_manifest = isinstance(manifest, dict) and isinstance(manifest.get("files"), dict)
    return manifest if is_manifest else None


def find_damage(folder: Path) -> str | None:
    """Return what is wrong with a checkpoint, None if every file is as it was committed."""
    manifest = read_manifest(folder)
    if manifest is None:
        return f"{MANIFEST_FILE} is missing or cannot be read: it was not written to its end"
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        size = path.stat().st_size
        if size != expected["bytes"]:
            return f"{name} has {size:,} bytes instead of {expected['bytes']:,}"
        if sha256_of_file(path) != expected["sha256"]:
            return f"{name} has changed: its SHA-256 is another"
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    added = sorted(found - manifest["files"].keys() - {MANIFEST_FILE})
    return f"{added[0]} was added" if added else None
