"""Which model, data, options and code a folder was made from: `lineage.json` and `COMPLETE`.

Every folder that a stage or a merge writes carries both. `COMPLETE` is written last, so a folder
without it is unfinished work that no later stage may start from.
"""

import fnmatch
import platform
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from medtune import __version__
from medtune.common.errors import CheckpointError, ConfigError
from medtune.common.files import read_json, sha256_of_file, sha256_of_json, sync, write_json

LINEAGE_FILE = "lineage.json"
COMPLETE_FILE = "COMPLETE"
TEMPLATE_FILE = "chat_template.jinja"
TOKENIZER_PATTERNS = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt",
)  # fmt: skip
WEIGHT_PATTERNS = ("*.safetensors", "config.json", "adapter_config.json")
PACKAGES = (
    "torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "safetensors",
    "deepspeed", "numpy",
)  # fmt: skip
# Pictures and logs that nothing is built on, and rows of data, which may have to be erased.
NOT_HASHED = {
    LINEAGE_FILE, COMPLETE_FILE, "metrics.jsonl", "events.jsonl", "samples.jsonl",
    "training_loss.png", "rejects.jsonl", "matches.jsonl",
}  # fmt: skip


def describe_weights(folder: str | Path) -> dict[str, Any]:
    """Return what identifies a model or adapter: path, SHA-256 over its weight files, its lineage.

    A hub name that is no local folder has no files to hash: its name stands for it.
    """
    path = Path(folder)
    if not path.is_dir():
        return {"path": str(folder), "sha256": None, "parent": None}
    lineage = path / LINEAGE_FILE
    return {
        "path": str(folder),
        "sha256": hash_weights(path),
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


def hash_weights(folder: Path, hash_file: Callable[[Path], str] = sha256_of_file) -> str:
    """Return one SHA-256 over a model's or an adapter's weight files and configurations.

    hash_file: gives the hash of one file; one that remembers what it read may be passed.
    """
    files = sorted({file for pattern in WEIGHT_PATTERNS for file in folder.glob(pattern)})
    return sha256_of_json({file.name: hash_file(file) for file in files})


def combine_weights(hashes: dict[str, str]) -> str:
    """Return what `hash_weights` gives for a folder whose files have these hashes.

    Example: {"config.json": "ab…", "ledger.json": "cd…"} -> the hash over config.json alone.
    """
    chosen = {name for pattern in WEIGHT_PATTERNS for name in fnmatch.filter(hashes, pattern)}
    return sha256_of_json({name: hashes[name] for name in chosen})


def describe_outputs(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a folder that is about to be marked complete, by name."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return {
        file.name: sha256_of_file(file)
        for file in files
        if file.name not in NOT_HASHED and not file.name.startswith(".")
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


def describe_packages() -> dict[str, str]:
    """Return the versions of Python and of the installed libraries that results depend on."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # DeepSpeed: a single process does without
            continue
    return versions


def write_lineage(
    file: Path, inputs: dict[str, Any], outputs: dict[str, str], **about: Any
) -> None:
    """Write what something was made from, by which code and packages, and what came out.

    about: what else there is to say, before all of it.
    """
    write_json(
        file,
        {
            **about,
            "inputs": inputs,
            "code": describe_code(),
            "packages": describe_packages(),
            "outputs": outputs,
        },
    )


def lineage_file_of(output: str | Path) -> Path:
    """Return where the lineage of a folder, or of a single file such as a summary, is written.

    Example: outputs/tiny-summary.json -> outputs/tiny-summary.lineage.json
    """
    path = Path(output)
    return path / LINEAGE_FILE if path.is_dir() else path.with_suffix(f".{LINEAGE_FILE}")


def mark_complete(folder: Path, **facts: Any) -> None:
    """Write `COMPLETE`, the last file of a finished folder, with the facts that it certifies.

    All other files are on the disk before it, so that no loss of power leaves it alone there.
    """
    for path in folder.iterdir():
        if path.is_file():
            sync(path)
    sync(folder)
    lineage = folder / LINEAGE_FILE  # which cannot hold its own hash
    hashes = {lineage.name: sha256_of_file(lineage)} if lineage.exists() else {}
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(folder / COMPLETE_FILE, {**facts, "finished": finished, "sha256": hashes})


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


def is_already_written(output: Path, inputs: dict[str, Any]) -> bool:
    """True if `output` was made from these inputs. Raises ConfigError if it holds anything else."""
    if not output.exists() or not any(output.iterdir()):
        return False
    lineage = read_lineage(output)
    if lineage and is_complete(output) and weights_of(lineage["inputs"]) == weights_of(inputs):
        return True
    raise ConfigError(
        f"--output_dir {output}: expected an empty folder or what this same command wrote, found "
        "other files; name another folder or remove that one."
    )


def weights_of(value: Any) -> Any:
    """Return inputs without `parent`: it names a run, and two equal runs give equal weights."""
    if isinstance(value, list):
        return [weights_of(item) for item in value]
    if isinstance(value, dict):
        return {name: weights_of(item) for name, item in value.items() if name != "parent"}
    return value
