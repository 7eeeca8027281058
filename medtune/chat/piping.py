"""Questions from a pipe, one a line, each a conversation of its own; answers to standard output."""

from collections.abc import Iterable
from typing import TextIO

from medtune.arguments import SamplingArguments
from medtune.chat.talk import Talk, visible
from medtune.common.errors import DataError, MedtuneError
from medtune.common.log import logger


def answer_lines(
    talk: Talk, lines: Iterable[bytes], output: TextIO, options: SamplingArguments
) -> None:
    """Answer each line; empty ones are counted. Nothing but answers goes to `output`.

    Raises DataError at the end if some were refused; the others are answered all the same.
    """
    num_empty = num_refused = number = 0
    for number, line in enumerate(lines, start=1):
        try:
            question = decode_line(line)
            if not question:
                num_empty += 1
                continue
            answer = talk.ask([], question, options)
            if answer.advice:
                output.write(f"{answer.advice}\n\n")
            for piece in answer.pieces:
                output.write(visible(piece))
                output.flush()
            output.write("\n")
            output.flush()
        except MedtuneError as error:
            num_refused += 1
            logger.warning("line %d: %s", number, error)
    if num_empty:
        logger.info("%d of %d lines are empty and were left out", num_empty, number)
    if num_refused:
        raise DataError(f"{num_refused} of {number} lines were not answered, see above.")


def decode_line(line: bytes) -> str:
    """Return a line as text without white space around it. Raises DataError."""
    try:
        return line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"expected text in UTF-8: {error}") from error
