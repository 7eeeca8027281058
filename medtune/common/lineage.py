"""Which model, data, options and code a folder was made from: `lineage.json` and `COMPLETE`.

Every folder that a stage or a merge writes carries both. `COMPLETE` is written last, so a folder
without it is unfinished work that no later stage may start from.
"""

import subprocess
from pathlib import Path
from typing import Any

from medtune import __version__
from medtune.common.errors import CheckpointError
from medtune.common.files import read_json, sha256_of_file, sha256_of_json, write_json

LINEAGE_FILE = "lineage.json"
COMPLETE_FILE = "COMPLETE"
TEMPLATE_FILE = "chat_template.jinja"
TOKENIZER_PATTERNS = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt",
)  # fmt: skip
WEIGHT_PATTERNS = ("*.safetensors", "config.json", "adapter_config.json")


def describe_weights(folder: str | Path) -> dict[str, Any]:
    """Return what identifies a model or adapter: path, SHA-256 over its weight files, its lineage.

    A hub name that is no local folder has no files to hash: its name stands for it.
    """
    path = Path(folder)
    if not path.is_dir():
        return {"path": str(folder), "sha256": None, "parent": None}
    files = sorted({file for pattern in WEIGHT_PATTERNS for file in path.glob(pattern)})
    hashes = {file.name: sha256_of_file(file) for file in files}
    lineage = path / LINEAGE_FILE
    return {
        "path": str(folder),
        "sha256": sha256_of_json(hashes),
        "parent": sha256_of_file(lineage) if lineage.exists() else None,
    }


def describe_tokenizer(folder: str | Path) -> dict[str, str | None]:
    """Return the SHA-256 over a tokenizer's files and over its chat template; null for hub names.

    Templates of older checkpoints stand in tokenizer_config.json and count there.
    """
    path = Path(folder)
    files = sorted({file for pattern in TOKENIZER_PATTERNS for file in path.glob(pattern)})
    template = path / TEMPLATE_FILE
    return {
        "files": sha256_of_json({f.name: sha256_of_file(f) for f in files}) if files else None,
        "chat_template": sha256_of_file(template) if template.is_file() else None,
    }


def describe_data(files: list[Path]) -> dict[str, str]:
    """Return the SHA-256 of each data file, keyed by its path as the user gave it."""
    return {str(file): sha256_of_file(file) for file in files}


def describe_code() -> dict[str, str | None]:
    """Return medtune's version and, in a git checkout, the commit (with `+` for local changes)."""
    root = Path(__file__).parents[2]

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(root), *arguments]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    dirty = "+" if commit and git("status", "--porcelain", "--untracked-files=no") else ""
    return {"medtune": __version__, "commit": f"{commit}{dirty}" if commit else None}


def mark_complete(folder: Path, **facts: Any) -> None:
    """Write `COMPLETE`, the last file of a finished folder, with the facts that it certifies."""
    write_json(folder / COMPLETE_FILE, facts)


def is_complete(folder: Path) -> bool:
    """True if the folder's writer reached its end."""
    return (folder / COMPLETE_FILE).exists()


def check_complete(folder: str | Path, what: str) -> None:
    """Refuse a folder that medtune began and did not finish; other folders pass.

    Raises CheckpointError naming the command's way out.
    """
    path = Path(folder)
    if (path / LINEAGE_FILE).exists() and not is_complete(path):
        raise CheckpointError(
            f"{path}: expected a finished {what}, found one without {COMPLETE_FILE}: the run that "
            "writes it was interrupted. Run that command again: it continues where it stopped."
        )


def read_lineage(folder: str | Path) -> dict[str, Any] | None:
    """Return the folder's lineage, or None where there is none (a model made elsewhere)."""
    path = Path(folder) / LINEAGE_FILE
    return read_json(path) if path.exists() else None
