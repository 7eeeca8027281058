"""A server's start and end, as a program of its own."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest

from medtune.arguments import ServingArguments
from medtune.chat.web.serving import address, is_asked_for, listen
from medtune.common.errors import ConfigError
from tests.conftest import REPO

PROGRAM = """
import sys
from medtune.arguments import ChatArguments, SamplingArguments, ServingArguments
from medtune.chat.web.server import Api
from medtune.chat.web.serving import serve
from medtune.common.errors import run_script
from tests.chat.web.serving import FakeSession, advice_for

def main(argv):
    session = FakeSession(*["a"] * 100_000, pause=0.02)
    arguments = ServingArguments(api=True, port=0, preferences_file=argv[0])
    chat, options = ChatArguments(), SamplingArguments()
    serve(Api({"tiny": session}, arguments, chat, options, advice_for), arguments)

run_script(main)
"""


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder / "votes.jsonl")],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "WORLD_SIZE": "1"},
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_server_at_once_with_streams_open(
    tmp_path: Path, number: signal.Signals
) -> None:
    body = {"messages": [{"role": "user", "content": "?"}], "stream": True}
    with start(tmp_path) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        request = urllib.request.Request(
            f"{url}v1/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as stream:
            assert stream.readline().startswith(b"data: ")
            started = time.monotonic()
            server.send_signal(number)
            with suppress(HTTPException):
                while stream.readline():
                    pass
            seconds = time.monotonic() - started
        output, errors = server.communicate(timeout=60)  # the interpreter takes its time to leave

    assert (server.returncode, output) == (0, "")
    assert seconds < 3
    assert "serving the API" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "votes.jsonl").exists()


def test_taken_port_is_said_in_a_sentence() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            listen("127.0.0.1", port)

    assert str(caught.value) == (
        f"--port: expected a free one, found {port} in use; give another, or 0 for any."
    )


@pytest.mark.parametrize("host", ["203.0.113.1", "no-such-host.invalid"])
def test_address_that_is_not_this_machines_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match=f"--host and --port: .*found {host} and 0"):
        listen(host, 0)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:80/"),
        ("::1", "http://[::1]:80/"),
        ("0.0.0.0", "http://localhost:80/"),
    ],
)
def test_address_is_one_that_a_browser_takes(host: str, expected: str) -> None:
    assert address(host, 80) == expected


def test_page_or_api_alone_asks_for_a_server() -> None:
    assert not is_asked_for(ServingArguments())
    assert is_asked_for(ServingArguments(web=True))
    assert is_asked_for(ServingArguments(api=True))
