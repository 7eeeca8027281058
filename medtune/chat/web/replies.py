"""What an answer looks like in the form of OpenAI's chat completions, whole or in chunks."""

import secrets
import time
from pathlib import Path
from typing import Any

from medtune.chat.answer import LENGTH, STOP
from medtune.chat.web.advice import add_advice
from medtune.chat.web.refusals import Refusal
from medtune.chat.web.sessions import Answer
from medtune.chat.web.wishes import Wish

DISCLAIMER = (Path(__file__).parents[1] / "disclaimer.txt").read_text(encoding="utf-8").strip()
TIME = "time"  # how an answer ends that took longer than --max_seconds


class Reply:
    """The parts of a reply that are the same in all its chunks."""

    def __init__(self, wish: Wish, answer: Answer) -> None:
        """Name the reply; its words are not needed yet."""
        self.wish = wish
        self.answer = answer
        self.head = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": wish.model,
        }

    def whole(self, text: str, ended_by: str) -> dict[str, Any]:
        """Return a reply that is not streamed."""
        message = {"role": "assistant", "content": add_advice(self.answer.advice, text)}
        choice = {"index": 0, "message": message, "logprobs": None}
        return {
            **self.head,
            "object": "chat.completion",
            "choices": [{**choice, "finish_reason": finish_reason(ended_by)}],
            "usage": self.usage(),
            "medtune": {**self.about(), "ended_by": ended_by},
        }

    def first(self) -> dict[str, Any]:
        """Return the chunk before all words of the model."""
        begin = add_advice(self.answer.advice, "")
        return self.chunk({"role": "assistant", "content": begin}, medtune=self.about())

    def piece(self, text: str) -> dict[str, Any]:
        """Return a chunk with a piece of text."""
        return self.chunk({"content": text})

    def last(self, ended_by: str) -> list[dict[str, Any]]:
        """Return the chunks after all words."""
        end = self.chunk({}, finish_reason(ended_by), medtune={"ended_by": ended_by})
        if not self.wish.with_usage:
            return [end]
        return [end, {**self.chunk({}), "choices": [], "usage": self.usage()}]

    def chunk(
        self, delta: dict[str, str], reason: str | None = None, **more: Any
    ) -> dict[str, Any]:
        """Return one event of a stream."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        usage = {"usage": None} if self.wish.with_usage else {}
        return {
            **self.head, "object": "chat.completion.chunk", "choices": [choice], **usage, **more,
        }  # fmt: skip

    def about(self) -> dict[str, Any]:
        """Return what OpenAI's form has no field for."""
        return {
            "disclaimer": DISCLAIMER,
            "advice": self.answer.advice,
            "num_left_out": self.answer.num_left_out,
        }

    def usage(self) -> dict[str, int]:
        """Return the tokens that were read and written so far."""
        num_read, num_written = len(self.answer.prompt_ids), len(self.answer.ids)
        return {
            "prompt_tokens": num_read,
            "completion_tokens": num_written,
            "total_tokens": num_read + num_written,
        }


def finish_reason(ended_by: str) -> str:
    """Return OpenAI's name for the end of an answer; `length` for whatever cut it off."""
    return STOP if ended_by == STOP else LENGTH


def failure() -> Refusal:
    """Return what is said when the model could not go on."""
    return Refusal(
        500, "the model could not finish this answer; ask again, or start a new conversation."
    )
