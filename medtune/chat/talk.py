"""A question to a session with what belongs to every terminal: system message, log, safe signs."""

import time
from collections.abc import Iterator, Mapping, Sequence

from medtune.arguments import SamplingArguments
from medtune.chat.answer import Answer
from medtune.chat.log import ChatLog
from medtune.chat.session import ChatSession
from medtune.common.text import printable
from medtune.data.records import Message

# Line end, tab, and the joiner that emoji are put together with: no terminal obeys them.
HARMLESS = "\n\t\u200d"


def visible(text: str) -> str:
    """Return a model's text as a terminal may get it: signs that it would obey become escapes."""
    return printable(text, HARMLESS)


class Talk:
    """Sessions by name, of which one answers; the system message and the log (None for no log)."""

    def __init__(
        self, sessions: Mapping[str, ChatSession], system: str | None, log: ChatLog | None
    ) -> None:
        """The first session answers. Nothing is computed or written before the first question."""
        self.sessions = sessions
        self.name = next(iter(sessions))
        self.system = system
        self.log = log

    @property
    def session(self) -> ChatSession:
        """The session that answers."""
        return self.sessions[self.name]

    def messages(self, history: Sequence[Message]) -> list[Message]:
        """Return the history after the system message, if there is one."""
        return [*([Message("system", self.system)] if self.system else []), *history]

    def ask(
        self,
        history: Sequence[Message],
        question: str,
        options: SamplingArguments,
        name: str | None = None,
    ) -> Answer:
        """Return the answer as ChatSession.ask does; when its last piece is read it is logged.

        name: of the session that answers, if it is not the chosen one.
        """
        name = name or self.name
        messages = self.messages([*history, Message("user", question)])
        answer = self.sessions[name].ask(messages, options)
        answer.pieces = self._logged(answer, answer.pieces, messages, (name, options))
        return answer

    def _logged(
        self,
        answer: Answer,
        pieces: Iterator[str],
        messages: list[Message],
        asked: tuple[str, SamplingArguments],
    ) -> Iterator[str]:
        started = time.monotonic()
        yield from pieces
        if self.log is not None:
            self.log.write(messages, answer, asked, time.monotonic() - started)
