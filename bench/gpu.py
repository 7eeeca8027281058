"""GLM-4-9B with random weights on one GPU: medtune's forward beside TRL's.

    python bench/gpu.py --out outputs/gpu.json
    python bench/gpu.py --device cpu --size tiny        # tries the program itself, in a minute

First it proves that attention over a packed stream is right on this GPU, then it measures what the
GPU can do (matrix products of the model's shapes, copies), then one case and system after another.
The JSON is written after each. It needs torch, transformers and peft; a part that needs more and
does not find it is left out by name. docs/performance.md says what the figures mean.
"""

import argparse
import gc
import json
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where bench and medtune are

from bench.flops import Row, count_work, useful_flops
from bench.gpu_cases import (
    SIZES,
    STREAM_TOKENS,
    TASKS,
    Batch,
    Place,
    Task,
    draw_steps,
    split_rows,
)
from bench.gpu_machine import check_attention, measure_rates, timed
from bench.gpu_systems import LORA_RANK, Loop, build_model, plan_memory

REPO = Path(__file__).resolve().parents[1]
GIB = 1 << 30
WARM_UP_STEPS = 2
LIBRARIES = ("torch", "transformers", "peft", "trl", "triton")
OUT_OF_MEMORY, NOT_RUN = "out of memory", "not run"


def main() -> None:
    """Check, measure the machine, then every case that the minutes allow."""
    options = parse_options()
    deadline = time.monotonic() + 60 * options.minutes
    size = SIZES[options.size]
    place = Place(options.device, size, options.steps)
    attention = check_attention(size.config, place.device, place.dtype)
    rates = measure_rates(size.config, place.device, place.dtype, STREAM_TOKENS // size.divisor)
    print(f"matrix products {rates['gemm_tflops']:.3g} TFLOP/s", flush=True)
    if reason := missing("trl.trainer.utils"):
        print(f"without TRL ({reason}): the systems it is compared with score by plain logits")
    report: dict[str, Any] = {
        "environment": describe_machine(options), "attention": attention, "rates": rates,
        "results": [],
    }  # fmt: skip
    for name in options.cases:
        task = TASKS[name]
        for system in task.systems:
            entry = {"case": name, "system": system}
            entry |= run_case(task, system, place, rates["gemm_tflops"], deadline)
            report["results"].append(entry)
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            print(one_line(entry), flush=True)


def parse_options() -> argparse.Namespace:
    """Read the command line; leave with one line where the device is not there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--size", choices=list(SIZES), default="9b")
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything (default 9)")
    parser.add_argument("--steps", type=int, default=6, help="timed steps (default 6)")
    parser.add_argument("--cases", help=f"with commas between, of {', '.join(TASKS)}")
    parser.add_argument("--out", type=Path, default=REPO / "outputs" / "gpu.json")
    options = parser.parse_args()
    options.cases = options.cases.split(",") if options.cases else list(TASKS)
    if unknown := [name for name in options.cases if name not in TASKS]:
        parser.error(f"--cases: no case {', '.join(unknown)}; there are {', '.join(TASKS)}")
    if options.steps < 1:
        parser.error(f"--steps: expected 1 or more, found {options.steps}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU; `--device cpu --size tiny` tries all else")
    if options.device == "cpu" and options.size == "9b":
        parser.error("--size 9b: too large for --device cpu; take --size tiny")
    return options


def missing(module: str) -> str | None:
    """Return why a module cannot be imported; None if it can."""
    try:
        __import__(module)
    except ImportError as error:
        return str(error)
    return None


def run_case(
    task: Task, system: str, place: Place, gemm_tflops: float, deadline: float
) -> dict[str, Any]:
    """Return what was measured, or why nothing was; whatever happens, the next case can go on."""
    left = deadline - time.monotonic()
    if left < task.seconds:
        return {"status": "skipped", "reason": f"{left:.0f} s left, {task.seconds} s needed"}
    try:
        return measure(task, system, place, gemm_tflops) | {"status": "ok", "reason": ""}
    except ImportError as error:
        return {"status": NOT_RUN, "reason": str(error)}
    except torch.OutOfMemoryError as error:
        return {"status": OUT_OF_MEMORY, "reason": str(error).split(". ")[0]}
    except Exception as error:  # a GPU is lent for minutes: what one case breaks ends that case
        reason = (str(error).splitlines() or [""])[0]
        return {"status": "error", "reason": f"{type(error).__name__}: {reason}"}
    finally:
        gc.collect()
        if place.device == "cuda":
            torch.cuda.empty_cache()


def measure(task: Task, system: str, place: Place, gemm_tflops: float) -> dict[str, Any]:
    """Return the figures of one system on one case."""
    started = time.monotonic()
    steps = draw_steps(task, place.size, WARM_UP_STEPS + place.num_steps)
    batches = [
        [Batch(rows, system, place.device) for rows in split_rows(step, task, system, place.size)]
        for step in steps
    ]
    num_tokens = max(batch.num_tokens for step in batches for batch in step)
    num_recomputed, predicted = plan_memory(task, system, num_tokens, place)
    if place.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    model, head = build_model(task, system, num_recomputed, place)
    loop = Loop(model, task, place)
    reference_seconds = 0.0
    if task.kind == "dpo" and not task.has_online_reference:
        _, reference_seconds = timed(partial(loop.add_references, batches), place.device)
    losses: list[float] = []
    seconds: list[float] = []
    for rows, step in zip(steps, batches, strict=True):
        if seconds[WARM_UP_STEPS:] and time.monotonic() - started > task.seconds:
            break
        loss, duration = timed(partial(loop.step, step, rows), place.device)
        losses.append(loss)
        seconds.append(duration)
    counted = slice(WARM_UP_STEPS, len(seconds))
    train_seconds = sum(seconds[counted])
    trained_on = [row for rows in steps[counted] for row in rows]
    return {
        "head": head,
        **speed(task, place, trained_on, train_seconds, gemm_tflops),
        "seconds_per_step": train_seconds / len(seconds[counted]),
        "seconds": seconds,
        "losses": losses,
        "reference_seconds_per_step": reference_seconds / len(steps),
        "batches_per_step": sum(map(len, batches)) / len(batches),
        "largest_batch_tokens": num_tokens,
        "num_recomputed": num_recomputed,
        "num_layers": place.size.config.num_hidden_layers,
        **memory(place.device, predicted),
    }


def speed(
    task: Task, place: Place, rows: list[Row], seconds: float, gemm_tflops: float
) -> dict[str, float]:
    """Return rates over the rows of all timed steps.

    tokens_per_second: real ones; a pair's prompt counts twice.   utilisation: the operations that
    the work cannot do without, per second, over the rate of plain matrix products.
    """
    work = count_work(rows)
    num_references = int(task.kind == "dpo" and task.has_online_reference)
    rank = None if task.trains_all else LORA_RANK
    flops = useful_flops(place.size.config, work, rank, 1, num_references)
    return {
        "tokens_per_second": work.num_row_tokens / seconds,
        "trained_tokens_per_second": work.num_labelled / seconds,
        "rows_per_second": len(rows) / seconds,
        "utilisation": flops / seconds / 1e12 / gemm_tflops,
    }


def memory(device: str, predicted: int | None) -> dict[str, float | None]:
    """Return the peak of torch's allocator beside the prediction, GiB; None where none is known."""
    peaks: tuple[int, ...] | tuple[None, None] = (None, None)
    if device == "cuda":
        peaks = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    names = ("peak_allocated_gib", "peak_reserved_gib", "predicted_gib")
    values = (*peaks, predicted)
    return {n: None if x is None else x / GIB for n, x in zip(names, values, strict=True)}


def describe_machine(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the figures depend on: device, versions, code."""

    def git(*words: str) -> str:
        try:
            command = ["git", "-C", str(REPO), *words]
            return subprocess.run(command, capture_output=True, text=True).stdout.strip()
        except FileNotFoundError:
            return ""

    changed = bool(git("status", "--porcelain", "--untracked-files=no"))
    on_gpu = options.device == "cuda"
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": (git("rev-parse", "HEAD") or "unknown") + ("+changes" if changed else ""),
        "device": torch.cuda.get_device_name() if on_gpu else platform.machine(),
        "device_memory_gib": torch.cuda.mem_get_info()[1] / GIB if on_gpu else None,
        "size": options.size,
        "minutes": options.minutes,
        "python": platform.python_version(),
        **{name: installed(name) for name in LIBRARIES},
    }


def installed(name: str) -> str | None:
    """Return a library's version, None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def one_line(entry: dict[str, Any]) -> str:
    """Return what the terminal shows of an entry."""
    name = f"{entry['case']} {entry['system']}"
    if entry["status"] != "ok":
        return f"{name}: {entry['status']}: {entry['reason']}"
    peak, predicted = (entry[key] for key in ("peak_allocated_gib", "predicted_gib"))
    return (
        f"{name}: {entry['tokens_per_second']:,.0f} tokens/s, {100 * entry['utilisation']:.0f} % "
        f"useful, peak {'unknown' if peak is None else f'{peak:.1f} GiB'}, predicted "
        f"{'unknown' if predicted is None else f'{predicted:.1f} GiB'}, "
        f"{entry['num_recomputed']} of {entry['num_layers']} layers recomputed"
    )


if __name__ == "__main__":
    main()
