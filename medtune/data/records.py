"""The three canonical records; every format is turned into one of them before anything else."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

Role = Literal["system", "user", "assistant"]


class Source(NamedTuple):
    """Where a record was read: a file and its 1-based line."""

    path: str
    line: int

    def __str__(self) -> str:
        """Return `path:line`, which editors and terminals can follow."""
        return f"{self.path}:{self.line}"


class Message(NamedTuple):
    """One turn of a conversation."""

    role: Role
    content: str

    def to_dict(self) -> dict[str, str]:
        """Return the form that chat templates read."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class TextRecord:
    """One document of running text, for pretraining."""

    text: str
    source: Source

    @property
    def key(self) -> str:
        """What makes two documents the same one, for splitting."""
        return self.text

    @property
    def texts(self) -> tuple[str, ...]:
        """All that is said in it."""
        return (self.text,)

    @property
    def num_characters(self) -> int:
        """How much text there is, for batches of a like size."""
        return len(self.text)


@dataclass(frozen=True, slots=True)
class Conversation:
    """An optional system message, then user and assistant in turn, the assistant last."""

    messages: tuple[Message, ...]
    source: Source

    @property
    def key(self) -> str:
        """The first question: conversations that share it never sit on both sides of a split."""
        return next(m.content for m in self.messages if m.role == "user").strip()

    @property
    def texts(self) -> tuple[str, ...]:
        """All that is said in it, turn by turn."""
        return tuple([message.content for message in self.messages])

    @property
    def num_characters(self) -> int:
        """How much text there is, for batches of a like size."""
        return sum(map(len, self.texts))


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """A prompt (system, history and question, the user last) with a better and a worse answer."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    source: Source

    @property
    def key(self) -> str:
        """The last question: pairs that share it never sit on both sides of a split."""
        return self.prompt[-1].content.strip()

    @property
    def texts(self) -> tuple[str, ...]:
        """All that is said in it: the prompt's turns, then both answers."""
        return (*[message.content for message in self.prompt], self.chosen, self.rejected)

    @property
    def num_characters(self) -> int:
        """How much text there is, for batches of a like size."""
        return sum(map(len, self.texts))


Record = TextRecord | Conversation | PreferencePair
RecordT = TypeVar("RecordT", TextRecord, Conversation, PreferencePair)
