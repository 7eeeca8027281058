"""Ours and others in turn (A B A B) on the same rows: who is faster, by how much, at what memory.

    python bench/run.py --list
    python bench/run.py --cases sft_S_bs8,dpo_S_bs4 --repeats 3 --out outputs/bench.json
    python bench/run.py --cases sft_S_bs8 --rows 8 --repeats 1     # seconds, to try it

First the gate: both systems' log-probabilities of every example before the first step must agree
to 1e-4, and later the loss of every step to 1e-4 of itself; else the case has no ratio. Every
measurement runs in a fresh process. docs/performance.md says what the figures mean.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where bench and medtune are

from bench.cases import Case, build_cases
from bench.external import (
    COMMANDS,
    NotInstalled,
    Programs,
    run_external,
    tail,
    write_conversations,
)
from bench.models import SHAPES, build_model
from bench.results import (
    MAX_LOG_PROB_DIFFERENCE,
    Run,
    compare_log_probs,
    head_of,
    summarise,
)
from bench.rows import build_rows, build_tokenizer, real_conversations, real_source

REPO = Path(__file__).resolve().parents[1]
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")


@dataclass(frozen=True)
class Workplace:
    """A case's files, and how measurements are started: threads, other programs."""

    case: Case
    folder: Path
    num_threads: int
    programs: Programs
    source: Path | None

    @property
    def tokenizer(self) -> Path:
        """The folder of the case's tokenizer; for other programs it holds the model too."""
        return self.folder / "model"

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a measuring process: offline, as many threads as the others."""
        return {
            **os.environ,
            "PYTHONPATH": str(REPO),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_NUM_THREADS": str(self.num_threads),
        }


def main() -> None:
    """Run the cases that were asked for and keep each result as soon as it is there."""
    options = parse_options()
    cases = build_cases()
    if options.list:
        for case in cases.values():
            print(f"{case.name:32} {case.system} against {case.baseline}, {case.num_rows} rows")
        return
    names = options.cases.split(",") if options.cases else list(cases)
    unknown = [name for name in names if name not in cases]
    if unknown:
        sys.exit(f"--cases: no case {', '.join(unknown)}; `--list` names them all.")
    if options.data and not options.data.is_dir():
        sys.exit(f"--data: expected a folder, found none at {options.data}.")
    for name in names:
        case = cases[name] if options.rows is None else replace(cases[name], num_rows=options.rows)
        entry = run_case(case, options)
        keep(entry, options.out)
        print(one_line(entry), flush=True)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="name every case and leave")
    parser.add_argument("--cases", help="names with commas between; default: all")
    parser.add_argument("--repeats", type=count, default=3, help="runs of each system (default 3)")
    parser.add_argument("--rows", type=count, help="rows of each case; default: the case's own")
    parser.add_argument("--threads", type=count, default=2, help="of torch, for both (default 2)")
    parser.add_argument("--data", type=Path, help="folder with the real files; default: synthetic")
    parser.add_argument("--out", type=Path, default=REPO / "outputs" / "bench.json")
    parser.add_argument("--medicalgpt", type=Path, help="checkout of MedicalGPT")
    parser.add_argument("--llamafactory", help="LLaMA-Factory's executable")
    return parser.parse_args()


def count(word: str) -> int:
    """Return a whole number from 1 on; argparse says what is wrong with another word."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, found {word!r}")
    return int(word)


def run_case(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Return the case's entry; a system that is missing or fails is reported, not raised."""
    source = real_source(case, options.data)
    programs = Programs(options.medicalgpt, options.llamafactory)
    with tempfile.TemporaryDirectory(prefix="medtune-bench-") as folder:
        place = Workplace(case, Path(folder), options.threads, programs, source)
        try:
            entry = measure_case(place, options.repeats)
        except NotInstalled as error:
            entry = head_of(case) | {"status": "not installed", "reason": str(error)}
        except RuntimeError as error:
            entry = head_of(case) | {"status": "error", "reason": str(error)}
    data = "synthetic" if source is None else source.name
    return entry | {"data": data, "environment": describe_machine(options.threads)}


def measure_case(place: Workplace, repeats: int) -> dict[str, Any]:
    """Check the gate, then run both systems in turn."""
    case = place.case
    tokenizer = build_tokenizer(SHAPES[case.model]["vocab_size"], place.source)
    tokenizer.save_pretrained(place.tokenizer)
    rows = build_rows(case, tokenizer, place.source)
    (place.folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    measure = {name: measurement_of(name, place) for name in (case.system, case.baseline)}

    gate = None
    if case.baseline not in COMMANDS:
        found = [measure_here(name, "gate", place)["log_probs"] for name in measure]
        gate = compare_log_probs(*found)
        if not gate <= MAX_LOG_PROB_DIFFERENCE:
            reason = f"log-probabilities differ by {gate:.1e}"
            failed = {"gate_max_abs_diff": gate, "status": "gate failed", "reason": reason}
            return head_of(case) | failed
    runs: dict[str, list[Run]] = {name: [] for name in measure}
    for _ in range(repeats):
        for name, of in runs.items():
            load = os.getloadavg()[0]
            of.append(measure[name]() | {"load_average": load})
    return summarise(case, rows, runs, gate)


def measurement_of(system: str, place: Workplace) -> Callable[[], Run]:
    """Return the function that runs a system once. Raises NotInstalled."""
    if system not in COMMANDS:
        return lambda: measure_here(system, "train", place)
    if place.source is None:
        raise NotInstalled("it reads text: name the folder of the files with --data DIR")
    conversations = real_conversations(place.case, place.source)
    write_conversations(conversations, place.folder / "data")
    out = place.folder / "external"
    command = COMMANDS[system](
        place.case, place.programs, place.tokenizer, place.folder / "data", out
    )
    build_model(place.case.model).save_pretrained(place.tokenizer)
    return lambda: run_external(command, out, place.environment)


def measure_here(system: str, task: str, place: Workplace) -> Run:
    """Run bench/measure.py in a fresh process. Raises RuntimeError with its last lines."""
    job = {
        "system": system,
        "task": task,
        "case": asdict(place.case),
        "rows": str(place.folder / "rows.json"),
        "tokenizer": str(place.tokenizer),
        "num_threads": place.num_threads,
    }
    job_file, result_file, log = (
        place.folder / name for name in ("job.json", "result.json", "log.txt")
    )
    job_file.write_text(json.dumps(job), encoding="utf-8")
    if code := start_measurement(job_file, result_file, log, place.environment):
        raise RuntimeError(f"{system} ({task}) left with code {code}:\n{tail(log)}")
    return json.loads(result_file.read_text(encoding="utf-8"))


def start_measurement(
    job_file: Path, result_file: Path, log: Path, environment: dict[str, str]
) -> int:
    """Run one job to its end; the parent only waits. Return the exit code."""
    command = [sys.executable, "-m", "bench.measure", str(job_file), str(result_file)]
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run(command, cwd=REPO, env=environment, stdout=stream, stderr=stream)
    return done.returncode


def describe_machine(num_threads: int) -> dict[str, Any]:
    """Return what a figure depends on besides the code, and which code it was."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(REPO), *words]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    changed = bool(git("status", "--porcelain", "--untracked-files=no"))
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": (git("rev-parse", "HEAD") or "unknown") + ("+changes" if changed else ""),
        "threads": num_threads,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def keep(entry: dict[str, Any], out: Path) -> None:
    """Put the entry into the results file, in the place of an older one of the same case."""
    entries = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else []
    entries = [old for old in entries if old["case"] != entry["case"]] + [entry]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def one_line(entry: dict[str, Any]) -> str:
    """Return what the terminal shows of an entry."""
    if entry["status"] != "ok":
        return f"{entry['case']}: {entry['status']}: {entry['reason']}"
    rates = entry["rates"][entry["system"]]
    gate = entry["gate_max_abs_diff"]
    return (
        f"{entry['case']}: {entry['ratio_median']:.2f}x "
        f"({entry['ratio_min']:.2f} to {entry['ratio_max']:.2f}) of {entry['baseline']}, "
        f"memory {entry['memory_ratio']:.2f}x, {rates['real_tokens_per_second']:,.0f} tokens/s, "
        f"{100 * rates['utilisation']:.0f} % useful, "
        + (f"not the same work: {entry['reason']}" if gate is None else f"gate {gate:.0e}")
    )


if __name__ == "__main__":
    main()
