"""How fast prepare_data.py reads, checks and writes rows, and in how much memory.

    python bench/curation.py --rows 1000000
    python bench/curation.py --rows 1000000 --near_duplicates report

Rows are made from the texts of data/finetune, about a kilobyte each, no two alike. Any option of
prepare_data.py may follow. Prints megabytes a second and the peak of memory of the whole program.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXTS_PER_ANSWER, SEED = 12, 1


def main() -> None:
    """Make the rows, run the program on them and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    known, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "rows.jsonl"
        write_rows(source, known.rows)
        megabytes = source.stat().st_size / 1e6
        command = [sys.executable, str(ROOT / "prepare_data.py"), f"--input={source}"]
        started = time.perf_counter()
        subprocess.run([*command, f"--output={folder}/sets", *options], check=True)
        seconds = time.perf_counter() - started
    peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    speed = f"{seconds:.1f} s, {megabytes / seconds:.1f} MB/s, {peak_gb:.2f} GB at most"
    sys.stdout.write(f"{known.rows:,} rows, {megabytes:,.0f} MB: {speed}\n")


def write_rows(path: Path, num_rows: int) -> None:
    """Write rows with a question and a long answer."""
    files = sorted((ROOT / "data" / "finetune").glob("*.jsonl"))
    rows = [json.loads(line) for file in files for line in file.open(encoding="utf-8")]
    texts = [turn["value"] for row in rows for turn in row["conversations"]]
    rng = random.Random(SEED)
    with path.open("w", encoding="utf-8") as file:
        for number in range(num_rows):
            answer = "".join(rng.choice(texts) for _ in range(TEXTS_PER_ANSWER))
            row = {"instruction": f"{rng.choice(texts)} {number}", "output": f"{answer}{number}"}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
