"""A question to a session with what belongs to every terminal: system message, log, safe signs."""

import time
from collections.abc import Iterator, Sequence

from medtune.arguments import SamplingArguments
from medtune.chat.log import ChatLog
from medtune.chat.session import Answer, ChatSession
from medtune.common.text import printable
from medtune.data.records import Message

# Line end, tab, and the joiner that emoji are put together with: no terminal obeys them.
HARMLESS = "\n\t\u200d"


def visible(text: str) -> str:
    """Return a model's text as a terminal may get it: signs that it would obey become escapes."""
    return printable(text, HARMLESS)


class Talk:
    """A session, its system message and its log (None for no log)."""

    def __init__(self, session: ChatSession, system: str | None, log: ChatLog | None) -> None:
        """Nothing is computed or written before the first question."""
        self.session = session
        self.system = system
        self.log = log

    def messages(self, history: Sequence[Message]) -> list[Message]:
        """Return the history after the system message, if there is one."""
        return [*([Message("system", self.system)] if self.system else []), *history]

    def ask(self, history: Sequence[Message], question: str, options: SamplingArguments) -> Answer:
        """Return the answer as ChatSession.ask does; when its last piece is read it is logged."""
        messages = self.messages([*history, Message("user", question)])
        answer = self.session.ask(messages, options)
        answer.pieces = self._logged(answer, answer.pieces, messages, options)
        return answer

    def _logged(
        self,
        answer: Answer,
        pieces: Iterator[str],
        messages: list[Message],
        options: SamplingArguments,
    ) -> Iterator[str]:
        started = time.monotonic()
        yield from pieces
        if self.log is not None:
            self.log.write(messages, answer, options, time.monotonic() - started)
