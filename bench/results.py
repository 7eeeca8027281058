"""From raw measurements to an entry of the results file: the gate, the ratio and the rates."""

from collections.abc import Iterable
from dataclasses import asdict
from math import inf, isnan
from statistics import median
from typing import Any

from bench.cases import Case
from bench.external import COMMANDS, NOT_THE_SAME
from bench.flops import Row, count_work, useful_flops
from bench.models import build_config
from bench.systems import LORA_RANK, OTHER_BATCHES

MAX_LOG_PROB_DIFFERENCE = 1e-4  # nats, summed over an example, before the first step, float32
MAX_RELATIVE_LOSS_DIFFERENCE = 1e-4  # of every step
Run = dict[str, Any]


def is_comparable(case: Case) -> bool:
    """True if both systems see the same rows in the same batches, so that losses must agree."""
    return not {case.system, case.baseline} & {*COMMANDS, *OTHER_BATCHES}


def compare_log_probs(one: dict[str, float], other: dict[str, float]) -> float:
    """Return the largest difference of any example; infinity if the examples are not the same."""
    if one.keys() != other.keys():
        return inf
    return largest(abs(value - other[name]) for name, value in one.items())


def compare_losses(one: list[float], other: list[float]) -> float:
    """Return the largest relative difference of any step; infinity if the counts differ."""
    if len(one) != len(other):
        return inf
    return largest(abs(a - b) / max(abs(b), 1e-12) for a, b in zip(one, other, strict=True))


def largest(differences: Iterable[float]) -> float:
    """Return the largest; infinity if one is not a number, which no comparison would notice."""
    return max(inf if isnan(difference) else difference for difference in differences)


def seconds_of(run: Run, system: str) -> float:
    """Return what counts: training, and building where that computes the reference."""
    return run["train_seconds"] + (run["build_seconds"] if system.endswith("_precompute") else 0.0)


def summarise(
    case: Case, rows: list[Row], runs: dict[str, list[Run]], gate: float | None
) -> dict[str, Any]:
    """Return a case's entry.

    runs: for each of the two systems its repetitions, in the order run.
    gate: the largest difference of log-probabilities; None where there is no gate.
    A case whose losses differ too much comes out as failed, without a ratio.
    """
    ours, theirs = runs[case.system], runs[case.baseline]
    entry = head_of(case) | {"gate_max_abs_diff": gate, "gate_loss_max_rel_diff": None}
    entry["rates"] = {name: rates_of(case, name, rows, of) for name, of in runs.items()}
    entry["runs"] = runs
    if is_comparable(case):
        differences = [
            compare_losses(a["losses"], b["losses"]) for a, b in zip(ours, theirs, strict=True)
        ]
        entry["gate_loss_max_rel_diff"] = max(differences)
        if max(differences) > MAX_RELATIVE_LOSS_DIFFERENCE:
            reason = f"losses differ by {max(differences):.1e} (relative)"
            return entry | {"status": "gate failed", "reason": reason}
    ratios = [
        seconds_of(b, case.baseline) / seconds_of(a, case.system)
        for a, b in zip(ours, theirs, strict=True)
    ]
    memory = [r["memory_peak_mb"] for r in ours], [r["memory_peak_mb"] for r in theirs]
    return entry | {
        "status": "ok",
        "reason": NOT_THE_SAME if gate is None else "",
        "ratio_median": median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "memory_ratio": median(memory[0]) / median(memory[1]),
    }


def head_of(case: Case) -> dict[str, Any]:
    """Return the keys that every entry has, with no figures yet."""
    figures = ("ratio_median", "ratio_min", "ratio_max", "memory_ratio", "gate_max_abs_diff")
    return {
        "case": case.name,
        "system": case.system,
        "baseline": case.baseline,
        **dict.fromkeys(figures),
        "work": asdict(case),
    }


def rates_of(case: Case, system: str, rows: list[Row], runs: list[Run]) -> dict[str, Any]:
    """Return the absolute figures of a system, each the median of its repetitions.

    real_tokens_per_second counts a pair's prompt twice, as its two rows do.
    utilisation: useful operations a second over the matrix products' rate in the same process.
    """
    work = count_work(rows)
    seconds = median(seconds_of(run, system) for run in runs)
    rates: dict[str, Any] = {
        "seconds": seconds,
        "real_tokens_per_second": case.num_epochs * work.num_row_tokens / seconds,
        "trained_tokens_per_second": case.num_epochs * work.num_labelled / seconds,
        "rows_per_second": case.num_epochs * len(rows) / seconds,
        "memory_peak_mb": median(run["memory_peak_mb"] for run in runs),
    }
    if "gemm_gflops" not in runs[0]:  # a program of its own
        return rates
    flops = useful_flops(
        build_config(case.model), work, LORA_RANK, case.num_epochs, reference_passes(case, system)
    )
    rates["memory_before_mb"] = median(run["memory_before_mb"] for run in runs)
    rates["gemm_gflops"] = median(run["gemm_gflops"] for run in runs)
    rates["useful_gflops"] = flops / seconds / 1e9
    rates["utilisation"] = median(
        flops / seconds_of(run, system) / run["gemm_gflops"] / 1e9 for run in runs
    )
    return rates


def reference_passes(case: Case, system: str) -> int:
    """Return how often a system's reference must read the data."""
    if case.kind != "dpo":
        return 0
    return 1 if system.endswith("_precompute") else case.num_epochs
