"""What each model scored: each task's leading metric, then every metric and every group."""

import math
from dataclasses import replace

from medtune.report.blocks import Block, Cell, Note, Section, Table, text_cell
from medtune.report.chain import Chain
from medtune.report.comparing import Change
from medtune.report.drawing import Interval, draw_intervals
from medtune.report.evaluations import Evaluation, Measure, Task
from medtune.report.texts import (
    DIGITS,
    NOTHING,
    Words,
    count,
    difference,
    join,
    label,
    number,
    quantity,
    say,
)

BETTER, WORSE = "\N{BLACK UP-POINTING TRIANGLE}", "\N{BLACK DOWN-POINTING TRIANGLE}"
ARROWS = {True: f"{BETTER} ", False: f"{WORSE} ", None: ""}
NEEDS_NO_NAME = {"fraction", "perplexity", "bits"}  # units that the values or the names say
Measures = list[Measure | None]  # one for each evaluation, in their order


def build_benchmarks(chain: Chain) -> Section:
    """Return a table of leading metrics; folded, one of all metrics and those of groups."""
    title = say("section.benchmarks")
    if not chain.evaluations:
        return Section("benchmarks", title, [Note(say("benchmark.none"))])
    tasks = find_tasks(chain.evaluations)
    blocks: list[Block] = [
        Note(say("benchmark.legend", better=BETTER, worse=WORSE)),
        table_of_leading(chain, tasks),
        table_of_metrics(chain, tasks),
    ]
    problems = table_of_problems(chain.evaluations)
    blocks += [problems] if problems.rows else []
    blocks += [table for task in tasks for table in tables_of_groups(chain.evaluations, task)]
    return Section("benchmarks", title, blocks)


def find_tasks(evaluations: list[Evaluation]) -> list[str]:
    """Return the names of all tasks that any model was measured on, in the order of the first."""
    return list(dict.fromkeys(name for one in evaluations for name in one.tasks))


def of_task(evaluations: list[Evaluation], task: str) -> list[Task | None]:
    """Return the numbers of a task of each model; None where it was not measured."""
    return [one.tasks.get(task) for one in evaluations]


def table_of_leading(chain: Chain, tasks: list[str]) -> Table:
    """Return a row for each task, of the metric that stands for it in the last that has it."""
    rows = []
    for task in tasks:
        found = reversed(of_task(chain.evaluations, task))
        metric = next((one.leading for one in found if one and one.leading), None)
        if metric is not None:
            below = (label("metric", metric),)
            rows.append(row_of(chain, task, metric, label("task", task), below))
    return table_of_scores(chain, say("benchmark.caption"), rows)


def table_of_metrics(chain: Chain, tasks: list[str]) -> Table:
    """Return a folded row for each metric of each task, under a row that names the task."""
    rows = []
    for task in tasks:
        metrics = find_metrics(chain.evaluations, task)
        rows.append([text_cell(label("task", task))])
        rows += [row_of(chain, task, metric, label("metric", metric)) for metric in metrics]
    caption = say("benchmark.all", num=len(rows) - len(tasks))
    return replace(table_of_scores(chain, caption, rows), is_folded=True)


def find_metrics(evaluations: list[Evaluation], task: str) -> list[str]:
    """Return the names of all metrics of a task, in the order of the first model."""
    found = of_task(evaluations, task)
    return list(dict.fromkeys(metric for one in found if one for metric in one.metrics))


def table_of_scores(chain: Chain, caption: Words, rows: list[list[Cell]]) -> Table:
    """Return rows of `row_of` under the names of the models."""
    titles = [one.title for one in chain.evaluations]
    return Table(caption, [say("benchmark.metric"), *titles, say("benchmark.interval")], rows)


def row_of(
    chain: Chain, task: str, metric: str, name: Words, below: tuple[Words, ...] = ()
) -> list[Cell]:
    """Return the row of one metric under a name."""
    evaluations = chain.evaluations
    found: Measures = [
        one.metrics.get(metric) if one else None for one in of_task(evaluations, task)
    ]
    first = next(measure for measure in found if measure is not None)
    about = [] if first.unit in NEEDS_NO_NAME else [label("unit", first.unit)]
    about.append(say("benchmark.items", num=count(first.num_items)))
    if first.chance is not None:
        about.append(say("benchmark.chance", value=quantity(first.chance, first.unit)))
    about += [say("benchmark.lower_is_better")] * (first.higher_is_better is False)
    changes = [None, *(step.changes.get((task, metric)) for step in chain.steps)]
    cells = [cell_of(measure, change) for measure, change in zip(found, changes, strict=True)]
    heading = Cell(name, (*below, join(about, " · ")), is_number=False)
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


def describe_change(change: Change, unit: str) -> str:
    """Return a difference with its interval; an arrow says better or worse, a star surely so."""
    ends = [difference(end, unit) for end in (change.low, change.high) if end is not None]
    interval = f" [{', '.join(ends)}]" if ends else ""
    star = " *" if change.is_significant else ""
    return f"{ARROWS[change.is_better]}{difference(change.delta, unit)}{interval}{star}"


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


def table_of_problems(evaluations: list[Evaluation]) -> Table:
    """Return how many answers could not be read and how many prompts were cut, where any was."""
    rows = []
    for task in find_tasks(evaluations):
        found = of_task(evaluations, task)
        for problem in ("malformed", "truncated"):
            counts = [getattr(one, problem) if one else None for one in found]
            if any(counts):
                below = (say(f"problem.{problem}"),)
                heading = Cell(label("task", task), below, is_number=False)
                rows.append([heading, *(Cell(count(value)) for value in counts)])
    columns = [say("benchmark.task"), *(one.title for one in evaluations)]
    return Table(say("benchmark.problems"), columns, rows)


def tables_of_groups(evaluations: list[Evaluation], task: str) -> list[Table]:
    """Return a folded table for each way in which a task groups its items."""
    found = of_task(evaluations, task)
    kinds = dict.fromkeys(kind for one in found if one for kind in one.groups)
    tables = []
    for kind in kinds:
        groups = [one.groups.get(kind, {}) if one else {} for one in found]
        keys = dict.fromkeys(
            (group, metric) for one in groups for group in one for metric in one[group]
        )
        rows = [
            row_of_group(
                [one.get(group, {}).get(metric) for one in groups],
                metric,
                label(f"group.{kind}", group),
            )
            for group, metric in keys
        ]
        names = {"task": label("task", task), "kind": label("kind", kind)}
        caption = say("benchmark.groups", num=len(rows), **names)
        columns = [say("benchmark.group"), *(one.title for one in evaluations)]
        tables.append(Table(caption, columns, rows, is_folded=True))
    return tables


def row_of_group(found: Measures, metric: str, name: Words) -> list[Cell]:
    """Return a metric of one group for each model."""
    first = next(measure for measure in found if measure is not None)
    about = [label("metric", metric), say("benchmark.items", num=count(first.num_items))]
    cells = [cell_of(measure, None) for measure in found]
    return [Cell(name, (join(about, " · "),), is_number=False), *cells]
