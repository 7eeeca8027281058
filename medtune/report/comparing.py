"""What changed from one evaluation to the next, and whether chance explains it."""

from dataclasses import dataclass
from itertools import pairwise

from medtune.evaluation.results.comparison import compare, is_significant
from medtune.report.evaluations import Evaluation

Place = tuple[str, str]  # task, metric


@dataclass(frozen=True)
class Change:
    """A metric of two models on the same items. low, high: 95 % interval of the difference.

    is_better: None if nothing moved, or if neither side is the better one.
    is_significant: the interval excludes zero.
    """

    delta: float
    low: float | None
    high: float | None
    is_better: bool | None
    is_significant: bool


@dataclass(frozen=True)
class Step:
    """Two evaluations and what changed between them."""

    before: Evaluation
    after: Evaluation
    changes: dict[Place, Change]

    def judged(self, is_leading: bool) -> list[Place]:
        """Return the leading metrics, or all others, of which one side is the better one."""
        return [
            (task, metric)
            for task, metric in self.changes
            if (metric == self.after.tasks[task].leading) is is_leading
            and self.after.tasks[task].metrics[metric].higher_is_better is not None
        ]

    def moved(self, is_better: bool, is_leading: bool) -> list[Place]:
        """Return which of them became better, or worse, beyond what chance explains."""
        return [
            place
            for place in self.judged(is_leading)
            if self.changes[place].is_significant and self.changes[place].is_better is is_better
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
    for row in compare(before.folder, after.folder):
        place = (row["task"], row["metric"])
        task = after.tasks.get(row["task"])
        measure = task.metrics.get(row["metric"]) if task else None
        is_shown = measure is not None and place[1] in before.tasks[place[0]].metrics
        if measure is None or not is_shown or row["delta"] is None:
            continue  # compared, but no number of the table stands for it
        delta, is_neutral = row["delta"], measure.higher_is_better is None
        is_better = None if not delta or is_neutral else (delta > 0) is measure.higher_is_better
        changes[place] = Change(delta, row["low"], row["high"], is_better, is_significant(row))
    return Step(before, after, changes)
