"""The judge: what is sent, what is read, and that no answer of it ends an evaluation.

Reference: a server in this process that answers as OpenAI's chat format says.
"""

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtune.common.errors import ConfigError
from medtune.data.records import Message
from medtune.evaluation.asking.judge import ASPECTS, KEY_VARIABLE, Judge, read_marks

MARKS = {"fluency": 5, "relevance": 4, "completeness": 3, "proficiency": 2}


class Server(HTTPServer):
    """Gives the prepared answers one after the other and keeps what it was sent."""

    answers: list[tuple[int, Any]]
    received: list[tuple[dict[str, Any], str | None, str]]
    headers: dict[str, str]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.append((body, self.headers["Authorization"], self.path))
        status, answer = self.server.answers.pop(0)
        self.send_response(status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def do_GET(self) -> None:
        self.server.received.append(({}, self.headers["Authorization"], self.path))
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.answers, server.received, server.headers = [], [], {}
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def said(text: str) -> tuple[int, Any]:
    return 200, {"choices": [{"message": {"content": text}}]}


def judge_at(server: Server) -> Judge:
    return Judge(f"http://127.0.0.1:{server.server_port}/v1", "m")


def ask(server: Server) -> dict[str, float] | None:
    return judge_at(server)([Message("user", "发热怎么办？")], "多喝水。", "休息。")


def test_judge_sees_case_reply_and_reference_with_the_key(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, " secret\n")
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
    [
        (500, {}),
        (200, {"choices": []}),
        (200, b"<html>"),
        (200, b"\xff"),
        said("很好"),
        (200, []),
        (200, {"choices": [{"message": {"content": None}}]}),
        (200, b"[" * 100_000),
        (99, {}),
    ],
)
def test_bad_answer_is_asked_again_and_then_left_out(server: Server, bad: tuple[int, Any]) -> None:
    server.answers = [bad, said(json.dumps(MARKS))]
    assert ask(server) == MARKS
    server.answers = [bad] * 3
    assert ask(server) is None
    assert len(server.received) == 5


def test_nobody_at_the_address_is_no_marks() -> None:
    assert Judge("http://127.0.0.1:9/v1", "m")([Message("user", "x")], "y", "z") is None


def test_an_answer_that_breaks_off_is_no_marks(server: Server) -> None:
    server.headers = {"Content-Length": "9999"}
    server.answers = [said(json.dumps(MARKS))] * 3

    assert ask(server) is None


# -- the key


@pytest.mark.parametrize("key", ["two\nlines", "a\rb", "a\x00b", "\x7f", "密钥", "\u2028"])
def test_a_key_that_no_header_holds_is_refused_without_showing_it(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr("os.environ", {KEY_VARIABLE: f"secret{key}secret"})
    with pytest.raises(ConfigError, match=f"^{KEY_VARIABLE}: expected") as error:
        Judge("http://127.0.0.1:9/v1", "m")

    assert "secret" not in str(error.value)


@pytest.mark.parametrize("answer", [(401, b"no secret here"), (200, b"secret"), said("secret")])
def test_the_key_stays_out_of_the_log(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    answer: tuple[int, Any],
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    server.answers = [answer] * 3
    with caplog.at_level(logging.DEBUG):
        assert ask(server) is None

    assert "gave no marks" in caplog.text
    assert "secret" not in caplog.text


def test_an_error_is_logged_by_its_type_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("Invalid header value b'Bearer secret'")

    monkeypatch.setattr("medtune.evaluation.asking.judge.urlopen", fail)

    assert Judge("http://127.0.0.1:9/v1", "m")([Message("user", "x")], "y", "z") is None
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text


def test_the_key_does_not_follow_to_another_address(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    server.headers = {"Location": f"http://localhost:{server.server_port}/elsewhere"}
    server.answers = [(302, {})] * 3

    assert ask(server) is None
    keys = {path: key for _, key, path in server.received}
    assert keys == {"/v1/chat/completions": "Bearer secret", "/elsewhere": None}


# -- the address


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8000/v1",
        "ftp://host/v1",
        "http:///v1",
        "http://:8000/v1",
        "http://host:port/v1",
        "http://host:99999/v1",
        "http://[::1/v1",
        "http://ho st/v1",
        "http://host/v1\n",
        "http://me:secret@host/v1",
        "http://host/v1?key=secret",
        "",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="^--judge_url: expected an address") as error:
        Judge(url, "m")

    assert "secret" not in str(error.value)


@pytest.mark.parametrize("content", [json.dumps(MARKS), "很好"])
def test_check_asks_once_and_takes_any_chat_completion(server: Server, content: str) -> None:
    server.answers = [said(content)]
    judge_at(server).check()

    assert len(server.received) == 1


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ((404, {}), "HTTPError 404"),
        ((200, b"<html>"), "JSONDecodeError"),
        ((200, {"error": "no such model"}), "KeyError"),
    ],
)
def test_check_names_what_came_instead(server: Server, answer: tuple[int, Any], found: str) -> None:
    server.answers = [answer]
    with pytest.raises(ConfigError, match=rf"^--judge_url http.*/v1: expected .*, found {found};"):
        judge_at(server).check()

    assert len(server.received) == 1


def test_check_finds_that_nobody_is_there() -> None:
    with pytest.raises(ConfigError, match="found URLError of ConnectionRefusedError"):
        Judge("http://127.0.0.1:9/v1", "m").check()


# -- marks


@pytest.mark.parametrize(
    "written",
    [
        '"fluency": "4"',
        "fluency: 4.0",
        "**fluency**: 4",
        "**Fluency:** 4",
        "fluency：4分",
        "fluency: 4.",
        "fluency: 4/5",
        "fluency: 4 / 5",
        "'fluency' : '4'",
    ],
)
def test_a_mark_is_read_as_models_write_it(written: str) -> None:
    assert read_marks(f"{written}, {rest_of_marks()}") == {**MARKS, "fluency": 4}


@pytest.mark.parametrize("mark", ["4.5", "4.05", "6", "0", "45", "4/10", "4/50", '"4.5"', "-4"])
def test_what_is_no_mark_of_1_to_5_is_refused(mark: str) -> None:
    assert read_marks(f"fluency: {mark}, {rest_of_marks()}") is None


def rest_of_marks() -> str:
    return json.dumps({name: mark for name, mark in MARKS.items() if name != "fluency"})


@given(st.text() | st.sampled_from(['{"fluency": 6, "relevance": 4}', "fluency: 4.5"]))
def test_marks_are_four_whole_numbers_of_1_to_5_or_none(text: str) -> None:
    marks = read_marks(text)
    assert marks is None or set(marks) == set(ASPECTS)
    assert read_marks(text + json.dumps({**MARKS, "proficiency": 7})) is None or marks
