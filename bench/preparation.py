"""How fast conversations become training rows: medtune, cold and cached, against TRL's own map.

    python bench/preparation.py --rows 20000 --repeats 3 --out preparation.json

Both read the same JSON lines: conversations of data/finetune by repetition, with other numbers in
each, so that nothing is met twice. Each run is a process of its own with empty caches; the systems
take turns. Checked: both make the same ids and labels of every conversation. TRL gets a chat
template that marks the replies (`{% generation %}`), which its masks need. Its time is given with
and without loading the file; medtune's is all of it: reading, checks, split, hashes.
"""

import argparse
import gc
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
MAX_LENGTH, SEED = 1024, 7
SYSTEMS = ("medtune", "trl", "medtune_cached", "trl_all_cores")
# The same ids as the built-in template and the token that ends a reply; the replies are marked.
TRL_TEMPLATE = (
    "[gMASK]<sop>{% for message in messages %}{% set text = '\n' + message['content'] %}"
    "{% if message['role'] == 'system' %}<|system|>{{ text }}{% elif message['role'] == 'user' %}"
    "{% if loop.first or loop.previtem['role'] == 'system' %}<|user|>{% endif %}{{ text }}"
    "<|assistant|>{% else %}{% generation %}{{ text }}<|user|>{% endgeneration %}{% endif %}"
    "{% endfor %}"
)
ROLES = {"human": "user", "gpt": "assistant"}


def main() -> None:
    """Measure in child processes, or, as a child, one system."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("preparation.json"))
    parser.add_argument("--system", choices=SYSTEMS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.system:
        measure = measure_medtune if arguments.system.startswith("medtune") else measure_trl
        result = measure(arguments.folder, arguments.rows, arguments.system)
        sys.stdout.write(json.dumps(result))
        return
    with tempfile.TemporaryDirectory() as folder:
        report = compare(Path(folder), arguments.rows, arguments.repeats)
    text = json.dumps(report, indent=2)
    arguments.out.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")


def compare(folder: Path, num_rows: int, repeats: int) -> dict[str, Any]:
    """Return the medians of all systems, the ratios, and peak memory at one and four times N."""
    from medtune.models.tiny import train_tokenizer

    train_tokenizer().save_pretrained(folder / "tokenizer")
    for rows in (num_rows, 4 * num_rows):
        write_conversations(folder / f"{rows}.jsonl", rows)
    runs: dict[str, list[dict[str, Any]]] = {system: [] for system in SYSTEMS}
    for _ in range(repeats):
        for system in SYSTEMS:
            runs[system].append(run_child(folder, num_rows, system))
    digests = {run["digest"] for results in runs.values() for run in results}
    assert len(digests) == 1, "the systems make different ids or labels"
    large = run_child(folder, 4 * num_rows, "medtune")
    seconds = {system: [run["seconds"] for run in results] for system, results in runs.items()}
    maps = [run["seconds_map"] for run in runs["trl"]]
    ours = seconds["medtune"]
    memory = statistics.median(run["peak_mib"] for run in runs["medtune"])
    return {
        "rows": num_rows,
        "repeats": repeats,
        "cpu_count": os.cpu_count(),
        "same_ids_and_labels": True,
        "rows_per_second": {
            system: round(num_rows / statistics.median(values))
            for system, values in seconds.items()
        },
        "seconds": seconds,
        "seconds_of_trl_map": maps,
        "ratio_to_trl_map": ratios(ours, maps),
        "ratio_to_trl_with_loading": ratios(ours, seconds["trl"]),
        "ratio_to_trl_on_all_cores": ratios(ours, seconds["trl_all_cores"]),
        "ratio_cached_to_trl_map": ratios(seconds["medtune_cached"], maps),
        "peak_mib_above_start": {
            "medtune": memory,
            "medtune_at_four_times_the_rows": large["peak_mib"],
            "trl": statistics.median(run["peak_mib"] for run in runs["trl"]),
        },
        "bytes_per_added_row": round((large["peak_mib"] - memory) * 2**20 / (3 * num_rows)),
    }


def ratios(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Return how many times faster `ours` is, run by run: median, least, most."""
    values = sorted(b / a for a, b in zip(ours, theirs, strict=True))
    median = statistics.median(values)
    return {"median": round(median, 2), "min": round(values[0], 2), "max": round(values[-1], 2)}


def run_child(folder: Path, num_rows: int, system: str) -> dict[str, Any]:
    """Return what a fresh process measures."""
    command = [sys.executable, "-W", "ignore", __file__, f"--rows={num_rows}"]
    command += [f"--system={system}", f"--folder={folder}"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True)
    if answer.returncode:
        sys.exit(answer.stderr)
    return json.loads(answer.stdout.splitlines()[-1])


def write_conversations(path: Path, num_rows: int) -> None:
    """Write `num_rows` conversations in the form that both systems read."""
    sources = sorted((ROOT / "data" / "finetune").glob("*.jsonl"))
    rows = [json.loads(line) for source in sources for line in source.open(encoding="utf-8")]
    rng = random.Random(SEED)
    with path.open("w", encoding="utf-8") as file:
        for number in range(num_rows):
            turns = rng.choice(rows)["conversations"]
            messages = [
                {
                    "role": ROLES.get(turn["from"], turn["from"]),
                    "content": f"{turn['value']} {number}-{rng.randrange(100_000)}",
                }
                for turn in turns
            ]
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


def peak_mib() -> float:
    """Return the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_medtune(folder: Path, num_rows: int, system: str) -> dict[str, Any]:
    """Prepare the rows once, or a second time from the cache."""
    from transformers import AutoTokenizer

    from medtune.arguments import DataArguments
    from medtune.data.preparation import prepare_conversations
    from medtune.data.rendering import ChatRenderer
    from medtune.models.families import family_of

    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    renderer = ChatRenderer(tokenizer, family_of(tokenizer).turn_end)
    data = DataArguments(str(folder / f"{num_rows}.jsonl"))
    with tempfile.TemporaryDirectory() as cache:
        os.environ["MEDTUNE_CACHE"] = cache
        if system == "medtune_cached":
            prepare_conversations(data, renderer, MAX_LENGTH, SEED)
        gc.collect()
        memory, started = peak_mib(), time.perf_counter()
        rows = prepare_conversations(data, renderer, MAX_LENGTH, SEED)
        seconds, memory = time.perf_counter() - started, peak_mib() - memory
        digest = digest_of(rows.train, rows.validation)
    return {"seconds": seconds, "peak_mib": round(memory, 1), "digest": digest}


def measure_trl(folder: Path, num_rows: int, system: str) -> dict[str, Any]:
    """Load the file and let SFTTrainer prepare it as it would before training."""
    import datasets
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    trainer = SFTTrainer.__new__(SFTTrainer)  # its preparation alone, without a model
    trainer._tokenizer, trainer.chat_template = tokenizer, TRL_TEMPLATE
    trainer.completion_only_loss = True
    with tempfile.TemporaryDirectory() as cache:
        config = SFTConfig(
            output_dir=cache, max_length=MAX_LENGTH, assistant_only_loss=True, report_to="none",
            use_cpu=True, bf16=False,
            dataset_num_proc=os.cpu_count() if system == "trl_all_cores" else None,
        )  # fmt: skip
        gc.collect()
        memory, started = peak_mib(), time.perf_counter()
        file = str(folder / f"{num_rows}.jsonl")
        dataset = datasets.load_dataset("json", data_files=file, cache_dir=cache)["train"]
        loaded = time.perf_counter()
        dataset = trainer._prepare_dataset(dataset, tokenizer, config, False, None, "train")
        ended, memory = time.perf_counter(), peak_mib() - memory
        digest = digest_of(dataset)
    return {
        "seconds": ended - started,
        "seconds_map": ended - loaded,
        "peak_mib": round(memory, 1),
        "digest": digest,
    }


def digest_of(*parts: Any) -> str:
    """Return a hash of all ids and labels, whatever their order."""
    from medtune.common.files import sha256_of_json

    rows = [
        sha256_of_json([row["input_ids"], row["labels"]])
        for part in parts
        for row in part.select_columns(["input_ids", "labels"])
    ]
    return sha256_of_json(sorted(rows))


if __name__ == "__main__":
    main()
