"""The judge: what is sent, what is read, and that no answer of it ends an evaluation.

Reference: a server in this process that answers as OpenAI's chat format says.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtune.data.records import Message
from medtune.evaluation.asking.judge import ASPECTS, KEY_VARIABLE, Judge, read_marks

MARKS = {"fluency": 5, "relevance": 4, "completeness": 3, "proficiency": 2}


class Server(HTTPServer):
    """Gives the prepared answers one after the other and keeps what it was sent."""

    answers: list[tuple[int, Any]]
    received: list[tuple[dict[str, Any], str | None, str]]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.append((body, self.headers["Authorization"], self.path))
        status, answer = self.server.answers.pop(0)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.answers, server.received = [], []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def said(text: str) -> tuple[int, Any]:
    return 200, {"choices": [{"message": {"content": text}}]}


def ask(server: Server) -> dict[str, float] | None:
    judge = Judge(f"http://127.0.0.1:{server.server_port}/v1", "m")
    return judge([Message("user", "发热怎么办？")], "多喝水。", "休息。")


def test_judge_sees_case_reply_and_reference_with_the_key(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    server.answers = [said(f"好的：{json.dumps(MARKS)}")]

    assert ask(server) == MARKS
    ((body, key, path),) = server.received
    assert (path, key, body["model"], body["temperature"]) == (
        "/v1/chat/completions", "Bearer secret", "m", 0,
    )  # fmt: skip
    assert all(
        text in body["messages"][1]["content"] for text in ("发热怎么办？", "多喝水。", "休息。")
    )


@pytest.mark.parametrize(
    "bad",
    [(500, {}), (200, {"choices": []}), (200, b"<html>"), (200, b"\xff"), said("很好"), (200, [])],
)
def test_bad_answer_is_asked_again_and_then_left_out(server: Server, bad: tuple[int, Any]) -> None:
    server.answers = [bad, said(json.dumps(MARKS))]
    assert ask(server) == MARKS
    server.answers = [bad] * 3
    assert ask(server) is None
    assert len(server.received) == 5


def test_nobody_at_the_address_is_no_marks() -> None:
    assert Judge("http://127.0.0.1:9/v1", "m")([Message("user", "x")], "y", "z") is None


@given(st.text() | st.sampled_from(['{"fluency": 6, "relevance": 4}', "fluency: 4.5"]))
def test_marks_are_four_whole_numbers_of_1_to_5_or_none(text: str) -> None:
    marks = read_marks(text)
    assert marks is None or set(marks) == set(ASPECTS)
    assert read_marks(text + json.dumps({**MARKS, "proficiency": 7})) is None or marks
