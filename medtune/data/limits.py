"""How long a row, the prompt of its last reply and that reply may be, and what is cut to fit.

A prompt is shortened as text and rendered anew: what is learnt is then exactly what chat would
write for the shorter question, its header included. See docs/data_formats.md, "Lengths".
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from medtune.arguments import DataArguments
from medtune.common.log import logger
from medtune.data.records import Conversation, Message, PreferencePair
from medtune.data.rendering import (
    ChatRenderer,
    PairIds,
    Rendered,
    cut_conversation,
    cut_pair,
    reply_start,
)


class Limits(NamedTuple):
    """The most tokens of a row, of the prompt of its last reply, and of that reply.

    target: the token that ends a whole reply comes on top.   None: as many as there are.
    """

    total: int | None = None
    source: int | None = None
    target: int | None = None

    def __str__(self) -> str:
        """Return the options that set them."""
        names = ("--max_length", "--max_source_length", "--max_target_length")
        pairs = zip(names, self, strict=True)
        return ", ".join(f"{name} {limit}" for name, limit in pairs if limit is not None)


def limits_of(arguments: DataArguments, max_length: int | None) -> Limits:
    """Return what the options say. A warning if the whole is shorter than its parts may be."""
    source, target = arguments.max_source_length, arguments.max_target_length
    if source and target and max_length is not None and max_length <= source + target:
        logger.warning(
            "--max_length %s cuts rows that --max_source_length and --max_target_length allow to "
            "have %s tokens; raise it to keep them whole",
            f"{max_length:,}",
            f"{source + target + 1:,}",
        )
    return Limits(max_length, source, target)


def fit_conversation(
    renderer: ChatRenderer,
    record: Conversation,
    rendered: Rendered,
    limits: Limits,
    tokens: Counter[str] | None = None,
) -> Rendered | None:
    """Return what is left of a conversation within the limits; None if nothing can be learnt.

    rendered: the whole of it. Its earlier turns belong to the prompt of the last reply.
    `tokens` counts read = kept + truncated, and supervised.
    """
    num_read = len(rendered.input_ids)
    if limits.source is not None and reply_start(rendered.labels) > limits.source:
        *prompt, reply = record.messages
        kept = shorten_prompt(renderer, prompt, limits.source)
        if kept is None:
            return None
        rendered = renderer.conversation(replace(record, messages=(*kept, reply)))
    if limits.target is not None:
        end = reply_end(reply_start(rendered.labels), len(rendered.input_ids), limits.target)
        rendered = Rendered(rendered.input_ids[:end], rendered.labels[:end])
    return cut_conversation(rendered, limits.total, tokens, num_read)


def fit_pair(
    renderer: ChatRenderer,
    record: PreferencePair,
    pair: PairIds,
    limits: Limits,
    tokens: Counter[str] | None = None,
) -> dict[str, list[int]] | None:
    """Return what is left of a pair within the limits; None if its answers no longer differ.

    The target's limit is that of each answer. `tokens` as for conversations.
    """
    num_read = sum(map(len, pair))
    if limits.source is not None and len(pair[0]) > limits.source:
        kept = shorten_prompt(renderer, record.prompt, limits.source)
        if kept is None:
            return None
        pair = renderer.pair(replace(record, prompt=kept))
    prompt_ids, *answers = pair
    if limits.target is not None:
        answers = [ids[: reply_end(0, len(ids), limits.target)] for ids in answers]
    return cut_pair((prompt_ids, answers[0], answers[1]), limits.total, tokens, num_read)


def reply_end(start: int, end: int, limit: int) -> int:
    """Return where a reply from `start` to `end` is cut: nowhere if just its end token is over."""
    return end if end - start <= limit + 1 else start + limit


def shorten_prompt(
    renderer: ChatRenderer, prompt: Sequence[Message], limit: int
) -> tuple[Message, ...] | None:
    """Return the messages with at most `limit` tokens between them, the header of a reply included.

    The oldest turns go first, each question with its reply; then the end of the last question. The
    system message stays. None if not even the first character of the question fits.
    """
    system = [message for message in prompt if message.role == "system"]
    rounds = [number for number, message in enumerate(prompt) if message.role == "user"]
    for first in rounds:
        kept = (*system, *prompt[first:])
        if len(renderer.prompt_ids(kept)) <= limit:
            return kept
    question = prompt[-1].content

    def cut(length: int) -> tuple[Message, ...]:
        return (*system, Message("user", question[:length]))

    lengths = range(1, len(question))
    length = bisect_right(lengths, limit, key=lambda n: len(renderer.prompt_ids(cut(n))))
    return cut(length) if length else None
