"""The paths of the server, and what lies behind them.

Bare Starlette: FastAPI's checks would answer 422 and quote what was sent, and its /docs load
scripts from elsewhere; this server's three requests are read by hand.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from medtune.arguments import ChatArguments, SamplingArguments, ServingArguments
from medtune.chat.answer import ERROR
from medtune.chat.web.advice import AdviceFor, without_advice
from medtune.chat.web.bodies import read_object
from medtune.chat.web.delivery import AnswerStream, Delivery
from medtune.chat.web.preferences import PreferenceFile, read_pair
from medtune.chat.web.refusals import Refusal, json_response
from medtune.chat.web.replies import DISCLAIMER, Reply, failure
from medtune.chat.web.security import LEFT, AccessLog, Guard
from medtune.chat.web.sessions import Answer, Session
from medtune.chat.web.wishes import Wish, read_wish
from medtune.common.errors import DataError, QuestionTooLong, QueueFull
from medtune.common.log import logger
from medtune.data.records import Message

MAX_RENDERED = 4  # questions that become ids at one time; each takes the interpreter from others
RETRY_AFTER_SECONDS = 2
PAGE = Path(__file__).with_name("page")
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


class Api:
    """What is answered under /health and /v1/."""

    def __init__(
        self,
        sessions: Mapping[str, Session],
        arguments: ServingArguments,
        chat: ChatArguments,
        options: SamplingArguments,
        advice_for: AdviceFor,
    ) -> None:
        """sessions: by the names that clients know them by, the default first.

        chat: its system message is for requests without one; with its no_log no preferences are
        kept.   options: for requests that leave them out.   advice_for: the advice before the
        answer to a question, "" for none.
        """
        self.sessions = sessions
        self.options = options
        self.system = chat.system
        self.advice_for = advice_for
        self.max_queue = arguments.max_queue
        self.max_seconds = arguments.max_seconds
        self.preferences = None if chat.no_log else PreferenceFile(arguments.preferences_file)
        self.started = int(time.time())
        self.num_rendering = 0
        self._rendering = anyio.CapacityLimiter(MAX_RENDERED)

    def routes(self) -> list[Route]:
        """Return the paths of the API."""
        return [
            Route("/health", self.say_health, methods=["GET"]),
            Route("/v1/models", self.list_models, methods=["GET"]),
            Route("/v1/chat/completions", self.complete, methods=["POST"]),
            Route("/v1/preferences", self.add_preference, methods=["POST"]),
        ]

    async def say_health(self, _: Request) -> Response:
        """Say that the server lives."""
        return json_response({"status": "ok"})

    async def list_models(self, _: Request) -> Response:
        """Say which models there are, and what a page has to know."""
        english, chinese = DISCLAIMER.splitlines()
        models = [
            {"id": name, "object": "model", "created": self.started, "owned_by": "medtune"}
            for name in self.sessions
        ]
        lengths = {name: session.context_length for name, session in self.sessions.items()}
        about = {
            "disclaimer": {"zh": chinese, "en": english},
            "defaults": asdict(self.options),
            "context_length": lengths,
            "collects_preferences": self.preferences is not None,
        }
        return json_response({"object": "list", "data": models, "medtune": about})

    async def complete(self, request: Request) -> Response:
        """Answer a question, whole or in a stream."""
        wish = read_wish(await read_object(request), self.sessions, self.options)
        started = time.monotonic()
        answer = await self.ask(wish)
        seconds_left = self.max_seconds - (time.monotonic() - started)
        delivery = Delivery(answer, wish.stops, seconds_left)
        reply = Reply(wish, answer)
        if wish.is_stream:
            return AnswerStream(delivery, reply)
        watcher = asyncio.create_task(delivery.watch(request.receive))
        try:
            text = "".join([piece async for piece in delivery.pieces()])
        finally:
            watcher.cancel()
            delivery.close()
        if delivery.ended_by == ERROR:
            raise failure()
        return json_response(reply.whole(text, delivery.ended_by))

    async def ask(self, wish: Wish) -> Answer:
        """Return the answer that comes. Raises Refusal: too long, too many that wait.

        A long question takes seconds to become ids, in a thread: nobody else waits for that.
        """
        try:
            if self.num_rendering >= MAX_RENDERED + self.max_queue:
                raise QueueFull("too many questions wait; ask again in a while.")
            self.num_rendering += 1  # here, for the limiter counts them only later
            try:
                return await anyio.to_thread.run_sync(self.ask_now, wish, limiter=self._rendering)
            finally:
                self.num_rendering -= 1
        except QuestionTooLong as error:
            code = "context_length_exceeded"
            raise Refusal(400, str(error), param="messages", code=code) from error
        except DataError as error:
            logger.warning("%s", error)  # it names the model's folder
            sentence = "the model's chat template refuses these messages; ask without a system one."
            raise Refusal(400, sentence, param="messages") from error
        except QueueFull as error:
            headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
            raise Refusal(429, str(error), code="queue_full", headers=headers) from error

    def ask_now(self, wish: Wish) -> Answer:
        """Ask the session for what was said alone, without the advice put before answers."""
        messages = list(wish.messages)
        for number, (role, content) in enumerate(messages):
            if role == "assistant":
                question = messages[number - 1].content
                said = without_advice(content, question, self.advice_for)
                messages[number] = Message(role, said)
        if self.system and messages[0].role != "system":
            messages.insert(0, Message("system", self.system))
        return self.sessions[wish.model].ask(messages, wish.options)

    async def add_preference(self, request: Request) -> Response:
        """Keep which of two answers is the better one."""
        if self.preferences is None:
            raise Refusal(404, "preferences are not kept here (--no_log True).")
        body = await read_object(request)
        await anyio.to_thread.run_sync(self.keep, self.preferences, body, limiter=self._rendering)
        return json_response({"kept": True}, HTTPStatus.CREATED)

    def keep(self, preferences: PreferenceFile, body: dict[str, Any]) -> None:
        """Read a preference and write it to the file. Raises Refusal."""
        row = read_pair(body, self.advice_for)
        row["system"] = row["system"] or self.system or ""  # as it was asked
        preferences.add(row)


def build_app(
    api: Api, arguments: ServingArguments, port: int, page_folder: Path = PAGE
) -> ASGIApp:
    """Return the whole server. port: the one that is listened at."""
    routes = api.routes() + (page_routes(page_folder) if arguments.web else [])
    handlers: dict[Any, Any] = {
        Refusal: answer_refusal,
        HTTPException: answer_http_error,
        ClientDisconnect: answer_nobody,
        Exception: answer_defect,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return AccessLog(Guard(app, arguments, port))


def page_routes(folder: Path) -> list[Route]:
    """Return a path for each file of the page, read once: no request ever names a file."""
    routes = []
    for file in sorted(folder.iterdir()):
        if file.suffix in TYPES:
            path = "/" if file.name == "index.html" else f"/{file.name}"
            response = Response(file.read_bytes(), media_type=TYPES[file.suffix])
            routes.append(Route(path, response, methods=["GET"]))
    return routes


# -- what is answered instead of a result


async def answer_refusal(_: Request, error: Refusal) -> Response:
    """Say what is wrong with a request."""
    return error.response()


async def answer_http_error(_: Request, error: HTTPException) -> Response:
    """Say that there is no such path, or not with this method."""
    message = f"{HTTPStatus(error.status_code).phrase}; docs/chat.md lists what there is."
    return Refusal(error.status_code, message, headers=dict(error.headers or {})).response()


async def answer_nobody(_: Request, __: ClientDisconnect) -> Response:
    """Note for the log that the client was gone."""
    return Response(status_code=LEFT)


async def answer_defect(_: Request, __: Exception) -> Response:
    """Say nothing of what went wrong: the log does."""
    return Refusal(500, "a defect of the server; its log says where.").response()
