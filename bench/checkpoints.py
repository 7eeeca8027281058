"""What committing and verifying checkpoints costs: a share of a run, MB/s, seconds for a 9B model.

    python bench/checkpoints.py --output bench/results/checkpoints.json

Runs the fine-tuning of the built-in model as it is configured, then verifies its checkpoints.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # where medtune is

from medtune.common.files import write_json  # noqa: E402
from medtune.training.checkpoints.finding import checkpoints_of  # noqa: E402
from medtune.training.checkpoints.manifest import commit, find_damage  # noqa: E402

LARGE_FILE_BYTES = 1 << 30
# All weights of GLM-4-9B in bfloat16 trained with two moments in float32; the adapter of rank 8.
GLM4_9B_BYTES = {"full": 9.4e9 * (2 + 8), "lora": 21e6 * (4 + 8)}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    output = parser.parse_args().output
    with tempfile.TemporaryDirectory() as folder:
        result = {**measure_run(Path(folder)), **measure_large(Path(folder))}
    speed = result["verify_mb_per_s"], result["commit_mb_per_s"]
    result["glm4_9b_seconds"] = {
        name: {"verify": round(size / 1e6 / speed[0], 1), "commit": round(size / 1e6 / speed[1], 1)}
        for name, size in GLM4_9B_BYTES.items()
    }
    result["load_average"] = os.getloadavg()[0]
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    if output:
        write_json(output, result)


def measure_run(folder: Path) -> dict[str, Any]:
    """Return what committing and verifying took of a run of the built-in model."""
    out = folder / "out"
    command = [
        sys.executable, "supervised_finetuning.py", "--config", "configs/tiny/sft.yaml",
        "--model_name_or_path", "tiny-glm", "--output_dir", str(out), "--save_total_limit", "9",
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    results = json.loads((out / "train_results.json").read_text())
    checkpoints = checkpoints_of(out)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        assert find_damage(checkpoints[0]) is None
        times.append(time.perf_counter() - started)
    seconds = results["checkpoint_commit_seconds"] + statistics.median(times)
    return {
        "train_seconds": results["train_runtime"],
        "checkpoints": len(checkpoints),
        "commit_seconds": results["checkpoint_commit_seconds"],
        "verify_seconds": round(statistics.median(times), 4),
        "percent_of_run": round(100 * seconds / results["train_runtime"], 2),
    }


def measure_large(folder: Path) -> dict[str, Any]:
    """Return the speed for files that are large, as those of a 9B model are."""
    checkpoint = folder / "checkpoint-1"
    checkpoint.mkdir()
    chunk = os.urandom(1 << 24)
    with (checkpoint / "model.safetensors").open("wb") as file:
        for _ in range(LARGE_FILE_BYTES // len(chunk)):
            file.write(chunk)
    started = time.perf_counter()
    commit(checkpoint, {})
    middle = time.perf_counter()
    assert find_damage(checkpoint) is None
    ended = time.perf_counter()
    return {
        "commit_mb_per_s": round(LARGE_FILE_BYTES / 1e6 / (middle - started)),
        "verify_mb_per_s": round(LARGE_FILE_BYTES / 1e6 / (ended - middle)),
    }


if __name__ == "__main__":
    main()
