"""What a server lets through: by Host, Origin, token, type and size; and what its log says.

References: the bytes of requests as browsers and attackers send them.
"""

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from medtune.arguments import ServingArguments
from medtune.chat.web import bodies, serving
from medtune.chat.web.security import Guard, allowed_hosts
from medtune.common.errors import ConfigError
from medtune.common.log import logger
from tests.chat.web.serving import SECRET, FakeSession, Running, running, wait_until

TOKEN = "correct-horse-battery"
QUESTION = json.dumps({"messages": [{"role": "user", "content": "?"}]}).encode()
JSON = b"Content-Type: application/json\r\n"
PAGE = {"index.html": "<!doctype html>", "page.js": "let a;", "page.css": "a{}", "notes.txt": "no"}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    folder = tmp_path / "page"
    folder.mkdir()
    for name, text in PAGE.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """A server that no test changes."""
    with running() as server:
        yield server


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What medtune logs, whose logger passes nothing on once a script has set it up."""
    monkeypatch.setattr(logger, "propagate", True)
    caplog.set_level("DEBUG")
    return caplog


def post(headers: bytes, body: bytes = QUESTION, path: bytes = b"/v1/chat/completions") -> bytes:
    return b"POST %s HTTP/1.1\r\n%s\r\n%s" % (path, headers, body)


def with_length(server: Running, length: int = len(QUESTION)) -> bytes:
    return b"Host: %s\r\nContent-Length: %d\r\n%s" % (server.url[7:].encode(), length, JSON)


# -- who asks


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/nothing"])
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.:{port}", "[::1",
     "127.0.0.1.evil.example:{port}", "192.168.1.5:{port}", "", "a@localhost:{port}"],
)  # fmt: skip
def test_another_host_is_refused_whatever_is_asked(server: Running, host: str, path: str) -> None:
    reply = server.http.get(path, headers={"Host": host.format(port=server.place[1])})

    assert reply.status_code == 421
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert "evil" not in reply.text


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_own_names_are_let_through(server: Running, name: str) -> None:
    host = f"{name}:{server.place[1]}"
    origin = f"http://{host}"

    assert server.http.get("/health", headers={"Host": host}).status_code == 200
    for headers in ({"Origin": origin}, {"Origin": origin, "Sec-Fetch-Site": "same-origin"}):
        assert server.http.get("/health", headers={"Host": host, **headers}).status_code == 200
        reply = server.http.post(
            "/v1/chat/completions",
            content=QUESTION,
            headers={"Host": host, "Content-Type": "application/json; charset=utf-8", **headers},
        )
        assert reply.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_sites_page_may_not_ask(server: Running, headers: dict[str, str]) -> None:
    reply = server.http.post(
        "/v1/chat/completions",
        content=QUESTION,
        headers={"Content-Type": "application/json", **headers},
    )

    assert reply.status_code == 403
    if "Origin" in headers:
        for method in ("GET", "OPTIONS", "POST"):
            assert server.http.request(method, "/v1/models", headers=headers).status_code == 403


def test_no_header_ever_allows_another_origin(server: Running) -> None:
    replies = [
        server.http.get("/health"),
        server.http.get("/nothing"),
        server.http.get("/v1/models", headers={"Origin": "https://evil.example"}),
        server.http.options(
            "/v1/chat/completions",
            headers={"Origin": server.url, "Access-Control-Request-Method": "POST"},
        ),
        server.ask("?"),
        server.ask("?", stream=True),
    ]

    for reply in replies:
        assert not [name for name in reply.headers if name.startswith("access-control")]
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["content-security-policy"].startswith("default-src 'none'; ")
        assert "unsafe" not in reply.headers["content-security-policy"]
        assert "server" not in reply.headers


def test_token_is_demanded_of_the_api_and_of_nothing_else(page: Path) -> None:
    with running(api_token=TOKEN, page=page) as server:
        assert server.http.get("/").status_code == 200
        assert server.http.get("/health").status_code == 200
        assert server.ask("?").status_code == 401
        assert server.http.get("/v1/nothing").status_code == 401
        assert server.http.get("/v1/models").headers["www-authenticate"] == "Bearer"
        wrong = [f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", "Bearer é", "Bearer", TOKEN]
        for value in (*wrong, f"Basic {TOKEN}"):
            headers = {"Authorization": value.encode()}
            assert server.http.get("/v1/models", headers=headers).status_code == 401
        assert server.http.get(f"/v1/models?token={TOKEN}").status_code == 401

        assert [model.id for model in server.openai(api_key=TOKEN).models.list()][0] == "tiny"
        with pytest.raises(openai.AuthenticationError):
            server.openai(api_key="another").models.list()


def test_server_open_to_all_goes_by_addresses_and_by_given_names_alone() -> None:
    arguments = ServingArguments(
        host="0.0.0.0", api_token=TOKEN, allowed_hosts=["Chat.example", "b.example:8443"]
    )
    guard = Guard(None, arguments, 80)  # type: ignore[arg-type]

    ours = ["192.168.1.5", "192.168.1.5:80", "[fe80::1]:80", "localhost", "chat.example"]
    assert all(map(guard.is_ours, [*ours, "b.example:8443"]))
    foreign = ["192.168.1.5:81", "evil.example", "b.example", "chat.example:1", "1.2.3.4:x", ""]
    assert not any(map(guard.is_ours, foreign))
    own = ServingArguments(host="10.0.0.7", api_token=TOKEN)
    assert allowed_hosts(own, 8000) == {"10.0.0.7:8000"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"host": "0.0.0.0"}, "--host 0.0.0.0 is open to others and demands --api_token"),
        ({"host": "chat.example"}, "--host chat.example is open to others"),
        ({"api_token": "short"}, "--api_token"),
        ({"api_token": "with a blank in between"}, "--api_token"),
        ({"api_token": ""}, "--api_token"),
        ({"port": 65536}, "--port: expected 0 to 65535, found 65536."),
        ({"max_queue": 0}, "--max_queue: expected 1 or more, found 0."),
        ({"max_seconds": float("nan")}, "--max_seconds: expected above 0, found nan."),
    ],
)
def test_options_that_leave_a_door_open_are_refused(options: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ServingArguments(**options)

    assert str(caught.value).startswith(expected)
    assert "short" not in str(caught.value)


def test_token_may_come_from_the_environment_and_is_never_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MEDTUNE_TOKEN", TOKEN)

    assert ServingArguments(host="0.0.0.0").api_token == TOKEN
    assert TOKEN not in repr(ServingArguments(host="0.0.0.0"))
    for host in ("localhost", "127.0.0.2", "::1"):
        assert ServingArguments(host=host)


# -- what is asked for


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v1/models/", 404),
        ("GET", "/docs", 404),
        ("GET", "/openapi.json", 404),
        ("GET", "/", 404),
        ("POST", "/v1/models", 405),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/preferences", 405),
        ("POST", "/v1/preferences", 404),
        ("HEAD", "/health", 200),
    ],
)
def test_path_or_method_that_there_is_not(
    server: Running, method: str, path: str, status: int
) -> None:
    reply = server.http.request(method, path)

    assert reply.status_code == status
    if method != "HEAD":
        assert reply.json()["error"]["message"]


def test_page_is_served_as_what_it_is(page: Path) -> None:
    with running(page=page) as server:
        for path, kind in {"/": "html", "/page.js": "javascript", "/page.css": "css"}.items():
            reply = server.http.get(path)
            name = path.strip("/") or "index.html"
            assert (reply.status_code, reply.text) == (200, PAGE[name])
            assert reply.headers["content-type"] == f"text/{kind}; charset=utf-8"


@pytest.mark.parametrize(
    "path",
    [b"/../", b"/../conftest.py", b"/%2e%2e/", b"/%2e%2e/%2e%2e/etc/passwd", b"//etc/passwd",
     b"/page.js/../notes.txt", b"/notes.txt", b"/page.js%00", b"/..%5c..%5c", b"/index.html/",
     b"/page.js/", b"http://evil.example/"],
)  # fmt: skip
def test_no_path_leads_to_a_file_but_the_pages(page: Path, path: bytes) -> None:
    with running(page=page) as server:
        host = server.url[7:].encode()
        assert server.status(b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (path, host)) == 404
        assert server.http.get("/page.js").status_code == 200


# -- bodies


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b'"text"', 400),
        (b'{"messages": "\xff\xfe"}', 400),
        (b'\xef\xbb\xbf{"messages": 1}', 400),
        (b'{"temperature": NaN}', 400),
        (b'{"temperature": -Infinity}', 400),
        (b'{"temperature": 1e999}', 400),
        (b'{"seed": ' + b"1" * 5000 + b"}", 400),
        (b"[" * 500_000, 400),
        (b'{"a":' * 100_000, 400),
        (QUESTION[:-1] + b', "\xed\xa0\x80": 1}', 400),
        (QUESTION[:-1] + rb', "\ud800\n\u001b[2J": 1}', 400),
    ],
)
def test_body_that_is_no_request_is_400(server: Running, body: bytes, status: int) -> None:
    reply = server.http.post(
        "/v1/chat/completions", content=body, headers={"Content-Type": "application/json"}
    )

    assert reply.status_code == status
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert "\x1b" not in reply.text
    assert server.http.get("/health").status_code == 200


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "json"])
def test_body_of_another_type_is_415(server: Running, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}

    for path in ("/v1/chat/completions",):
        assert server.http.post(path, content=QUESTION, headers=headers).status_code == 415


def test_ten_megabytes_are_413_however_they_come(server: Running) -> None:
    ten = b'{"messages": "' + b"a" * 10_000_000
    headers = {"Content-Type": "application/json"}
    pieces = [ten[n : n + 65536] for n in range(0, len(ten), 65536)]

    for content in (ten, iter(pieces)):
        reply = server.http.post("/v1/chat/completions", content=content, headers=headers)
        assert reply.status_code == 413
        assert reply.json()["error"]["message"] == (
            "expected at most 1,048,576 bytes, found more; send less."
        )
    declared = post(with_length(server, len(ten)), b"")  # not one byte of it is waited for
    assert server.status(declared) == 413
    assert server.ask("?").status_code == 200


def test_body_of_exactly_the_limit_is_read(server: Running) -> None:
    for spare, status in ((0, 200), (1, 413)):
        content = QUESTION + b" " * (bodies.MAX_BYTES - len(QUESTION) + spare)
        headers = {"Content-Type": "application/json"}
        reply = server.http.post("/v1/chat/completions", content=content, headers=headers)
        assert reply.status_code == status


def test_slow_senders_hold_nobody_up_and_are_left_alone_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bodies, "MAX_SECONDS", 0.6)
    monkeypatch.setattr(serving, "MAX_HEADER_SECONDS", 0.6)
    with running() as server:
        bodiless = [server.raw(post(with_length(server), QUESTION[:5])) for _ in range(50)]
        headless = [server.raw(b"GET / HTTP/1.1\r\nHost: ") for _ in range(50)]
        silent = [server.raw(b"") for _ in range(50)]
        started = time.monotonic()
        assert server.ask("?").status_code == 200
        assert time.monotonic() - started < 0.5
        for connection in bodiless:
            assert b" 408 " in connection.recv(1000)
        for connection in (*headless, *silent):
            assert is_closed(connection)
        for connection in (*bodiless, *headless, *silent):
            connection.close()


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_connection_that_goes_on_after_its_refusal_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "MAX_HEADER_SECONDS", 0.5)
    with running() as server, server.raw(post(with_length(server, 2**40), b"")) as endless:

        def is_over() -> bool:
            try:
                endless.sendall(b" " * 65536)
            except OSError:
                return True
            time.sleep(0.05)
            return False

        assert wait_until(is_over, 5)


def test_noise_instead_of_http_is_refused_and_the_server_lives_on(server: Running) -> None:
    assert server.status(b"\x16\x03\x01\x02\x00\x01\r\n\r\n") == 400
    assert server.status(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n") == 400
    assert server.status(post(JSON)) == 400  # no Host at all
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    host = server.url[7:].encode()
    assert server.status(b"GET /health HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (host, upgrade)) == 200


# -- the log


def test_log_has_a_line_for_each_request_and_no_word_of_what_was_said(
    log: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    session = FakeSession(SECRET)
    texts = []
    with running(session, folder=tmp_path) as server:
        for error in (None, KeyError(SECRET), ValueError(f"{SECRET} {TOKEN}")):
            session.error = error
            for stream in (False, True):
                reply = server.ask(SECRET, SECRET, SECRET, stream=stream, user=SECRET)
                texts.append(reply.text if error else "")
        for wrong in ({SECRET: 1}, {"stop": {SECRET: 1}}, {"model": SECRET}, {"seed": SECRET}):
            reply = server.ask(SECRET, **wrong)
            texts.append(reply.text if SECRET not in wrong else "")
        for field in ("system", "history", "question", "chosen"):
            pair = {"question": "q", "chosen": "a", "rejected": "b", field: [SECRET]}
            texts.append(server.http.post("/v1/preferences", json=pair).text)
        headers = {"Authorization": SECRET.encode()}
        server.http.get("/v1/models", params={"q": SECRET}, headers=headers)
        server.http.get("/a%0Ab")
        server.raw(post(with_length(server), b"{")).close()
    captured = capfd.readouterr()

    ours = [record.getMessage() for record in log.records if record.name == "medtune"]
    ours = [line for line in ours if "/health" not in line]  # another test's, which came late
    lines = [line for line in ours if re.fullmatch(r"[A-Z]+ /\S* \d{3} \d+ ms", line)]
    defects = [line for line in ours if line.startswith("a defect: ")]
    assert len(lines) + len(defects) == len(ours)
    assert len(lines) == 6 + 4 + 4 + 3
    assert lines[0].startswith("POST /v1/chat/completions 200 ")
    assert len([line for line in lines if " 500 " in line]) == 4
    assert any(line.startswith(r"GET /a\nb 404 ") for line in lines)
    assert any(line.startswith("POST /v1/chat/completions 499 ") for line in lines)
    assert len(defects) == 4
    assert all("KeyError at" in line or "ValueError at" in line for line in defects)
    assert "serving.py" in defects[0]
    for text in (*texts, *ours, captured.out, captured.err):
        assert SECRET not in text
        assert TOKEN not in text


def test_client_asks_again_on_its_connection_without_a_wait(server: Running) -> None:
    """Without TCP_NODELAY each response waits 40 ms for the client to acknowledge its head."""
    started = time.monotonic()
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        for _ in range(20):
            assert client.get("/health").status_code == 200
            assert client.post("/v1/models").status_code == 405
    assert time.monotonic() - started < 1
