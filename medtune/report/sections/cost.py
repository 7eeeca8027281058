"""What the chain cost: time, speed and memory of each run and each evaluation."""

from medtune.report.blocks import Cell, Note, Section, Table, text_cell
from medtune.report.chain import Chain
from medtune.report.evaluations import Evaluation
from medtune.report.runs import Run
from medtune.report.texts import NOTHING, Words, count, duration, join, say

RESULTS_FILE = "train_results.json"
GIB = 1 << 30


def build_cost(chain: Chain) -> Section:
    """Return time, tokens, speed and peak memory of each part, and the time in all."""
    title = say("section.cost")
    rows = [row_of_run(run) for run in chain.runs]
    rows += [row_of_evaluation(one) for one in chain.evaluations]
    if not rows:
        return Section("cost", title, [Note(say("cost.none"))])
    times = [run.complete.number("seconds") for run in chain.runs]
    times += [one.results.number("seconds") for one in chain.evaluations]
    total = sum(time for time in times if time is not None)
    rows.append([text_cell(say("cost.total")), text_cell(""), Cell(duration(total)), *[Cell()] * 4])
    columns: list[Words] = [
        say(f"cost.{name}")
        for name in ("what", "path", "seconds", "steps", "tokens", "speed", "memory")
    ]
    return Section("cost", title, [Table(say("cost.caption"), columns, rows)])


def row_of_run(run: Run) -> list[Cell]:
    """Return the cost of a stage or a merge."""
    results = run.read(RESULTS_FILE)
    return [
        text_cell(run.work),
        text_cell(str(run.record.output)),
        Cell(duration(run.complete.number("seconds"))),
        Cell(count(results.number("steps"))),
        Cell(count(results.number("num_tokens"))),
        Cell(count(results.number("tokens_per_second"))),
        Cell(memory(results.number("peak_memory_bytes"))),
    ]


def row_of_evaluation(one: Evaluation) -> list[Cell]:
    """Return the cost of an evaluation."""
    results = one.results
    return [
        text_cell(join([say("cost.evaluation"), one.title], ": ")),
        text_cell(str(one.folder)),
        Cell(duration(results.number("seconds"))),
        Cell(NOTHING, tone="faint"),
        Cell(NOTHING, tone="faint"),
        Cell(count(results.number("tokens_per_second") or None)),
        Cell(memory(results.number("peak_memory_bytes"))),
    ]


def memory(num_bytes: float | None) -> str:
    """Return gibibytes; a dash where nobody measured, which some write as 0."""
    return f"{num_bytes / GIB:,.2f} GiB" if num_bytes else NOTHING
