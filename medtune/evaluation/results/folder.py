"""The folder of one model's evaluation: whose it is, what is done, and what came out.

results.json            the numbers, see docs/evaluation.md
samples/<task>.jsonl    every item: prompt, output, what was read in it, what it counts
responses-<n>.jsonl     process n's raw answers, while a benchmark is unfinished
lineage.json, COMPLETE
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtune.common.errors import CheckpointError, ConfigError
from medtune.common.files import read_object, sha256_of_file, sync, write_json
from medtune.common.lineage import (
    LINEAGE_FILE,
    is_complete,
    mark_complete,
    write_lineage,
)

PART = ".part"  # of the name of a file that is being written
RESULTS_FILE, SAMPLES_FOLDER, RESPONSES_FILE = "results.json", "samples", "responses-{}.jsonl"
NEEDED = {"id", "prompt", "counts", "groups", "malformed"}  # of a sample
REMEDY = "Run the evaluation again into another folder."


@dataclass(frozen=True)
class Counted:
    """What the numbers of a benchmark need of an item."""

    counts: dict[str, float]
    groups: dict[str, str]
    is_malformed: bool


def to_counted(sample: dict[str, Any]) -> Counted:
    """Return what the numbers need of a line of samples/<task>.jsonl."""
    return Counted(sample["counts"], sample["groups"], sample["malformed"] is not None)


def samples_of(folder: Path, task: str, suffix: str = "") -> Path:
    """Return the file with the items of a benchmark."""
    return folder / SAMPLES_FOLDER / f"{task}.jsonl{suffix}"


class EvaluationFolder:
    """An evaluation on disk.

    inputs: model, options and data, with hashes: what makes this evaluation this one.
    """

    def __init__(self, path: Path, inputs: dict[str, Any]) -> None:
        """Take the folder. Raises ConfigError if it holds something else."""
        self.path, self.inputs = path, inputs
        if path.exists() and not path.is_dir():
            raise ConfigError(f"--output_dir {path}: expected a folder, found a file.")
        # What begins with a dot was being written when a process was killed.
        if not path.exists() or all(file.name.startswith(".") for file in path.iterdir()):
            return
        if not (path / LINEAGE_FILE).exists():
            raise ConfigError(
                f"--output_dir {path}: expected an empty folder or an earlier run of this command, "
                "found other files; name another folder."
            )
        before = read_object(path / LINEAGE_FILE, REMEDY).get("inputs")
        if before != inputs:
            names = [
                n for n in inputs if not isinstance(before, dict) or before.get(n) != inputs[n]
            ]
            raise ConfigError(
                f"--output_dir {path}: expected this evaluation's folder, found another one's; it "
                f"differs in {', '.join(names)}. Name another --output_dir, or remove that folder."
            )

    @property
    def is_complete(self) -> bool:
        """True if nothing is left to do."""
        return is_complete(self.path)

    def open(self) -> None:
        """Write what is known before."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_lineage(self.path / LINEAGE_FILE, self.inputs, {})  # first: it says whose the rest is
        (self.path / SAMPLES_FOLDER).mkdir(exist_ok=True)

    def responses(self, process: int) -> Path:
        """Return where a process keeps the answers of the benchmark at hand."""
        return self.path / RESPONSES_FILE.format(process)

    def unfinished(self) -> dict[str, Any] | None:
        """Return the results of the benchmarks that an interrupted evaluation has done."""
        path = self.path / RESULTS_FILE
        return read_object(path, REMEDY) if path.exists() else None

    def begun(self, task: str) -> list[Counted]:
        """Return the items that an interrupted benchmark has done; a cut last line is removed."""
        path = samples_of(self.path, task, PART)
        if not path.exists():
            return []
        whole = path.read_bytes().rpartition(b"\n")[0]
        path.write_bytes(whole + b"\n" if whole else b"")
        return [to_counted(sample) for sample in read_samples(path)]

    def append(self, task: str, samples: list[dict[str, Any]]) -> None:
        """Write items of a benchmark that is not done yet."""
        lines = [json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples]
        path = samples_of(self.path, task, PART)
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write("".join(lines))
        sync(path)

    def keep(self, task: str, results: dict[str, Any]) -> None:
        """Mark a benchmark as done: its items get their name, its numbers stand in the results."""
        samples_of(self.path, task, PART).rename(samples_of(self.path, task))
        write_json(self.path / RESULTS_FILE, results)

    def close(self, results: dict[str, Any]) -> None:
        """Write the results, the hashes of what was made, and COMPLETE last."""
        write_json(self.path / RESULTS_FILE, results)
        made = [self.path / RESULTS_FILE, *sorted((self.path / SAMPLES_FOLDER).glob("*.jsonl"))]
        hashes = {str(file.relative_to(self.path)): sha256_of_file(file) for file in made}
        write_lineage(self.path / LINEAGE_FILE, self.inputs, hashes)
        mark_complete(self.path, stage="evaluation")


def read_samples(path: Path) -> list[dict[str, Any]]:
    """Return the items of a benchmark. Raises CheckpointError naming the line that is damaged."""
    samples = []
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                sample = json.loads(line)
                if not isinstance(sample, dict) or not sample.keys() >= NEEDED:
                    raise ValueError(f"no object with {', '.join(sorted(NEEDED))}")
                samples.append(sample)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}:{len(samples) + 1}: expected a sample: {error}. {REMEDY}"
        ) from error
    return samples


def read_results(folder: str | Path) -> dict[str, Any]:
    """Return the results of a finished evaluation. Raises CheckpointError."""
    path = Path(folder)
    if not (path / RESULTS_FILE).exists() or not is_complete(path):
        raise CheckpointError(
            f"{path}: expected a finished evaluation, found none; run evaluation.py with this "
            "--output_dir first."
        )
    return read_object(path / RESULTS_FILE, REMEDY)
