"""How each stage learnt: loss over the steps, and what preference optimisation moved."""

import math

from medtune.report.blocks import Block, Cell, Figure, Note, Section, Table, text_cell
from medtune.report.chain import Chain
from medtune.report.documents import Document
from medtune.report.drawing import Point, Series, draw_curves
from medtune.report.runs import Run
from medtune.report.texts import Words, count, join, number, say

METRICS_FILE = "metrics.jsonl"
LOSS, ACCURACY, MARGIN = "loss", "rewards/accuracies", "rewards/margins"
DRAWN = (LOSS, ACCURACY, MARGIN)


def build_curves(chain: Chain) -> Section:
    """Return the curves of each stage that logged any."""
    title = say("section.curves")
    rows: list[list[Cell]] = []
    figures: list[Block] = []
    for run in chain.stages:
        logged = read_curves(run)
        for name in DRAWN:
            train, held_out = logged[name], logged[f"eval_{name}"]
            if train or held_out:
                figures.append(figure(run, name, train, held_out))
                rows.append(row_of(run, name, train, held_out))
    if not rows:
        return Section("curves", title, [Note(say("curve.none"))])
    names = ("stage", "what", "steps", "train_last", "eval_first", "eval_best", "eval_last")
    columns: list[Words] = [say(f"curve.{name}") for name in names]
    return Section("curves", title, [*figures, Table(say("curve.caption"), columns, rows)])


def read_curves(run: Run) -> dict[str, list[Point]]:
    """Return (step, value) points by the trainer's name for each curve that is drawn."""
    curves: dict[str, list[Point]] = {
        f"{part}{name}": [] for part in ("", "eval_") for name in DRAWN
    }
    for line, entry in run.lines(METRICS_FILE):
        row = Document(run.folder / f"{METRICS_FILE}:{line}", entry)
        step = row.number("step")
        for name, points in curves.items():
            value = row.number(name)
            if step is not None and value is not None:
                points.append((step, value))
    return curves


def figure(run: Run, name: str, train: list[Point], held_out: list[Point]) -> Figure:
    """Return the curves of one quantity in one stage."""
    what = say(f"curve.{name}")
    series = [
        Series(say("curve.train"), train),
        Series(say("curve.held_out"), held_out, has_marks=True),
    ]
    caption = join([run.work, what], ": ")
    return Figure(caption, draw_curves(caption, say("curve.step"), [s for s in series if s.points]))


def row_of(run: Run, name: str, train: list[Point], held_out: list[Point]) -> list[Cell]:
    """Return a curve in numbers. The best validation is the lowest loss, else the highest."""
    points = train + held_out
    values = [y for _, y in held_out if math.isfinite(y)]
    best = (min if name == LOSS else max)(values) if values else None
    return [
        text_cell(run.title),
        text_cell(say(f"curve.{name}")),
        Cell(count(max(x for x, _ in points))),
        Cell(number(train[-1][1] if train else None)),
        Cell(number(held_out[0][1] if held_out else None)),
        Cell(number(best)),
        Cell(number(held_out[-1][1] if held_out else None)),
    ]
