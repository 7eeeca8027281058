"""Votes of a page's user as preference pairs in a file that the DPO stage reads as it is."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from medtune.chat.log import OWNER_ALONE
from medtune.chat.web.advice import AdviceFor, without_advice
from medtune.chat.web.bodies import name_of
from medtune.chat.web.refusals import Refusal
from medtune.chat.web.wishes import MAX_MESSAGES, MAX_SIGNS, wrong
from medtune.common.log import logger
from medtune.data.formats.checks import RowError
from medtune.data.formats.preferences import preference_from_row
from medtune.data.records import Source

FIELDS = ("system", "history", "question", "chosen", "rejected")
MAX_FILE_BYTES = 1 << 28


def read_pair(body: dict[str, Any], advice_for: AdviceFor) -> dict[str, Any]:
    """Return a request's pair as a row of five fields, with what the model said alone.

    Raises Refusal for what DPO could not use.
    Example: {"question": "q", "chosen": "a", "rejected": "b"} -> {"system": "", "history": [],
    "question": "q", "response_chosen": "a", "response_rejected": "b"}.
    """
    body = {"system": "", "history": [], **body}
    if body.keys() != set(FIELDS):
        raise Refusal(400, f"expected the fields {', '.join(FIELDS)}, found others, or not all.")
    for name, value in body.items():
        if name == "history":
            check_history(value)
        else:
            check_signs(name, value)
    question = body["question"]
    row = {
        "system": body["system"],
        "history": [[q, without_advice(a, q, advice_for)] for q, a in body["history"]],
        "question": question,
        "response_chosen": without_advice(body["chosen"], question, advice_for),
        "response_rejected": without_advice(body["rejected"], question, advice_for),
    }
    try:
        preference_from_row(row, Source("", 0))
    except RowError as error:
        raise Refusal(400, str(error)) from error
    return row


def check_history(value: Any) -> None:
    """Raise Refusal unless the value is a list of questions with their answers."""
    if not isinstance(value, list) or 2 * len(value) > MAX_MESSAGES:
        raise wrong("history", f"a list of at most {MAX_MESSAGES // 2} turns")
    for number, turn in enumerate(value):
        place = f"history[{number}]"
        if not isinstance(turn, list) or len(turn) != 2:
            raise wrong(place, "a question and its answer")
        for text in turn:
            check_signs(place, text)


def check_signs(place: str, value: Any) -> None:
    """Raise Refusal unless the value is text of a length that a message may have."""
    if not isinstance(value, str):
        raise wrong(place, "text", name_of(value))
    if len(value) > MAX_SIGNS:
        raise wrong(place, f"at most {MAX_SIGNS:,} characters", f"{len(value):,}")


class PreferenceFile:
    """The file that rows are added to; it is made with the first one."""

    def __init__(self, path: str) -> None:
        """Touch nothing."""
        self.path = Path(path)

    def add(self, row: dict[str, Any]) -> None:
        """Add a row, whole or not at all. Raises Refusal (503) where there is no room for it."""
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            descriptor = os.open(self.path, flags, OWNER_ALONE)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)  # until it is closed
                append(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            logger.warning("a preference is not kept: %s", error)
            raise Refusal(503, "the preference could not be kept; see the server's log.") from error


def append(descriptor: int, line: bytes) -> None:
    """Write a line at the end of a file. Raises OSError, and leaves the file as it was."""
    size = os.fstat(descriptor).st_size
    if size + len(line) > MAX_FILE_BYTES:
        raise OSError(f"the file is full: it may have {MAX_FILE_BYTES:,} bytes; move it away")
    if os.write(descriptor, line) < len(line):
        os.ftruncate(descriptor, size)
        raise OSError("the disk is full")
