"""What changed from one evaluation to the next, and whether chance explains it."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from medtune.report.evaluations import Evaluation

Place = tuple[str, str]  # task, metric


@dataclass(frozen=True)
class Change:
    """A metric of two models on the same items. low, high: 95 % interval of the difference.

    is_better: None if nothing moved, or if neither side is the better one.
    """

    delta: float
    low: float | None
    high: float | None
    p_value: float | None
    is_better: bool | None

    @property
    def is_significant(self) -> bool:
        """True if the interval excludes zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Step:
    """Two evaluations and what changed between them."""

    before: Evaluation
    after: Evaluation
    changes: dict[Place, Change]

    def places(self, is_better: bool) -> list[Place]:
        """Return what became better, or worse, beyond what chance explains."""
        return [
            place
            for place, change in self.changes.items()
            if change.is_better is is_better and change.is_significant
        ]


def compare_steps(evaluations: list[Evaluation]) -> tuple[list[Step], Step | None]:
    """Return what changed from each evaluation to the next, and from the first to the last.

    The second is None where the first already says it.
    """
    steps = [compare_pair(before, after) for before, after in pairwise(evaluations)]
    overall = compare_pair(evaluations[0], evaluations[-1]) if len(steps) > 1 else None
    return steps, overall


def compare_pair(before: Evaluation, after: Evaluation) -> Step:
    """Return what changed between two evaluations, by task and metric; nothing of unfinished ones.

    Raises CheckpointError if they were not asked the same.
    """
    changes: dict[Place, Change] = {}
    if not (before.is_finished and after.is_finished):
        return Step(before, after, changes)
    for row in compare_folders(before.folder, after.folder):
        place = (row["task"], row["metric"])
        task = after.tasks.get(row["task"])
        measure = task.metrics.get(row["metric"]) if task else None
        is_shown = measure is not None and place[1] in before.tasks[place[0]].metrics
        if measure is None or not is_shown or row["delta"] is None:
            continue  # compared, but no number of the table stands for it
        delta, is_neutral = row["delta"], measure.higher_is_better is None
        is_better = None if not delta or is_neutral else (delta > 0) is measure.higher_is_better
        changes[place] = Change(delta, row["low"], row["high"], row["p_value"], is_better)
    return Step(before, after, changes)


def compare_folders(before: Path, after: Path) -> list[dict[str, Any]]:
    """Return the paired comparison of two folders, a row for each metric that both have."""
    # Asked for here: it brings scipy and the scorers, which a page without evaluations spares.
    from medtune.evaluation.results.comparison import compare

    return compare(before, after)
