"""What the chain achieved, in words; which models are shown; what is missing."""

from medtune.report.blocks import Block, Bullets, Cell, Note, Section, Table, text_cell
from medtune.report.chain import Chain
from medtune.report.comparing import Place, Step
from medtune.report.evaluations import Evaluation
from medtune.report.texts import NOTHING, Text, Words, count, duration, join, label, quantity, say


def build_verdict(chain: Chain) -> Section:
    """Return the verdict, the models and what is missing."""
    blocks: list[Block] = []
    if chain.overall is not None:
        blocks.append(Note(describe_step(chain.overall), tone="verdict"))
    if chain.steps:
        caption = say("verdict.steps")
        blocks.append(Bullets(caption, [describe_step(step) for step in chain.steps]))
    else:
        blocks.append(Note(say("verdict.none"), tone="verdict"))
    if chain.evaluations:
        rows = [row_of(one) for one in chain.evaluations]
        columns: list[Words] = [
            say(f"models.{name}") for name in ("model", "path", "parameters", "seconds", "items")
        ]
        blocks.append(Table(say("models.caption"), columns, rows))
    if chain.missing:
        blocks.append(Bullets(say("missing.caption"), list(chain.missing)))
    return Section("verdict", say("section.verdict"), blocks)


def row_of(evaluation: Evaluation) -> list[Cell]:
    """Return the row of a model."""
    path = evaluation.model_path or NOTHING
    results = evaluation.results
    return [
        text_cell(evaluation.title),
        text_cell(f"{path} + {evaluation.adapter}" if evaluation.adapter else path),
        Cell(count(results.number("model", "num_parameters"))),
        Cell(duration(results.number("seconds"))),
        Cell(count(sum(task.num_items or 0 for task in evaluation.tasks.values()))),
    ]


def describe_step(step: Step) -> Text:
    """Return which leading metrics a step moved beyond chance, and how many others it did."""
    names = {"before": step.before.title, "after": step.after.title}
    if not step.changes:
        return say("verdict.not_compared", **names)
    rose, fell = (step.moved(is_better, is_leading=True) for is_better in (True, False))
    rest = len(step.judged(is_leading=True)) - len(rose) - len(fell)
    parts = [
        say("verdict.from_to", **names),
        say("verdict.rose", names=name_places(step, rose)) if rose else say("verdict.rose_none"),
        say("verdict.fell", names=name_places(step, fell)) if fell else say("verdict.fell_none"),
    ]
    parts += [say("verdict.rest", num=rest)] if rest else []
    others = len(step.judged(is_leading=False))
    counts = {
        key: len(step.moved(is_better, is_leading=False))
        for key, is_better in (("rose", True), ("fell", False))
    }
    parts += [say("verdict.others", num=others, **counts)] if others else []
    return join(parts, separator="")


def name_places(step: Step, places: list[Place]) -> Text:
    """Return what moved and how far."""
    named = [
        say(
            "verdict.place",
            task=label("task", task),
            metric=label("metric", metric),
            before=value_of(step.before, (task, metric)),
            after=value_of(step.after, (task, metric)),
        )
        for task, metric in places
    ]
    return join(named, say("list.comma"))


def value_of(evaluation: Evaluation, place: Place) -> str:
    """Return a value in its unit."""
    measure = evaluation.tasks[place[0]].metrics[place[1]]
    return quantity(measure.value, measure.unit)
