"""The folder of one model's evaluation: whose it is, what is done, and what came out.

results.json            the numbers, see docs/evaluation.md
samples/<task>.jsonl    every item: prompt, output, what was read in it, what it counts
responses-<n>.jsonl     process n's raw answers, while a benchmark is unfinished
lineage.json, COMPLETE
"""

from pathlib import Path
from typing import Any

from medtune.common.errors import CheckpointError, ConfigError
from medtune.common.files import read_object, sha256_of_file, write_json, write_lines
from medtune.common.lineage import (
    LINEAGE_FILE,
    is_complete,
    mark_complete,
    write_lineage,
)

RESULTS_FILE, SAMPLES_FOLDER, RESPONSES_FILE = "results.json", "samples", "responses-{}.jsonl"
REMEDY = "Run the evaluation again into another folder."


class EvaluationFolder:
    """An evaluation on disk.

    inputs: model, options and data, with hashes: what makes this evaluation this one.
    """

    def __init__(self, path: Path, inputs: dict[str, Any]) -> None:
        """Take the folder. Raises ConfigError if it holds something else."""
        self.path, self.inputs = path, inputs
        if path.exists() and not path.is_dir():
            raise ConfigError(f"--output_dir {path}: expected a folder, found a file.")
        if not path.exists() or not any(path.iterdir()):
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
        (self.path / SAMPLES_FOLDER).mkdir(parents=True, exist_ok=True)
        write_lineage(self.path / LINEAGE_FILE, self.inputs, {})

    def responses(self, process: int) -> Path:
        """Return where a process keeps the answers of the benchmark at hand."""
        return self.path / RESPONSES_FILE.format(process)

    def unfinished(self) -> dict[str, Any] | None:
        """Return the results of the benchmarks that an interrupted evaluation has done."""
        path = self.path / RESULTS_FILE
        return read_object(path, REMEDY) if path.exists() else None

    def keep(self, task: str, samples: list[dict[str, Any]], results: dict[str, Any]) -> None:
        """Write a benchmark that is done; its raw answers are then not needed any more."""
        write_lines(self.path / SAMPLES_FOLDER / f"{task}.jsonl", samples)
        write_json(self.path / RESULTS_FILE, results)
        for path in self.path.glob(RESPONSES_FILE.format("*")):
            path.unlink()

    def close(self, results: dict[str, Any]) -> None:
        """Write the results, the hashes of what was made, and COMPLETE last."""
        write_json(self.path / RESULTS_FILE, results)
        made = [self.path / RESULTS_FILE, *sorted((self.path / SAMPLES_FOLDER).glob("*.jsonl"))]
        hashes = {str(file.relative_to(self.path)): sha256_of_file(file) for file in made}
        write_lineage(self.path / LINEAGE_FILE, self.inputs, hashes)
        mark_complete(self.path, stage="evaluation")


def read_results(folder: str | Path) -> dict[str, Any]:
    """Return the results of a finished evaluation. Raises CheckpointError."""
    path = Path(folder)
    if not (path / RESULTS_FILE).exists() or not is_complete(path):
        raise CheckpointError(
            f"{path}: expected a finished evaluation, found none; run evaluation.py with this "
            "--output_dir first."
        )
    return read_object(path / RESULTS_FILE, REMEDY)
