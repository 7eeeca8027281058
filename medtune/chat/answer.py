"""An answer while it comes, and how it may end."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Lock

from medtune.common.errors import MedtuneError

# How an answer ends: by itself, at --max_new_tokens, with the context full, because it goes round
# in circles, by cancel(), by an error.
STOP, LENGTH, CONTEXT, REPETITION, CANCEL = "stop", "length", "context", "repetition", "cancel"
ERROR = "error"


@dataclass(eq=False)
class Answer:
    """An answer as it comes: iterate over `pieces`, or `listen`; the rest is filled meanwhile.

    prompt_ids: what the model was asked.   num_left_out: turns at the beginning that the context
    had no room for.   advice: fixed words for an emergency in the question, to be shown before the
    text and no part of it; "" for none.   ids: of the answer, with the one that ended it.   text:
    what they say.   ended_by: one of the above; empty while the answer comes.
    error: what `pieces` raises in the end.
    """

    prompt_ids: list[int]
    num_left_out: int
    advice: str = ""
    pieces: Iterator[str] = field(init=False, repr=False)
    ids: list[int] = field(default_factory=list)
    text: str = ""
    ended_by: str = ""
    error: MedtuneError | None = None
    is_cancelled: bool = False
    _listeners: list[Callable[[], None]] = field(default_factory=list, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def cancel(self) -> None:
        """Let it end before the next token; may be called from a signal or another thread."""
        self.is_cancelled = True

    def listen(self, callback: Callable[[], None]) -> None:
        """Have `callback` called each time that the text grew, and when the answer has ended.

        It is called in the thread that computes, or at once in this one if all is over.
        """
        with self._lock:
            self._listeners.append(callback)
            is_over = bool(self.ended_by)
        if is_over:
            callback()

    def grow(self, piece: str) -> None:
        """Add to the text."""
        if piece:
            self.text += piece
            self._tell()

    def end(self, ended_by: str, error: MedtuneError | None = None) -> None:
        """Say how it ended; nothing comes after it."""
        with self._lock:
            self.error, self.ended_by = error, ended_by
        self._tell()

    def _tell(self) -> None:
        for callback in tuple(self._listeners):
            callback()
