"""What the server needs of a session and of an answer: ChatSession and its Answer have more."""

from collections.abc import Callable, Sequence
from typing import Protocol

from medtune.arguments import SamplingArguments
from medtune.data.records import Message


class Answer(Protocol):
    """An answer while it comes: `ended_by` is empty, `text` and `ids` grow.

    prompt_ids: what the model was asked.   num_left_out: turns that the context had no room for.
    advice: what is to be said before the text, "" for nothing.
    """

    prompt_ids: list[int]
    num_left_out: int
    ids: list[int]
    text: str
    ended_by: str
    advice: str

    def cancel(self) -> None:
        """Let it end before the next token."""

    def listen(self, callback: Callable[[], None]) -> None:
        """Have `callback` called, in any thread, when the text grew and when it is over."""


class Session(Protocol):
    """A model that may be asked from any thread."""

    context_length: int

    def ask(self, messages: Sequence[Message], options: SamplingArguments) -> Answer:
        """Return an answer as it begins. Raises DataError (QuestionTooLong too) and QueueFull."""
        ...
