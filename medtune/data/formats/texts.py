"""Running text to documents, and dialogues that are written as plain text.

A document is a file, a block between blank lines, or a line. Dialogues come as blocks of lines that
take turns (question, answer, blank line: the chat corpus of GPT-2), or with each question and
answer marked: `<question>…<answer>…`.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from medtune.arguments import AUTO
from medtune.data.formats.checks import RowError, filled_text
from medtune.data.formats.files import read_lines
from medtune.data.records import Message, Source, TextRecord

QUESTION, ANSWER = "<question>", "<answer>"
BLOCKS_LOOKED_AT = 200
SHARE_OF_PAIRS, SHARE_OF_QUESTIONS = 0.98, 0.3  # of the blocks of a file that is a dialogue


def read_text_documents(
    path: Path, doc_separator: str, encoding: str = AUTO
) -> Iterator[TextRecord]:
    """Yield the documents of a text file, stripped; empty ones are no documents.

    doc_separator: "file" (the whole file is one document), "blank_line" or "line".
    Example: "a\\nb\\n\\nc" by blank_line -> "a\\nb" at line 1 and "c" at line 4.
    """
    lines = enumerate(read_lines(path, encoding), start=1)
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


def text_from_row(row: dict[str, Any], source: Source) -> TextRecord:
    """Read {"text": …}, or {"content": …}. Raises RowError."""
    name = "content" if "text" not in row and "content" in row else "text"
    return TextRecord(filled_text(row, name).strip(), source)


# -- dialogues


def dialogue_form(path: Path, encoding: str = AUTO) -> str | None:
    """Return "tagged", "blocks" or None: what kind of dialogue the beginning of a text file is.

    Blocks are taken for a dialogue if nearly all have an even number of lines and questions open
    many of them: sections of a book are not so.
    """
    found = paragraphs(enumerate(read_lines(path, encoding), start=1))
    blocks = list(islice((text for _, text in found if text.strip()), BLOCKS_LOOKED_AT))
    if not blocks:
        return None
    if blocks[0].lstrip().startswith(QUESTION):
        return "tagged"
    sizes = [len(block.split("\n")) for block in blocks]
    num_even = sum(size % 2 == 0 for size in sizes)
    num_asking = sum(any(mark in block.split("\n")[0] for mark in "?？吗呢么") for block in blocks)
    is_dialogue = num_even >= SHARE_OF_PAIRS * len(
        blocks
    ) and num_asking >= SHARE_OF_QUESTIONS * len(blocks)
    return "blocks" if is_dialogue else None


def read_dialogue_rows(
    path: Path, form: str, encoding: str = AUTO
) -> Iterator[tuple[int, tuple[Message, ...] | RowError]]:
    """Yield (line, messages) of the dialogues of a text file, or the RowError one became."""
    lines = enumerate(read_lines(path, encoding), start=1)
    for number, text in tagged_rows(lines) if form == "tagged" else paragraphs(lines):
        if text.strip():
            yield number, (tagged_messages(text) if form == "tagged" else line_messages(text))


def line_messages(block: str) -> tuple[Message, ...]:
    """Return the lines of a block as turns, the user's first."""
    turns = [line.strip() for line in block.split("\n")]
    return tuple(
        Message("assistant" if number % 2 else "user", turn) for number, turn in enumerate(turns)
    )


def tagged_rows(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Yield each run of lines that begins with QUESTION, with the number of its first line."""
    first, run = 1, list[str]()
    for number, line in lines:
        if line.lstrip().startswith(QUESTION):
            yield first, "\n".join(run)
            first, run = number, []
        run.append(line)
    yield first, "\n".join(run)


def tagged_messages(text: str) -> tuple[Message, ...] | RowError:
    """Return the one question and answer of `<question>…<answer>…`."""
    before, _, rest = text.partition(QUESTION)
    question, mark, answer = rest.partition(ANSWER)
    if before.strip() or not mark or QUESTION in rest or ANSWER in answer:
        return RowError(
            "wrong_tags", f"expected one {QUESTION} and one {ANSWER} in this order; mend the line."
        )
    if not question.strip() or not answer.strip():
        return RowError("empty_content", "expected a question and an answer, found one empty.")
    return Message("user", question.strip()), Message("assistant", answer.strip())
