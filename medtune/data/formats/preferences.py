"""The shapes in which preference pairs come: from a row to a prompt and two answers."""

from typing import Any

from medtune.data.formats.checks import MalformedRow, RowError, check_order, filled_text
from medtune.data.formats.conversations import (
    Fields,
    Messages,
    messages_from_history,
    messages_from_turns,
    system_of,
)
from medtune.data.records import Message, PreferencePair, Source

ANSWER_FIELDS = {"five_fields": "response_", "conversation_pair": "", "prompt_pair": ""}


def preference_from_row(row: Fields, source: Source) -> PreferencePair:
    """Return the pair of a row.

    Five fields: system, history [[question, answer], …], question, response_chosen,
    response_rejected (system and history may be absent). Or conversations + chosen + rejected, or
    prompt + chosen + rejected, where the answers are text or a message.   Raises RowError.
    """
    name = preference_format_of(row)
    if name == "five_fields":
        prompt = prompt_from_fields(row, "question")
    elif name == "conversation_pair":
        prompt = (*system_of(row), *messages_from_turns(row["conversations"], "conversations"))
    elif isinstance(row["prompt"], list):
        prompt = messages_from_turns(row["prompt"], "prompt")
    else:
        prompt = prompt_from_fields(row, "prompt")
    prefix = ANSWER_FIELDS[name]
    chosen, rejected = (answer_text(row, f"{prefix}{side}") for side in ("chosen", "rejected"))
    check_order(prompt, last="user")
    if chosen.strip() == rejected.strip():
        raise RowError(
            "chosen_equals_rejected",
            "expected two different answers, found chosen equal to rejected; remove the row.",
        )
    return PreferencePair(prompt, chosen, rejected, source)


def preference_format_of(row: Fields) -> str:
    """Return the name of the shape of a pair. Raises MalformedRow if it is none."""
    if "question" in row:
        return "five_fields"
    if "conversations" in row:
        return "conversation_pair"
    if "prompt" in row:
        return "prompt_pair"
    raise MalformedRow(
        "missing_field",
        f"expected 'question', 'conversations' or 'prompt', found {sorted(map(str, row))}; rename "
        "the column.",
    )


def is_preference(row: Fields) -> bool:
    """True for a row with a better and a worse answer."""
    return bool({"response_chosen", "response_rejected", "chosen", "rejected"} & row.keys())


def prompt_from_fields(row: Fields, question: str) -> Messages:
    """Return the messages of system, history and question. Raises RowError."""
    history = messages_from_history(row.get("history"))
    return (*system_of(row), *history, Message("user", filled_text(row, question)))


def answer_text(row: Fields, name: str) -> str:
    """Return an answer given as text, as a message or as a list of one. Raises RowError."""
    value: Any = row.get(name)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        return filled_text({name: value.get("value", value.get("content"))}, name)
    return filled_text(row, name)
