"""One function per on-disk shape: a file becomes rows, a row becomes a canonical record.

A row that breaks a rule raises RowError with a short reason (the key that is counted) and a
sentence with what was expected and found. File and line are added by the loader.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from medtune.common.errors import DataError
from medtune.data.records import Conversation, Message, PreferencePair, Role, Source, TextRecord

ROLES: dict[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
}


class RowError(Exception):
    """A row that cannot be used; `reason` is the key it is counted under."""

    def __init__(self, reason: str, message: str) -> None:
        """Keep the reason beside the sentence."""
        super().__init__(message)
        self.reason = reason


class MalformedRow(RowError):
    """A row that is no record at all, which speaks of a broken file or another format."""


def read_lines(path: Path) -> Iterator[str]:
    """Yield a file's lines without their ends (`\\n`, `\\r\\n`, `\\r`) and byte-order mark.

    The lines joined by `\\n` are the whole text.   Raises DataError with `file:line` if it is not
    UTF-8.
    """
    line = "\n"
    try:
        with path.open(encoding="utf-8-sig") as file:
            for line in file:
                yield line.removesuffix("\n")
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    if line.endswith("\n"):
        yield ""


def not_utf8(path: Path) -> DataError:
    """Return the error that names the first line which is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return DataError(
                    f"{path}:{number}: expected UTF-8 text, found byte 0x{line[error.start]:02x}; "
                    "convert the file first (for gb18030: "
                    f"iconv -f gb18030 -t utf-8 {path.name})."
                )
    return DataError(f"{path}: expected UTF-8 text; the file changed while it was read.")


def read_text_documents(path: Path, doc_separator: str) -> Iterator[TextRecord]:
    """Yield the documents of a text file, stripped; empty ones are no documents.

    doc_separator: "file" (the whole file is one document), "blank_line" or "line".
    Example: "a\\nb\\n\\nc" by blank_line -> "a\\nb" at line 1 and "c" at line 4.
    """
    lines = enumerate(read_lines(path), start=1)
    if doc_separator == "file":
        parts: Iterable[tuple[int, str]] = [(1, "\n".join(line for _, line in lines))]
    elif doc_separator == "line":
        parts = lines
    else:
        parts = paragraphs(lines)
    for number, part in parts:
        if part.strip():
            yield TextRecord(part.strip(), Source(str(path), number))


def paragraphs(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Yield the runs of lines between blank ones, each with the number of its first line."""
    first, run = 1, []
    for number, line in lines:
        if line.strip():
            run.append(line)
            continue
        yield first, "\n".join(run)
        first, run = number + 1, []
    yield first, "\n".join(run)


def read_json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield (line, row) from JSON lines, or (index, row) from a file that is one JSON array.

    Lines are read one at a time; an array is read whole.
    A line that does not parse yields a MalformedRow in its row's place, so that the caller decides.
    """
    is_first = True
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        if is_first and line.lstrip().startswith("["):
            rows = parse_json("\n".join(read_lines(path)))
            yield from enumerate(rows if isinstance(rows, list) else [rows], start=1)
            return
        is_first = False
        yield number, parse_json(line)


def parse_json(text: str) -> Any:
    """Return the parsed JSON, or a MalformedRow that says where it breaks."""
    try:
        value = json.loads(text)
    except (RecursionError, ValueError) as error:
        if not isinstance(error, json.JSONDecodeError):  # nested too deep, a number too long
            return MalformedRow("invalid_json", f"expected JSON, found: {error}; mend the line.")
        place = f"line {error.lineno}, " * (error.lineno > 1) + f"character {error.colno}"
        message = f"expected JSON, found: {error.msg.lower()} ({place})"
        return MalformedRow("invalid_json", f"{message}; mend or remove the line.")
    if not isinstance(value, dict | list):
        kind = type(value).__name__
        return MalformedRow(
            "not_an_object", f"expected an object {{…}}, found {kind}; mend the line."
        )
    return value


def text_from_row(row: dict[str, Any], source: Source) -> TextRecord:
    """Read {"text": …}. Raises RowError."""
    return TextRecord(filled_text(row, "text").strip(), source)


def conversation_from_row(row: dict[str, Any], source: Source) -> Conversation:
    """Read ShareGPT `conversations` (from, value) or OpenAI `messages` (role, content).

    Raises RowError: no such field, no turn, unknown role, empty content, roles out of order, a
    conversation that ends with the user.
    """
    for name in ("conversations", "messages", "conversation"):
        if name in row:
            messages = messages_from_turns(row[name], name)
            check_order(messages, last="assistant")
            return Conversation(messages, source)
    raise MalformedRow(
        "missing_field",
        f"expected 'conversations' or 'messages', found {sorted(row)}; rename the column.",
    )


def preference_from_row(row: dict[str, Any], source: Source) -> PreferencePair:
    """Read either preference shape.

    Five fields: system, history [[question, answer], …], question, response_chosen,
    response_rejected (system and history may be absent). Or conversations + chosen + rejected,
    where the answers are text or a message.   Raises RowError.
    """
    if "question" in row:
        prompt = prompt_from_fields(row)
        chosen, rejected = (filled_text(row, f"response_{side}") for side in ("chosen", "rejected"))
    elif "conversations" in row:
        prompt = messages_from_turns(row["conversations"], "conversations")
        chosen, rejected = (answer_text(row, side) for side in ("chosen", "rejected"))
    else:
        raise MalformedRow(
            "missing_field",
            f"expected 'question' or 'conversations', found {sorted(row)}; rename the column.",
        )
    check_order(prompt, last="user")
    if chosen.strip() == rejected.strip():
        raise RowError(
            "chosen_equals_rejected",
            "expected two different answers, found chosen equal to rejected; remove the row.",
        )
    return PreferencePair(prompt, chosen, rejected, source)


def prompt_from_fields(row: dict[str, Any]) -> tuple[Message, ...]:
    """Return the messages of system, history and question. Raises RowError."""
    system, history = row.get("system") or "", row.get("history") or []
    if not isinstance(system, str) or not isinstance(history, list):
        raise MalformedRow(
            "wrong_type", "expected system as text and history as a list; mend the row."
        )
    messages = []
    if system.strip():
        check_text(system, "'system'")
        messages.append(Message("system", system))
    for number, turn in enumerate(history, start=1):
        if not (isinstance(turn, list) and len(turn) == 2):
            raise MalformedRow(
                "bad_history",
                f"expected history as [[question, answer], …], found {describe(turn)} as turn "
                f"{number}; mend the row.",
            )
        for text in turn:
            check_text(text, f"turn {number} of the history")
        messages += [Message("user", turn[0]), Message("assistant", turn[1])]
    return (*messages, Message("user", filled_text(row, "question")))


def answer_text(row: dict[str, Any], name: str) -> str:
    """Return an answer given as text or as a message. Raises RowError."""
    value = row.get(name)
    if isinstance(value, dict):
        return filled_text({name: value.get("value", value.get("content"))}, name)
    return filled_text(row, name)


def messages_from_turns(turns: Any, name: str) -> tuple[Message, ...]:
    """Return messages from (from, value) or (role, content) turns. Raises RowError."""
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


def check_order(messages: tuple[Message, ...], last: Role) -> None:
    """Raise RowError unless the roles are [system,] user, assistant, user, … up to `last`."""
    turns = messages[1:] if messages[0].role == "system" else messages
    for number, message in enumerate(turns):
        expected = "assistant" if number % 2 else "user"
        if message.role != expected:
            raise RowError(
                "role_order",
                f"expected turn {number + 1} from the {expected}, found the {message.role}; "
                "user and assistant take turns, the user first.",
            )
    if not turns or turns[-1].role != last:
        found = turns[-1].role if turns else "nobody"
        raise RowError(
            "ends_with_user" if found == "user" else "role_order",
            f"expected the {last} to speak last, found the {found}; "
            "remove the dangling turn or add its answer.",
        )


def filled_text(row: dict[str, Any], name: str) -> str:
    """Return a text field that is there and not blank. Raises RowError."""
    if name not in row:
        raise MalformedRow(
            "missing_field", f"expected a field '{name}', found {sorted(row)}; add it."
        )
    check_text(row[name], f"'{name}'")
    return row[name]


def check_text(value: Any, place: str) -> None:
    """Raise RowError unless the value is text, not blank, and can be written as UTF-8."""
    if not isinstance(value, str) or not value.strip():
        raise RowError(
            "empty_content",
            f"expected text in {place}, found {describe(value)}; fill it or remove the row.",
        )
    if not is_sound(value):
        raise RowError(
            "invalid_unicode",
            f"expected Unicode text in {place}, found half of a surrogate pair (a cut emoji?); "
            "mend the row.",
        )


def is_sound(value: Any) -> bool:
    """True for text that is not blank and can be written as UTF-8."""
    try:
        return isinstance(value, str) and bool(value.strip()) and bool(value.encode())
    except UnicodeEncodeError:
        return False


def describe(value: Any) -> str:
    """Name what stands in a field without repeating its content."""
    if value is None:
        return "null"
    return f"an empty {type(value).__name__}" if not value else f"a {type(value).__name__}"
