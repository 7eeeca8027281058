"""What a run folder holds, read without medtune: the promises are checked by another reader."""

import hashlib
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tests.faults.cases import NUM_STEPS

TIMES = ("runtime", "per_second")
CONTINUED = re.compile(r"continuing from \S+checkpoint-(\d+)|no checkpoint that is whole")


@dataclass(frozen=True)
class Result:
    """What has to be equal: final weights, the optimizer of the last step, the logged losses."""

    weights: str
    optimizer: str
    metrics: str


def result_of(output: Path) -> Result:
    """Return what a finished run made. Asserts that metrics.jsonl has each step once, in order."""
    assert (output / "COMPLETE").exists()
    (weights,) = output.glob("*model.safetensors")
    optimizer = output / f"checkpoint-{NUM_STEPS}" / "optimizer.pt"
    lines = (output / "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    steps = [entry["step"] for entry in entries if "loss" in entry]
    assert steps == list(range(1, NUM_STEPS + 1)), steps
    kept = [{k: v for k, v in e.items() if not k.endswith(TIMES)} for e in entries]
    kept = [entry for entry in kept if "train_loss" not in entry]  # of the last start alone
    return Result(
        sha256(weights),
        hash_of_tensors(optimizer),
        sha256_of_text(json.dumps(kept, sort_keys=True)),
    )


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sha256_of_text(text: str) -> str:
    """Return the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def hash_of_tensors(path: Path) -> str:
    """Return the SHA-256 over the tensors that torch.save has written; its pickle may differ."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if re.search(r"/data/\d+$", n)]
        for name in sorted(names, key=lambda n: int(n.rpartition("/")[2])):
            digest.update(archive.read(name))
    return digest.hexdigest()


def is_committed(checkpoint: Path) -> bool:
    """True if a checkpoint has all that its manifest names, as it names it."""
    try:
        files = json.loads((checkpoint / "MANIFEST.json").read_text())["files"]
        return bool(files) and all(
            sha256(checkpoint / name) == file["sha256"] for name, file in files.items()
        )
    except (OSError, ValueError, KeyError):
        return False


def steps_on_disk(output: Path) -> list[int]:
    """Return the steps of the checkpoint folders, whole or not."""
    names = [p.name for p in output.glob("checkpoint-*")]
    return sorted(int(n.split("-")[1]) for n in names if n.split("-")[1].isdigit())


def committed_steps(output: Path) -> list[int]:
    """Return the steps of the committed checkpoints."""
    return [n for n in steps_on_disk(output) if is_committed(output / f"checkpoint-{n}")]


def newest(output: Path) -> int:
    """Return the step of the newest committed checkpoint, 0 without one."""
    return max(committed_steps(output), default=0)


def set_aside(output: Path) -> set[str]:
    """Return the names of the checkpoints that were set aside."""
    return {path.name for path in output.glob("checkpoint-*.bad*")}


def continued_from(log: str) -> int | None:
    """Return the step that a start has continued from, 0 for the beginning, None if unsaid."""
    found = CONTINUED.search(log)
    return None if found is None else int(found.group(1) or 0)
