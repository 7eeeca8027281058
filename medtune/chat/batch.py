"""A file of questions, answered several at a time; a JSON line for each, in the file's order."""

import codecs
import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from medtune.arguments import SamplingArguments
from medtune.chat.answer import Answer
from medtune.chat.engine import MAX_RUNNING
from medtune.chat.log import as_row
from medtune.chat.piping import decode_line
from medtune.chat.talk import Talk
from medtune.common.errors import DataError, MedtuneError
from medtune.common.log import logger
from medtune.data.formats.checks import RowError
from medtune.data.formats.conversations import messages_from_turns
from medtune.data.records import Message

Asked = tuple[int, list[Message], Answer | MedtuneError]


def answer_file(talk: Talk, path: Path, output: TextIO, options: SamplingArguments) -> None:
    """Answer each line of a file. Nothing but JSON lines goes to `output`.

    A row has `line`, `messages` with the answer, `advice` and `ended_by`; or `line` and `error`.
    Raises DataError if there is no such file, and at the end if lines were refused.
    """
    num_refused = num_answered = 0
    coming: deque[Asked] = deque()

    def write_first() -> int:
        number, messages, answer = coming.popleft()
        row: dict[str, Any] = {"line": number}
        try:
            if isinstance(answer, MedtuneError):
                raise answer
            text = "".join(answer.pieces)
            row |= as_row([*messages, Message("assistant", text)])
            row |= {"advice": answer.advice, "ended_by": answer.ended_by}
        except MedtuneError as error:
            logger.warning("%s:%d: %s", path, number, error)
            row["error"] = str(error)
        output.write(json.dumps(row, ensure_ascii=False) + "\n")
        output.flush()
        return int("error" in row)

    for number, line in read_lines(path):
        messages: list[Message] = []
        try:
            messages = messages_of(decode_line(line), talk)
            coming.append((number, messages, talk.session.ask(messages, options)))
        except MedtuneError as error:
            coming.append((number, messages, error))
        num_answered += 1
        if len(coming) >= 2 * MAX_RUNNING:
            num_refused += write_first()
    while coming:
        num_refused += write_first()
    if num_refused:
        raise DataError(f"{path}: {num_refused} of {num_answered} lines were not answered.")


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each line that is not empty.   Raises DataError."""
    num_empty = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if line.strip():
                    yield number, line
                else:
                    num_empty += 1
    except OSError as error:
        raise DataError(f"--batch {path}: expected a file of text in UTF-8: {error}") from error
    if num_empty:
        logger.info("%s: %d empty lines were left out", path, num_empty)


def messages_of(line: str, talk: Talk) -> list[Message]:
    """Return what a line asks: its `messages`, its `question`, or the line itself.

    Raises DataError.
    """
    if not line.startswith("{"):
        return talk.messages([Message("user", line)])
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"expected an object with `messages` or `question`: {error}.") from error
    turns = [{"role": "user", "content": row["question"]}] if "question" in row else None
    try:
        messages = list(messages_from_turns(turns or row.get("messages"), "messages"))
    except RowError as error:
        raise DataError(str(error)) from error
    return messages if messages[0].role == "system" else talk.messages(messages)
