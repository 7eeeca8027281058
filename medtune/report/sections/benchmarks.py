"""Every metric of every task for each model, with intervals and the change of each step."""

import math

from medtune.report.blocks import Block, Cell, Note, Section, Table, text_cell
from medtune.report.chain import Chain
from medtune.report.comparing import Change
from medtune.report.drawing import Interval, draw_intervals
from medtune.report.evaluations import Evaluation, Measure
from medtune.report.texts import (
    DIGITS,
    NOTHING,
    Text,
    Words,
    count,
    difference,
    join,
    label,
    number,
    quantity,
    say,
)

REPLIES = "replies"
BETTER, WORSE = "\N{BLACK UP-POINTING TRIANGLE}", "\N{BLACK DOWN-POINTING TRIANGLE}"
ARROWS = {True: f"{BETTER} ", False: f"{WORSE} ", None: ""}
NEEDS_NO_NAME = {"fraction", "perplexity", "bits"}  # units that the values or the names say
MAX_GROUPS = 120
Measures = list[Measure | None]  # one for each evaluation, in their order


def build_benchmarks(chain: Chain) -> Section:
    """Return the table of all tasks but the replies, and one of groups for each task."""
    title = say("section.benchmarks")
    if not chain.evaluations:
        return Section("benchmarks", title, [Note(say("benchmark.none"))])
    names = [name for name in find_tasks(chain.evaluations) if name != REPLIES]
    blocks: list[Block] = [
        Note(say("benchmark.legend", better=BETTER, worse=WORSE)),
        table_of_tasks(chain, names, say("benchmark.caption")),
    ]
    unreadable = table_of_unread(chain.evaluations)
    blocks += [unreadable] if unreadable.rows else []
    blocks += [table for name in names for table in tables_of_groups(chain.evaluations, name)]
    return Section("benchmarks", title, blocks)


def find_tasks(evaluations: list[Evaluation]) -> list[str]:
    """Return the names of all tasks that any model was measured on, in the order of the first."""
    return list(dict.fromkeys(name for one in evaluations for name in one.tasks))


def table_of_tasks(chain: Chain, tasks: list[str], caption: Words) -> Table:
    """Return a row for each metric of these tasks, under a row that names the task."""
    columns = [say("benchmark.metric"), *(one.title for one in chain.evaluations)]
    rows = []
    for task in tasks:
        measures: dict[str, None] = {}
        for one in chain.evaluations:
            measures |= dict.fromkeys(one.tasks[task].metrics if task in one.tasks else ())
        rows.append([text_cell(label("task", task))])
        rows += [row_of(chain, task, metric, label("metric", metric)) for metric in measures]
    return Table(caption, [*columns, say("benchmark.interval")], rows)


def row_of(chain: Chain, task: str, metric: str, name: Words) -> list[Cell]:
    """Return the row of one metric under a name."""
    evaluations = chain.evaluations
    found: Measures = [
        one.tasks[task].metrics.get(metric) if task in one.tasks else None for one in evaluations
    ]
    first = next(measure for measure in found if measure is not None)
    about = [] if first.unit in NEEDS_NO_NAME else [label("unit", first.unit)]
    about.append(say("benchmark.items", num=count(first.num_items)))
    if first.chance is not None:
        about.append(say("benchmark.chance", value=quantity(first.chance, first.unit)))
    about += [say("benchmark.lower_is_better")] * (first.higher_is_better is False)
    changes = {step.after.name: step.changes.get((task, metric)) for step in chain.steps}
    cells = [
        cell_of(measure, changes.get(one.name))
        for one, measure in zip(evaluations, found, strict=True)
    ]
    heading = Cell(name, (join(about, " · "),), is_number=False)
    return [heading, *cells, cell_of_intervals(evaluations, found)]


def cell_of(measure: Measure | None, change: Change | None) -> Cell:
    """Return a value, its interval, and how it differs from the model before."""
    if measure is None:
        return Cell(NOTHING, tone="faint")
    below: list[Words] = []
    if measure.low is not None and measure.high is not None:
        below.append(interval_of(measure.low, measure.high, measure.unit))
    if change is None:
        return Cell(quantity(measure.value, measure.unit), tuple(below))
    below.append(describe_change(change, measure.unit))
    moved = {True: "better", False: "worse", None: ""}[change.is_better]
    tone = moved if change.is_significant else ""
    return Cell(quantity(measure.value, measure.unit), tuple(below), tone=tone)


def interval_of(low: float, high: float, unit: str) -> str:
    """Return an interval in a unit. Example: [46.0, 56.0]"""
    if unit == "fraction":
        low, high = 100 * low, 100 * high
        return f"[{low:.1f}, {high:.1f}]"
    return f"[{number(low, DIGITS)}, {number(high, DIGITS)}]"


def describe_change(change: Change, unit: str) -> Text:
    """Return a difference with its interval; an arrow says better or worse, a star surely so."""
    ends = [difference(end, unit) for end in (change.low, change.high) if end is not None]
    interval = f" [{', '.join(ends)}]" if ends else ""
    star = " *" if change.is_significant else ""
    return join([f"{ARROWS[change.is_better]}{difference(change.delta, unit)}{interval}{star}"])


def cell_of_intervals(evaluations: list[Evaluation], found: Measures) -> Cell:
    """Return the drawing of the intervals of all models."""
    intervals = [
        Interval(one.title, measure.value, measure.low, measure.high)
        for one, measure in zip(evaluations, found, strict=True)
        if measure is not None
        and measure.value is not None
        and measure.low is not None
        and measure.high is not None
        and all(map(math.isfinite, (measure.value, measure.low, measure.high)))
    ]
    chance = next((measure.chance for measure in found if measure is not None), None)
    return Cell(svg=draw_intervals(intervals, chance)) if intervals else Cell(NOTHING)


def table_of_unread(evaluations: list[Evaluation]) -> Table:
    """Return how many outputs were malformed or could not be read, where any was."""
    rows = []
    for task in find_tasks(evaluations):
        found = [one.tasks.get(task) for one in evaluations]
        counts = [(one.malformed, one.unread) if one else None for one in found]
        if any(pair and any(pair) for pair in counts):
            cells = [Cell(" / ".join(map(count, pair)) if pair else NOTHING) for pair in counts]
            rows.append([text_cell(label("task", task)), *cells])
    columns = [say("benchmark.task"), *(one.title for one in evaluations)]
    return Table(say("benchmark.unread"), columns, rows)


def tables_of_groups(evaluations: list[Evaluation], task: str) -> list[Table]:
    """Return a folded table for each way in which a task groups its items."""
    of_task = [one.tasks.get(task) for one in evaluations]
    kinds = dict.fromkeys(kind for one in of_task if one for kind in one.groups)
    tables = []
    for kind in kinds:
        groups = [one.groups.get(kind, {}) if one else {} for one in of_task]
        keys = dict.fromkeys(
            (group, metric) for one in groups for group in one for metric in one[group]
        )
        rows = [row_of_group(groups, group, metric) for group, metric in list(keys)[:MAX_GROUPS]]
        caption = say("benchmark.groups", task=label("task", task), kind=kind, num=len(keys))
        columns = [say("benchmark.group"), *(one.title for one in evaluations)]
        tables.append(Table(caption, columns, rows, is_folded=True))
    return tables


def row_of_group(
    groups: list[dict[str, dict[str, Measure]]], group: str, metric: str
) -> list[Cell]:
    """Return a metric of one group for each model."""
    found = [one.get(group, {}).get(metric) for one in groups]
    first = next(measure for measure in found if measure is not None)
    about = [label("metric", metric), say("benchmark.items", num=count(first.num_items))]
    cells = [cell_of(measure, None) for measure in found]
    return [Cell(group, (join(about, " · "),), is_number=False), *cells]
