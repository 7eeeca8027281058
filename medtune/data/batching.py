"""Many conversations rendered at once, to the same ids and labels as one by one.

The template runs once for each conversation; where the replies stand in it follows from what it
makes of the roles. All texts of a batch are then encoded together. A conversation that this cannot
settle (white space around a content, a template that writes prefixes in another way) is rendered by
ChatRenderer alone, which decides.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple

from medtune.data.records import Conversation, Message, PreferencePair, RecordT, Role
from medtune.data.rendering import ChatRenderer, PairIds, Rendered
from medtune.data.templates import Place, Skeleton, find_place

BATCH_RECORDS = 128  # more of them fit no processor cache, and take longer
BATCH_CHARACTERS = 1 << 20
Located = tuple[list[int], list[tuple[int, int]]]  # the ids of a conversation, spans of replies


@dataclass(frozen=True)
class Batch(Generic[RecordT]):
    """Some records, and the place of each among all that were read."""

    places: list[int]
    records: list[RecordT]


class Plan(NamedTuple):
    """A skeleton and, for each reply, where it begins and ends."""

    skeleton: Skeleton
    replies: list[tuple[Place, Place]]


class Job(NamedTuple):
    """A conversation whose texts are to be encoded: each run and each tail by its number."""

    plan: Plan
    runs: list[int]
    tails: dict[Place, int]


class BatchRenderer:
    """Renders batches as a ChatRenderer renders single records."""

    def __init__(self, renderer: ChatRenderer) -> None:
        """Use this renderer's template and encoder."""
        self.renderer = renderer
        self._plans: dict[tuple[Role, ...], tuple[Skeleton, Plan | None]] = {}

    def conversations(
        self, batches: Iterable[Batch[Conversation]]
    ) -> Iterator[tuple[Batch[Conversation], list[Rendered]]]:
        """Yield each batch with what ChatRenderer.conversation returns for its records.

        Raises DataError as that does.
        """
        for batch, located in self._locate(batches, lambda record: [record.messages]):
            pairs = zip(batch.records, located, strict=True)
            yield (
                batch,
                [
                    self.renderer.conversation(record)
                    if place is None
                    else self.renderer.supervise(*place, record.source)
                    for record, place in pairs
                ],
            )

    def pairs(
        self, batches: Iterable[Batch[PreferencePair]]
    ) -> Iterator[tuple[Batch[PreferencePair], list[PairIds]]]:
        """Yield each batch with what ChatRenderer.pair returns for its records.

        Raises DataError as that does.
        """
        for batch, located in self._locate(batches, both_answers):
            both = zip(batch.records, located[::2], located[1::2], strict=True)
            yield batch, [self._pair(*parts) for parts in both]

    def _pair(
        self, record: PreferencePair, chosen: Located | None, rejected: Located | None
    ) -> PairIds:
        if chosen is None or rejected is None:
            return self.renderer.pair(record)
        start, _ = chosen[1][-1]  # of the last reply: there the prompt ends in both
        chosen_ids, rejected_ids = (
            self.renderer.supervise(*located, record.source).input_ids
            for located in (chosen, rejected)
        )
        return chosen_ids[:start], chosen_ids[start:], rejected_ids[start:]

    def _locate(
        self,
        batches: Iterable[Batch[RecordT]],
        conversations_of: Callable[[RecordT], list[tuple[Message, ...]]],
    ) -> Iterator[tuple[Batch[RecordT], list[Located | None]]]:
        """Yield, for each batch and its conversations, ids and the spans of the replies.

        None stands for a conversation that is to be rendered alone.
        """

        def jobs_of(batch: Batch[RecordT]) -> tuple[list[str], tuple[Batch[RecordT], list]]:
            conversations = [c for record in batch.records for c in conversations_of(record)]
            numbers: dict[str, int] = {}  # each text is encoded once
            written = self.renderer.template.write_batch(conversations)
            pairs = zip(conversations, written, strict=True)
            jobs = [self._job(messages, text, numbers) for messages, text in pairs]
            return list(numbers), (batch, jobs)

        for ids, (batch, jobs) in self.renderer.encoder.stream(map(jobs_of, batches)):
            yield batch, [None if job is None else assemble(job, ids) for job in jobs]

    def _job(
        self, messages: Sequence[Message], written: str | None, numbers: dict[str, int]
    ) -> Job | None:
        plan = self._plan(tuple([message.role for message in messages]))
        contents = [message.content for message in messages]
        if plan is None or plan.skeleton.text(contents) != written:
            return None
        if any(content != content.strip() for content in contents):
            return None  # a template may strip it in one place and not in another
        runs = [numbers.setdefault(run.text(contents), len(numbers)) for run in plan.skeleton.runs]
        tails = {
            place: numbers.setdefault(place.tail.text(contents), len(numbers))
            for reply in plan.replies
            for place in reply
            if place.tail is not None
        }
        return Job(plan, runs, tails)

    def _plan(self, roles: tuple[Role, ...]) -> Plan | None:
        """Return the plan for these roles; None if the template's prefixes do not show one."""
        skeleton = self.renderer.template.skeleton(roles, False)
        known = self._plans.get(roles)
        if known is None or known[0] is not skeleton:
            known = self._plans[roles] = (skeleton, self._new_plan(roles, skeleton))
        return known[1]

    def _new_plan(self, roles: tuple[Role, ...], whole: Skeleton) -> Plan | None:
        template = self.renderer.template
        replies = []
        for number, role in enumerate(roles):
            if role != "assistant":
                continue
            start = find_place(whole, template.skeleton(roles[:number], True))
            end = find_place(whole, template.skeleton(roles[: number + 1], False))
            if start is None or end is None:
                return None
            replies.append((start, end))
        return Plan(whole, replies)


def assemble(job: Job, ids: Sequence[list[int]]) -> Located | None:
    """Return the ids of a conversation and the spans of its replies.

    None if the tokens of a prefix are not those of the whole, because one reaches across its end.
    """
    input_ids: list[int] = []
    offsets = []
    for run, number in zip(job.plan.skeleton.runs, job.runs, strict=True):
        offsets.append(len(input_ids))
        input_ids += ids[number]
        if run.control is not None:
            input_ids.append(run.control)
    lengths = {}
    for place, number in job.tails.items():
        tail = ids[number]
        if ids[job.runs[place.num_runs]][: len(tail)] != tail:
            return None
        lengths[place] = len(tail)
    spans = [
        (
            offsets[start.num_runs] + lengths.get(start, 0),
            offsets[end.num_runs] + lengths.get(end, 0),
        )
        for start, end in job.plan.replies
    ]
    return input_ids, spans


def both_answers(record: PreferencePair) -> list[tuple[Message, ...]]:
    """Return the pair as two conversations."""
    return [
        (*record.prompt, Message("assistant", answer))
        for answer in (record.chosen, record.rejected)
    ]


def batches_of(records: Iterable[tuple[int, RecordT]]) -> Iterator[Batch[RecordT]]:
    """Yield batches of up to BATCH_RECORDS records and about BATCH_CHARACTERS of text."""
    places: list[int] = []
    batch: list[RecordT] = []
    num_characters = 0
    for place, record in records:
        places.append(place)
        batch.append(record)
        num_characters += record.num_characters
        if len(batch) == BATCH_RECORDS or num_characters >= BATCH_CHARACTERS:
            yield Batch(places, batch)
            places, batch, num_characters = [], [], 0
    if batch:
        yield Batch(places, batch)
