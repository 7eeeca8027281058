"""Canonical records written back as rows: the shape that a user asks for, one function each."""

from collections.abc import Callable
from typing import Any

from medtune.data.records import Conversation, Message, PreferencePair, Record, TextRecord

Fields = dict[str, Any]
SHAREGPT_ROLES = {"system": "system", "user": "human", "assistant": "gpt"}


def row_of(record: Record, shape: str = "messages") -> Fields:
    """Return the row of a record in one of SHAPES; running text is {"text": …} in each of them."""
    if isinstance(record, TextRecord):
        return {"text": record.text}
    if isinstance(record, PreferencePair):
        return sharegpt_pair(record) if shape == "sharegpt" else five_fields(record)
    return SHAPES[shape](record)


def to_messages(record: Conversation) -> Fields:
    """Return OpenAI's `messages`."""
    return {"messages": [message.to_dict() for message in record.messages]}


def to_sharegpt(record: Conversation) -> Fields:
    """Return ShareGPT's `conversations`."""
    return {"conversations": sharegpt_turns(record.messages)}


def to_alpaca(record: Conversation) -> Fields:
    """Return `instruction`, `input`, `output`, with `system` and `history` where there are any."""
    *prompt, answer = record.messages
    system, history, question = taken_apart(tuple(prompt))
    row: Fields = {"instruction": question, "input": "", "output": answer.content}
    if system:
        row["system"] = system
    if history:
        row["history"] = history
    return row


def to_text(record: Conversation) -> Fields:
    """Return all that was said, a paragraph a turn, as running text."""
    return {"text": "\n".join(message.content for message in record.messages)}


SHAPES: dict[str, Callable[[Conversation], Fields]] = {
    "messages": to_messages,
    "sharegpt": to_sharegpt,
    "alpaca": to_alpaca,
    "text": to_text,
}


def five_fields(record: PreferencePair) -> Fields:
    """Return system, history, question, response_chosen, response_rejected."""
    system, history, question = taken_apart(record.prompt)
    return {
        "system": system,
        "history": history,
        "question": question,
        "response_chosen": record.chosen,
        "response_rejected": record.rejected,
    }


def sharegpt_pair(record: PreferencePair) -> Fields:
    """Return `conversations` with `chosen` and `rejected` as messages."""
    chosen, rejected = ({"from": "gpt", "value": v} for v in (record.chosen, record.rejected))
    turns = sharegpt_turns(record.prompt)
    return {"conversations": turns, "chosen": chosen, "rejected": rejected}


def sharegpt_turns(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    """Return (from, value) turns."""
    return [{"from": SHAREGPT_ROLES[m.role], "value": m.content} for m in messages]


def taken_apart(prompt: tuple[Message, ...]) -> tuple[str, list[list[str]], str]:
    """Return the system text ("" if there is none), [[question, answer], …] and the question."""
    system = prompt[0].content if prompt[0].role == "system" else ""
    *before, question = prompt[1:] if system else prompt
    texts = [message.content for message in before]
    history = [list(pair) for pair in zip(texts[::2], texts[1::2], strict=True)]
    return system, history, question.content
