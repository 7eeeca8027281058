"""Two evaluations side by side, item by item."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medtune.common.errors import CheckpointError
from medtune.evaluation.results.folder import read_results, read_samples, samples_of
from medtune.evaluation.results.statistics import compare_paired
from medtune.evaluation.tasks.table import BENCHMARKS

Comparison = dict[str, Any]


def compare(before: str | Path, after: str | Path) -> list[Comparison]:
    """Return how each metric of the benchmarks of both differs, on the items that both have.

    Raises CheckpointError if one is unfinished or damaged, or if the same item has another prompt
    in the other: the numbers of two ways of asking do not compare.
    """
    common = [
        name for name in read_results(before)["tasks"] if name in read_results(after)["tasks"]
    ]
    return [row for task in common for row in compare_task(task, Path(before), Path(after))]


def compare_task(task: str, before: Path, after: Path) -> list[Comparison]:
    """Return how each metric of one benchmark differs."""
    first, second = (
        {sample["id"]: sample for sample in read_samples(samples_of(folder, task))}
        for folder in (before, after)
    )
    common = [name for name in first if name in second]
    for name in common:
        if first[name]["prompt"] != second[name]["prompt"]:
            raise CheckpointError(
                f"{after}: expected the prompts of {before}, found another one for item {name} of "
                f"{task}; ask both with the same options (--num_fewshot, --chain_of_thought, …)."
            )
    earlier, later = ([samples[name]["counts"] for name in common] for samples in (first, second))
    metrics = BENCHMARKS[task].metrics([*earlier, *later])
    return [{"task": task, **compare_paired(earlier, later, metric)} for metric in metrics]


def is_significant(row: Mapping[str, Any]) -> bool:
    """True if the interval of the difference does not hold zero."""
    return row["low"] is not None and (row["low"] > 0 or row["high"] < 0)


def is_worse(row: Mapping[str, Any]) -> bool:
    """True if a metric got worse beyond what resampled items explain."""
    return is_significant(row) and row["higher_is_better"] is (row["delta"] < 0)


def find_regressions(rows: Sequence[Comparison], tasks: Sequence[str]) -> list[Comparison]:
    """Return the leading metric of each of these benchmarks that got worse."""
    leading: dict[str, Comparison] = {}
    for row in rows:
        leading.setdefault(row["task"], row)
    return [row for task, row in leading.items() if task in tasks and is_worse(row)]
