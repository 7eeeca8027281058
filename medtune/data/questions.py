"""Questions to ask a model: what --sample_prompts names, and the validation data's own."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset

from medtune.common.errors import DataError
from medtune.data.formats.checks import MalformedRow, RowError, check_order, check_text, filled_text
from medtune.data.formats.conversations import messages_from_turns
from medtune.data.formats.files import ROW_SUFFIXES, TEXT_SUFFIXES, read_lines, read_rows_of
from medtune.data.records import Message, Source
from medtune.data.rendering import ChatRenderer, reply_start


@dataclass(frozen=True)
class Question:
    """A conversation that waits for a reply: the user speaks last."""

    messages: tuple[Message, ...]
    source: Source

    @property
    def text(self) -> str:
        """What the user said last."""
        return self.messages[-1].content


class AnsweredPrompt(NamedTuple):
    """The ids that ask for a reply, and the reply that the data give."""

    prompt_ids: list[int]
    reference: str


def read_questions(path: Path) -> list[Question]:
    """Return the questions of a file: rows with `question` or `messages`, or a text of one a line.

    Other fields of a row are passed over. Raises DataError with `file:line` for the first row that
    is no question; and if there is none.
    """
    suffixes = (*ROW_SUFFIXES, *TEXT_SUFFIXES)
    if not path.is_file() or path.suffix not in suffixes:
        found = f"a file {path.suffix or 'without an ending'}" if path.is_file() else "no file"
        raise DataError(
            f"{path}: expected a file of questions ({', '.join(suffixes)}), found {found}."
        )
    questions = []
    for source, row in numbered_rows(path):
        try:
            questions.append(Question(messages_of(row), source))
        except RowError as error:
            raise DataError(f"{source}: {error}") from error
    if not questions:
        raise DataError(f"{path}: expected at least one question, found none; add a line.")
    return questions


def numbered_rows(path: Path) -> Iterator[tuple[Source, Any]]:
    """Yield the rows of a file and where they stand; a line of text becomes a row of its own."""
    if path.suffix not in TEXT_SUFFIXES:
        yield from ((Source(str(path), line), row) for line, row in read_rows_of(path))
        return
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip():
            yield Source(str(path), number), {"question": line.strip()}


def messages_of(row: Any) -> tuple[Message, ...]:
    """Return the messages of a row. Raises RowError if it is no question."""
    if isinstance(row, RowError):
        raise row
    if not isinstance(row, dict) or ("question" in row) == ("messages" in row):
        found = sorted(map(str, row)) if isinstance(row, dict) else type(row).__name__
        raise MalformedRow(
            "missing_field", f"expected either 'question' or 'messages', found {found}; mend it."
        )
    if "question" in row:
        return (Message("user", filled_text(row, "question")),)
    messages = messages_from_turns(row["messages"], "messages")
    for number, message in enumerate(messages, start=1):
        check_text(message.content, f"turn {number}")
    check_order(messages, last="user")
    return messages


def prompt_of(question: Question, renderer: ChatRenderer) -> list[int]:
    """Return the ids that ask for a reply. Raises DataError with the question's `file:line`."""
    try:
        return renderer.prompt_ids(question.messages)
    except DataError as error:
        raise DataError(f"{question.source}: {error}") from error


def last_answers(
    rows: Dataset, limit: int, renderer: ChatRenderer
) -> tuple[list[AnsweredPrompt], int]:
    """Return the last answer of each of the first rows with what was said before it.

    rows: conversations (input_ids, labels) or pairs (prompt_ids, chosen_ids: the chosen answer is
    the reference).   A row whose last answer was cut is left out, and the next one taken; the
    second value says how many those were.
    """
    answers: list[AnsweredPrompt] = []
    num_cut = 0
    for row in rows:
        if len(answers) == limit:
            break
        prompt_ids, answer_ids = split_row(row)
        if answer_ids[-1] not in renderer.encoder.control_ids:
            num_cut += 1
            continue
        reference = renderer.tokenizer.decode(answer_ids, skip_special_tokens=True)
        answers.append(AnsweredPrompt(prompt_ids, reference.strip()))
    return answers, num_cut


def split_row(row: dict[str, list[int]]) -> tuple[list[int], list[int]]:
    """Return the ids before the last answer, and its own.

    Example: input_ids [5, 6, 7, 8], labels [-100, 6, -100, 8] -> [5, 6, 7], [8].
    """
    if "prompt_ids" in row:
        return row["prompt_ids"], row["chosen_ids"]
    start = reply_start(row["labels"])
    return row["input_ids"][:start], row["input_ids"][start:]
