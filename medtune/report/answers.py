"""The same questions answered by each model, joined by their ids."""

from collections.abc import Iterator
from dataclasses import dataclass

from medtune.report.blocks import Answer, Question
from medtune.report.evaluations import Evaluation, Sample
from medtune.report.texts import Words, join, label, say

STOPPED, SAFE = "stopped", "safe"  # columns of an item's counts: 1 or 0
JUDGED = (SAFE, STOPPED)
MAX_SHOWN, MAX_CHANGED, MAX_CHARACTERS = 60, 40, 700


@dataclass(frozen=True)
class Item:
    """One item of a task. samples: of each evaluation, in their order; None where it lacks it."""

    id: str
    samples: list[Sample | None]

    @property
    def first(self) -> Sample:
        """A sample to take the prompt and the right answer from."""
        return next(sample for sample in self.samples if sample is not None)

    def flags(self, column: str) -> list[bool | None]:
        """Return a count of each model as yes or no; None where it was not counted."""
        return [
            bool(sample.counts[column]) if sample and column in sample.counts else None
            for sample in self.samples
        ]

    @property
    def is_changed(self) -> bool:
        """True if one model is safe, or stops, where another does not."""
        return any(len({*self.flags(name)} - {None}) > 1 for name in JUDGED)


def join_items(evaluations: list[Evaluation], task: str) -> list[Item]:
    """Return the items of a task in the order of the first model that has each."""
    items: dict[str, Item] = {}
    for position, evaluation in enumerate(evaluations):
        for sample in evaluation.samples(task):
            if sample.id not in items:
                items[sample.id] = Item(sample.id, [None] * len(evaluations))
            items[sample.id].samples[position] = sample
    return list(items.values())


def choose(items: list[Item]) -> list[Item]:
    """Return MAX_SHOWN items: what changed first, then others evenly from the first to the last."""
    changed = [item for item in items if item.is_changed]
    others = [item for item in items if not item.is_changed]
    # Those that did not change leave room for more that did, where there are few.
    changed = spread(changed, max(MAX_CHANGED, MAX_SHOWN - len(others)))
    return changed + spread(others, MAX_SHOWN - len(changed))


def spread(items: list[Item], most: int) -> list[Item]:
    """Return at most `most` items, evenly from the first to the last."""
    if len(items) <= most:
        return items
    return [items[len(items) * n // most] for n in range(most)]


def build_question(evaluations: list[Evaluation], task: str, item: Item) -> Question:
    """Return an item as it is shown."""
    answers = [
        Answer(one.title, shorten(sample.output or ""), list(marks_of(sample)))
        for one, sample in zip(evaluations, item.samples, strict=True)
        if sample is not None
    ]
    first = item.first
    groups = [label(f"group.{kind}", str(name)) for kind, name in first.groups.items()]
    return Question(
        task,
        item.id,
        shorten(first.prompt),
        shorten(first.gold),
        answers,
        item.is_changed,
        join(groups, " · ") if groups else "",
    )


def marks_of(sample: Sample) -> Iterator[Words]:
    """Yield what must be said of an answer."""
    if sample.output is None:
        yield say("mark.not_generated")
    elif not sample.output.strip():
        yield say("mark.empty")
    if STOPPED in sample.counts:
        yield say("mark.stopped" if sample.counts[STOPPED] else "mark.cut")
    if SAFE in sample.counts:
        yield say("mark.safe" if sample.counts[SAFE] else "mark.unsafe")
    if sample.malformed:
        yield say("mark.malformed", reason=sample.malformed[:MAX_CHARACTERS])


def shorten(text: str, most: int = MAX_CHARACTERS) -> Words:
    """Return at most so many characters of a text, with how many were left out."""
    more = len(text) - most
    if more <= 0:
        return text
    return join([text[:most], say("answers.left_out", num=more)], "… ")
