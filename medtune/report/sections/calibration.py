"""How far the probability that a model gives its choice is from how often the choice is right."""

from medtune.report.blocks import Block, Cell, Figure, Note, Section
from medtune.report.chain import Chain
from medtune.report.drawing import Point, Series, draw_curves
from medtune.report.evaluations import Evaluation
from medtune.report.sections.benchmarks import find_tasks, row_of, table_of_scores
from medtune.report.texts import join, label, say

METRIC = "ece"
CONFIDENCE, HITS = "confidence_", "hits_"  # columns of an item's counts, by bin of confidence


def build_calibration(chain: Chain) -> Section:
    """Return the calibration error of each task that has one, and the curves behind it."""
    title = say("section.calibration")
    tasks = [task for task in find_tasks(chain.evaluations) if is_calibrated(chain, task)]
    if not tasks:
        return Section("calibration", title, [Note(say("calibration.none"))])
    rows: list[list[Cell]] = [row_of(chain, task, METRIC, label("task", task)) for task in tasks]
    table = table_of_scores(chain, say("calibration.caption"), rows)
    blocks: list[Block] = [Note(say("calibration.note")), table]
    for task in tasks:
        drawn = [(one, find_bins(one, task)) for one in chain.evaluations]
        blocks += [figure_of(task, one, points) for one, points in drawn if points]
    return Section("calibration", title, blocks)


def is_calibrated(chain: Chain, task: str) -> bool:
    """True if the calibration error of a task was measured for any model."""
    return any(task in one.tasks and METRIC in one.tasks[task].metrics for one in chain.evaluations)


def find_bins(evaluation: Evaluation, task: str) -> list[Point]:
    """Return (mean confidence, share of right answers) of each bin that has items."""
    sums: dict[str, list[float]] = {}
    for sample in evaluation.samples(task):
        for name, confidence in sample.counts.items():
            if name.startswith(CONFIDENCE):
                place = name.removeprefix(CONFIDENCE)
                held = sums.setdefault(place, [0.0, 0.0, 0.0])
                for position, value in enumerate((confidence, sample.counts[HITS + place], 1)):
                    held[position] += value
    return sorted((confidence / num, hits / num) for confidence, hits, num in sums.values())


def figure_of(task: str, evaluation: Evaluation, points: list[Point]) -> Figure:
    """Return the bins of a model beside the line on which a calibrated one lies."""
    caption = join([label("task", task), evaluation.title], ": ")
    series = [
        Series(say("calibration.bins"), points, has_marks=True),
        Series(say("calibration.ideal"), [(0.0, 0.0), (1.0, 1.0)]),
    ]
    return Figure(caption, draw_curves(caption, say("calibration.confidence"), series))
