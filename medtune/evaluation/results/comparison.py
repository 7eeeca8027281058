"""Two evaluations side by side, item by item."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medtune.common.errors import CheckpointError
from medtune.evaluation.results.folder import read_results, read_samples, samples_of
from medtune.evaluation.results.statistics import compare_paired
from medtune.evaluation.tasks.table import BENCHMARKS

Comparison = dict[str, Any]
# Options that change what a model answers though the questions stay the same.
LENGTHS = ("max_length", "stride")
GENERATION = (
    "max_new_tokens", "do_sample", "temperature", "top_p", "repetition_penalty", "seed",
    "judge_model",
)  # fmt: skip


def compare(before: str | Path, after: str | Path) -> list[Comparison]:
    """Return how each metric of the benchmarks of both differs, on the items that both have.

    Raises CheckpointError if one is unfinished or damaged, or if the same item has another prompt
    in the other: the numbers of two ways of asking do not compare.
    """
    first, second = read_results(before), read_results(after)
    common = [name for name in first["tasks"] if name in second["tasks"]]
    check_asked_alike(common, first["options"], second["options"], f"{before} and {after}")
    return [row for task in common for row in compare_task(task, Path(before), Path(after))]


def check_asked_alike(
    tasks: Sequence[str], before: Mapping[str, Any], after: Mapping[str, Any], where: str
) -> None:
    """Raise CheckpointError if an option that changes answers differs between two evaluations."""
    generates = any(BENCHMARKS[task].generates for task in tasks)
    names = [*LENGTHS, *(GENERATION if generates else ())]
    if differing := [name for name in names if before.get(name) != after.get(name)]:
        raise CheckpointError(
            f"{where}: expected models that were asked alike, found differences in "
            f"{', '.join(f'--{name}' for name in differing)}; measure both with the same options."
        )


def compare_task(task: str, before: Path, after: Path) -> list[Comparison]:
    """Return how each metric of one benchmark differs."""
    first, second = (
        {sample["id"]: sample for sample in read_samples(samples_of(folder, task))}
        for folder in (before, after)
    )
    common = [name for name in first if name in second]
    if not common:
        raise CheckpointError(
            f"{after}: expected items of {task} that {before} has too, found none in common; "
            "measure both on the same data."
        )
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
    """Return the guarded metrics of these benchmarks that got worse, the leading ones of each."""
    guarded = []
    for task in tasks:
        own = [row for row in rows if row["task"] == task]
        guarded += own[: BENCHMARKS[task].num_guarded]
    return [row for row in guarded if is_worse(row)]
