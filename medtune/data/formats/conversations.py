"""The shapes in which conversations come: one small function each, from a row to messages.

A row is read by the first of FORMATS that it fits, or by the one that the user names.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from medtune.arguments import AUTO
from medtune.data.formats.checks import (
    MalformedRow,
    RowError,
    check_order,
    check_text,
    describe,
    filled_text,
    is_sound,
    only_one,
    optional_text,
)
from medtune.data.formats.options import FOUND, FormatOptions
from medtune.data.records import Conversation, Message, Role, Source

ROLES: dict[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
}
Messages = tuple[Message, ...]
Fields = dict[str, Any]
SPEAKER = re.compile(r"<(user|bot)>\s*[:：]")
NOTHING = "无"  # what the CSV files of Chinese consultations write into an empty cell
LETTERS = re.compile(r"[A-Za-z]+")


class Format(NamedTuple):
    """fits: whether a row has the fields of this format.   read: its messages, or RowError."""

    fits: Callable[[Fields], bool]
    read: Callable[[Fields], Messages]


def conversation_from_row(
    row: Fields, source: Source, options: FormatOptions = FOUND
) -> Conversation:
    """Return the conversation of a row.

    Raises RowError: no known format, no turn, unknown role, empty content, roles out of order, a
    conversation that ends with the user.
    """
    if options.prompt_column or options.response_column:
        messages = read_columns(row, options)
    else:
        messages = FORMATS[format_of(row, options)].read(row)
    check_order(messages, last="assistant")
    return Conversation(messages, source)


def format_of(row: Fields, options: FormatOptions = FOUND) -> str:
    """Return the name of the format of a row. Raises MalformedRow if it fits none."""
    if options.data_format != AUTO:
        return options.data_format
    for name, known in FORMATS.items():
        if known.fits(row):
            return name
    raise MalformedRow(
        "missing_field",
        f"expected the fields of a known format, found {sorted(map(str, row))}; rename them, or "
        "name them with --prompt_column and --response_column.",
    )


def has(*names: str) -> Callable[[Fields], bool]:
    """Return the test for rows with all of these fields."""
    return lambda row: all(name in row for name in names)


# -- lists of turns


def messages_from_turns(turns: Any, name: str) -> Messages:
    """Return messages from (from, value) or (role, content) turns. Raises RowError."""
    if isinstance(turns, list) and len(turns) == 1 and isinstance(turns[0], list):
        turns = turns[0]
    if not isinstance(turns, list) or not turns:
        raise RowError(
            "empty_conversation",
            f"expected a list of turns in '{name}', found {describe(turns)}; remove the row.",
        )
    messages = []
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, dict):
            raise MalformedRow("wrong_type", f"expected turn {number} as an object; mend the row.")
        role = turn.get("from", turn.get("role"))
        content = turn.get("value", turn.get("content"))
        if not isinstance(role, str) or role not in ROLES:
            raise MalformedRow(
                "unknown_role",
                f"expected a role of {sorted(ROLES)} in turn {number}, found {role!r}; rename it.",
            )
        if not is_sound(content):
            check_text(content, f"turn {number} ({role})")
        messages.append(Message(ROLES[role], str(content)))
    return tuple(messages)


def messages_from_history(history: Any) -> list[Message]:
    """Return the messages of [[question, answer], …]; null or empty is none. Raises RowError."""
    messages: list[Message] = []
    if not isinstance(history or [], list):
        raise MalformedRow("wrong_type", "expected history as a list; mend the row.")
    for number, turn in enumerate(history or [], start=1):
        if not (isinstance(turn, list) and len(turn) == 2):
            raise MalformedRow(
                "bad_history",
                f"expected history as [[question, answer], …], found {describe(turn)} as turn "
                f"{number}; mend the row.",
            )
        for text in turn:
            check_text(text, f"turn {number} of the history")
        messages += [Message("user", turn[0]), Message("assistant", turn[1])]
    return messages


def system_of(row: Fields) -> list[Message]:
    """Return the system message of a row, if it has one. Raises RowError."""
    if not isinstance(row.get("system") or "", str):
        raise MalformedRow("wrong_type", "expected 'system' as text; mend the row.")
    text = optional_text(row, "system")
    return [Message("system", text)] if text else []


# -- one function for each format


def read_turns(row: Fields) -> Messages:
    """ShareGPT `conversations` (from, value), OpenAI `messages` or `conversation`."""
    name = next(name for name in ("conversations", "messages", "conversation") if name in row)
    messages = messages_from_turns(row[name], name)
    return messages if messages[0].role == "system" else (*system_of(row), *messages)


def read_med2023(row: Fields) -> Messages:
    """`question`: turns of patient and doctor, the patient's last; `answer`: the doctor's."""
    turns = row["question"]
    texts: list[Any] = [turn.get("text") if isinstance(turn, dict) else turn for turn in turns]
    texts.append(only_one(row["answer"]))
    if isinstance(texts[-1], dict):
        texts[-1] = texts[-1].get("text")
    for number, text in enumerate(texts, start=1):
        check_text(text, f"turn {number}")
    if len(texts) % 2:
        raise RowError(
            "role_order",
            f"expected the patient to speak first and last in 'question', found {len(turns)} turns "
            "that alternate; remove the doctor's opening or the dangling turn.",
        )
    roles: tuple[Role, Role] = ("user", "assistant")
    return tuple(Message(roles[number % 2], text) for number, text in enumerate(texts))


def read_flat_dialogue(row: Fields) -> Messages:
    """`instruction`: a whole dialogue, "<user>: … <bot>: … <user>: …"; `output`: the reply."""
    first, *parts = SPEAKER.split(filled_text(row, "instruction"))
    roles: dict[str, Role] = {"user": "user", "bot": "assistant"}
    messages = [Message("system", first.strip())] if first.strip() else []
    for number, (speaker, text) in enumerate(zip(parts[::2], parts[1::2], strict=True), start=1):
        check_text(text, f"turn {number}")
        messages.append(Message(roles[speaker], text.strip()))
    return (*messages, Message("assistant", filled_text(row, "output")))


def read_alpaca(row: Fields) -> Messages:
    """`instruction`, `input` (may be absent), `output`; `system` and `history` if there are any."""
    question = filled_text(row, "instruction")
    addition = optional_text(row, "input")
    asked = f"{question}\n{addition}" if addition else question
    answer = Message("assistant", filled_text(row, "output"))
    history = messages_from_history(row.get("history"))
    return (*system_of(row), *history, Message("user", asked), answer)


def read_consultation(row: Fields) -> Messages:
    """`title`, `ask`, `answer` of a CSV file of consultations; "无" is an empty cell."""
    title, ask = (optional_text(row, name).strip() for name in ("title", "ask"))
    parts = [text for text in (title, ask) if text not in ("", NOTHING)]
    if len(parts) == 2 and parts[1].startswith(parts[0]):
        del parts[0]  # the question opens with its own title
    check_text("\n".join(parts), "'title' and 'ask'")
    return Message("user", "\n".join(parts)), Message("assistant", filled_text(row, "answer"))


def read_exam(row: Fields) -> Messages:
    """A multiple-choice question: `question`, `option` {letter: text}, `answer` (letters)."""
    options = row["option"]
    if not isinstance(options, dict):
        raise MalformedRow("wrong_type", "expected 'option' as {letter: text}; mend the row.")
    lines = [f"{letter}. {text}" for letter, text in options.items() if text]
    asked = "\n".join([filled_text(row, "question"), *lines])
    letters = filled_text(row, "answer")
    if not LETTERS.fullmatch(letters) or not set(letters) <= set(options):
        raise RowError("wrong_answer", "expected letters of the options as 'answer'; mend the row.")
    replies = [f"{letter}. {options[letter]}" for letter in letters]
    explanation = optional_text(row, "explanation")
    answer = "\n".join([*replies, *([explanation] if explanation else [])])
    return Message("user", asked), Message("assistant", answer)


def read_clinical_case(row: Fields) -> Messages:
    """A case (`title`, `description`) and `QA_pairs` of question and answer (or solution)."""
    case, pairs = filled_text(row, "description"), row["QA_pairs"]
    if not isinstance(pairs, list) or not all(isinstance(pair, dict) for pair in pairs):
        raise MalformedRow("wrong_type", "expected 'QA_pairs' as a list of objects; mend the row.")
    messages: list[Message] = []
    for pair in pairs:
        question = filled_text(pair, "question")
        asked = f"{case}\n\n{question}" if not messages else question
        answer = filled_text(pair, "answer" if "answer" in pair else "solution")
        messages += [Message("user", asked), Message("assistant", answer)]
    return tuple(messages)


def question_and_answer(prompt: str, response: str) -> Format:
    """Return the format of rows with a question in one field and its answer in another."""

    def read(row: Fields) -> Messages:
        question, answer = filled_text(row, prompt), filled_text(row, response)
        history = messages_from_history(row.get("history"))
        last = (Message("user", question), Message("assistant", answer))
        return (*system_of(row), *history, *last)

    return Format(has(prompt, response), read)


def read_columns(row: Fields, options: FormatOptions) -> Messages:
    """The fields that --prompt_column, --response_column and --history_column name."""
    prompt = filled_text(row, options.prompt_column or "prompt")
    response = filled_text(row, options.response_column or "response")
    history = messages_from_history(row.get(options.history_column or "history"))
    return (*system_of(row), *history, Message("user", prompt), Message("assistant", response))


def is_flat_dialogue(row: Fields) -> bool:
    """True for an instruction that is a whole dialogue."""
    text = row.get("instruction")
    return "output" in row and isinstance(text, str) and len(SPEAKER.findall(text)) > 0


def is_med2023(row: Fields) -> bool:
    """True for a question that is a list of turns."""
    turns = row.get("question")
    return "answer" in row and isinstance(turns, list) and isinstance(only_one(turns), dict | list)


FORMATS: dict[str, Format] = {
    "sharegpt": Format(has("conversations"), read_turns),
    "messages": Format(lambda row: "messages" in row or "conversation" in row, read_turns),
    "flat_dialogue": Format(is_flat_dialogue, read_flat_dialogue),
    "alpaca": Format(has("instruction", "output"), read_alpaca),
    "med2023": Format(is_med2023, read_med2023),
    "exam": Format(has("question", "option", "answer"), read_exam),
    "clinical_case": Format(has("description", "QA_pairs"), read_clinical_case),
    "consultation": Format(
        lambda row: "answer" in row and ("ask" in row or "title" in row), read_consultation
    ),
    "promptcblue": question_and_answer("input", "target"),
    "content_summary": question_and_answer("content", "summary"),
    "question_answer": question_and_answer("question", "answer"),
    "questions_answers": question_and_answer("questions", "answers"),
    "prompt_response": question_and_answer("prompt", "response"),
    "prompt_completion": question_and_answer("prompt", "completion"),
    "query_response": question_and_answer("query", "response"),
}
