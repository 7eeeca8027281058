"""What was asked and answered, in a file that only its owner can read."""

import json
import os
from collections.abc import Sequence
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, TextIO

from medtune.arguments import SamplingArguments
from medtune.chat.answer import Answer
from medtune.common.errors import ConfigError
from medtune.common.log import logger
from medtune.data.records import Message

OWNER_ALONE = 0o600


def open_private(path: Path) -> TextIO:
    """Open a new file that no other user can read. Raises FileExistsError and other OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
    return os.fdopen(os.open(path, flags, OWNER_ALONE), "w", encoding="utf-8")


def as_row(messages: Sequence[Message]) -> dict[str, Any]:
    """Return a conversation as a row that the stages can train on (docs/data_formats.md)."""
    return {"messages": [message.to_dict() for message in messages]}


class ChatLog:
    """One file of JSON lines, made with the first answer: a line for each turn.

    A line holds the whole conversation up to its answer, so that any line can be asked again.
    """

    def __init__(self, folder: str, about: dict[str, Any]) -> None:
        """about: what every line says of the model.   Raises ConfigError if nothing can be kept."""
        self.folder = Path(folder)
        self.about = about
        self._file: TextIO | None = None
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._refusal(error) from error
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise self._refusal("no right to write there")

    def write(
        self,
        messages: Sequence[Message],
        answer: Answer,
        asked: tuple[str, SamplingArguments],
        seconds: float,
    ) -> None:
        """Add a turn. A disk that takes no more is said, and the chat goes on without a log.

        asked: the name of the model that answered, and how.
        """
        name, options = asked
        row = {
            "time": datetime.now().astimezone().isoformat(timespec="seconds"),
            **self.about,
            "answered_by": name,
            "seed": options.seed,
            "options": {
                "max_new_tokens": options.max_new_tokens,
                "temperature": options.temperature,
                "top_p": options.top_p,
                "top_k": options.top_k,
                "repetition_penalty": options.repetition_penalty,
            },
            "advice": answer.advice,
            "num_left_out": answer.num_left_out,
            "num_prompt_tokens": len(answer.prompt_ids),
            "num_new_tokens": len(answer.ids),
            "ended_by": answer.ended_by,
            "seconds": round(seconds, 3),
            **as_row([*messages, Message("assistant", answer.text)]),
        }
        try:
            if self._file is None:
                self._file = self._open()
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            logger.warning("this turn is not in the log: %s", error)

    def _open(self) -> TextIO:
        """Return a new file named after the time, with a number if two chats began in a second."""
        name = datetime.now().strftime("%Y%m%d-%H%M%S")
        for number in count(1):
            suffix = f"-{number}" if number > 1 else ""
            path = self.folder / f"{name}{suffix}.jsonl"
            try:
                file = open_private(path)
            except FileExistsError:
                continue
            logger.info("log: %s (--no_log True keeps none)", path)
            return file
        raise AssertionError("count does not end")

    def _refusal(self, reason: OSError | str) -> ConfigError:
        return ConfigError(
            f"--log_dir {self.folder}: expected a folder to write to: {reason}. Give another one, "
            "or --no_log True."
        )
