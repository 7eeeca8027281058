"""A server on a real socket, with sessions whose answers a test lets come word by word."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai

from medtune.arguments import ChatArguments, SamplingArguments, ServingArguments
from medtune.chat.web.server import Api, build_app
from medtune.chat.web.serving import listen, make_server
from medtune.data.records import Message

ADVICE = "请立即拨打 120。"
SECRET = "我的秘密病情-7391"  # said in tests, and nowhere to be found afterwards


def advice_for(question: str) -> str:
    return ADVICE if "胸痛" in question else ""


@dataclass
class FakeAnswer:
    """An answer that `session.say` and `session.end` drive, as the engine's thread would."""

    prompt_ids: list[int]
    advice: str
    num_left_out: int = 0
    ids: list[int] = field(default_factory=list)
    text: str = ""
    ended_by: str = ""
    cancelled: threading.Event = field(default_factory=threading.Event)
    callbacks: list[Callable[[], None]] = field(default_factory=list)

    def cancel(self) -> None:
        if not self.ended_by:
            self.cancelled.set()

    def listen(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)
        if self.ended_by:
            callback()

    def grow(self, piece: str) -> None:
        self.text += piece
        self.ids.append(len(self.ids))
        self.tell()

    def end(self, ended_by: str) -> None:
        self.ended_by = ended_by
        self.tell()

    def tell(self) -> None:
        for callback in tuple(self.callbacks):
            callback()


class FakeSession:
    """Answers with `words`, each after `pause` seconds; ends by `ended_by`, or when cancelled.

    error: raised instead of an answer.   before: called in the thread that renders.
    """

    context_length = 1024

    def __init__(self, *words: str, pause: float = 0.0, ended_by: str = "stop") -> None:
        self.words = words
        self.pause = pause
        self.ended_by = ended_by
        self.error: Exception | None = None
        self.before: Callable[[], Any] = lambda: None
        self.asked: list[tuple[list[Message], SamplingArguments]] = []
        self.answers: list[FakeAnswer] = []

    def ask(self, messages: Sequence[Message], options: SamplingArguments) -> FakeAnswer:
        self.before()
        self.asked.append((list(messages), options))
        if self.error is not None:
            raise self.error
        answer = FakeAnswer([1, 2, 3], advice_for(messages[-1].content))
        self.answers.append(answer)
        threading.Thread(target=self.speak, args=(answer,), daemon=True).start()
        return answer

    def speak(self, answer: FakeAnswer) -> None:
        for word in self.words:
            if answer.cancelled.wait(self.pause):
                return answer.end("cancel")
            answer.grow(word)
        answer.end(self.ended_by)
        return None


@dataclass
class Running:
    """A server and its clients."""

    url: str
    session: FakeSession
    http: httpx.Client
    preferences: Path

    @property
    def place(self) -> tuple[str, int]:
        url = httpx.URL(self.url)
        return url.host, url.port or 80

    def openai(self, **options: Any) -> openai.OpenAI:
        given = {"api_key": "unused", "max_retries": 0, "timeout": 20, **options}
        return openai.OpenAI(base_url=f"{self.url}/v1", **given)

    def ask(self, *said: str, **more: Any) -> httpx.Response:
        """Send a conversation, question and answer in turn."""
        roles = ["user", "assistant"] * len(said)
        messages = [
            {"role": role, "content": text} for role, text in zip(roles, said, strict=False)
        ]
        return self.http.post("/v1/chat/completions", json={"messages": messages, **more})

    def raw(self, request: bytes) -> socket.socket:
        """A connection on which these bytes were sent."""
        connection = socket.create_connection(self.place, timeout=20)
        connection.sendall(request)
        return connection

    def status(self, request: bytes) -> int:
        """The status with which bytes are answered."""
        with self.raw(request) as connection:
            return int(connection.makefile("rb").readline().split()[1])


@contextmanager
def running(
    session: FakeSession | None = None,
    folder: Path | None = None,
    page: Path | None = None,
    **options: Any,
) -> Iterator[Running]:
    """A server that runs. folder: where preferences are kept; none without it.   options: those of
    ServingArguments, and `system`.
    """
    session = session or FakeSession("你好", "，", "世界")
    chat = ChatArguments(no_log=folder is None, system=options.pop("system", None))
    file = (folder or Path()) / "logs/preferences.jsonl"
    arguments = ServingArguments(
        port=0, web=page is not None, api=True, preferences_file=str(file), **options
    )
    sessions = {"tiny": session, "other": FakeSession("other")}
    api = Api(sessions, arguments, chat, SamplingArguments(max_new_tokens=40), advice_for)
    listener = listen(arguments.host, arguments.port)
    port = listener.getsockname()[1]
    server = make_server(build_app(api, arguments, port, *([page] if page else [])))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=20, trust_env=False) as client:
            yield Running(url, session, client, file)
    finally:
        server.should_exit = True
        thread.join(10)
    assert not thread.is_alive()


def events(response: httpx.Response) -> list[Any]:
    """The chunks of a stream, which ends as it should."""
    *chunks, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(chunk.removeprefix("data: ")) for chunk in chunks]


def wait_until(is_so: Callable[[], Any], seconds: float) -> bool:
    """True if it becomes so in time."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
