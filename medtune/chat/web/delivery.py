"""An answer on its way to a client: no longer than it is wanted, and not for ever."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from medtune.chat.answer import CANCEL, ERROR, STOP
from medtune.chat.web.refusals import to_json
from medtune.chat.web.replies import TIME, Reply, failure
from medtune.chat.web.sessions import Answer

COLLECTED_SECONDS = 0.02  # text that comes within is sent together


class Delivery:
    """The pieces of an answer, which is cancelled when its time is up or nobody wants it."""

    def __init__(self, answer: Answer, stops: tuple[str, ...], max_seconds: float) -> None:
        """To be made in the event loop. stops: texts that end the answer, no part of it."""
        self.answer = answer
        self.stops = stops
        self.ended_by = ""  # known when the last piece was read
        self._broken_off_by = ""
        self._changed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wake() -> None:
            if self._changed.is_set():  # it is awake already; each call costs both threads time
                return
            with suppress(RuntimeError):  # the loop ended before the model did
                loop.call_soon_threadsafe(self._changed.set)

        answer.listen(wake)
        self._timer = loop.call_later(max_seconds, self.break_off, TIME)

    async def pieces(self) -> AsyncIterator[str]:
        """Yield the text as it comes."""
        num_sent = 0
        while not self.ended_by:
            await self._changed.wait()
            self._changed.clear()
            # Before the text: after it is set nothing is added.
            ended_by = self._broken_off_by or self.answer.ended_by
            text, is_stopped = cut_at(self.answer.text, self.stops, is_over=bool(ended_by))
            if len(text) > num_sent:
                yield text[num_sent:]
                num_sent = len(text)
            self.ended_by = STOP if is_stopped else ended_by
            if not self.ended_by:
                await asyncio.sleep(COLLECTED_SECONDS)
        self.close()

    async def watch(self, receive: Receive) -> None:
        """Break the answer off when the client leaves."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.break_off(CANCEL)

    def break_off(self, reason: str) -> None:
        """End it now, whenever the model finds the time to see that."""
        if not self.answer.ended_by:  # a client that reads slowly has all of it even so
            self._broken_off_by = reason
        self._changed.set()
        self.close()

    def close(self) -> None:
        """Let the model stop, if it has not."""
        self._timer.cancel()
        self.answer.cancel()


class AnswerStream(StreamingResponse):
    """An answer as server-sent events. It is cancelled if the client leaves, or never listened."""

    def __init__(self, delivery: Delivery, reply: Reply) -> None:
        """Send nothing yet."""
        self.delivery = delivery
        super().__init__(events(delivery, reply), media_type="text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all, or what the client stays for."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.delivery.close()


async def events(delivery: Delivery, reply: Reply) -> AsyncIterator[str]:
    """Yield the events of a stream; a model that fails ends it with an error."""
    yield event(to_json(reply.first()))
    async for piece in delivery.pieces():
        yield event(to_json(reply.piece(piece)))
    if delivery.ended_by == ERROR:
        yield event(to_json(failure().body))
        return
    for chunk in reply.last(delivery.ended_by):
        yield event(to_json(chunk))
    yield event("[DONE]")


def event(data: str) -> str:
    """Return an event of a stream."""
    return f"data: {data}\n\n"


def cut_at(text: str, stops: tuple[str, ...], is_over: bool) -> tuple[str, bool]:
    """Return what may be sent of a text, and whether one of `stops` ends it.

    While it grows, an end that a stop may begin with is held back.
    Example: ("a. EN", ("END",), False) -> ("a. ", False).
    """
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    if places:
        return text[: min(places)], True
    if is_over:
        return text, False
    num_held = max(
        (n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0
    )
    return text[: len(text) - num_held], False
