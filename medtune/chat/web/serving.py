"""From options to a server that runs until it is stopped."""

import errno
import signal
import socket
import sys
from asyncio import TimerHandle, Transport
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from medtune.arguments import ServingArguments, is_loopback
from medtune.chat.web.security import ALL_ADDRESSES
from medtune.chat.web.server import Api, build_app
from medtune.common.errors import ConfigError
from medtune.common.log import logger

MAX_HEADER_SECONDS = 10
LAST_SECONDS = 1  # that answers under way have when the server is stopped


def serve(api: Api, arguments: ServingArguments) -> None:
    """Answer requests until Ctrl-C or SIGTERM; the first line of standard output is the address.

    Raises ConfigError: nothing can listen at --host and --port.
    """
    listener = listen(arguments.host, arguments.port)
    port = listener.getsockname()[1]
    app = build_app(api, arguments, port)
    sys.stdout.write(f"{address(arguments.host, port)}\n")
    sys.stdout.flush()
    logger.info("serving %s; Ctrl-C ends it", "page and API" if arguments.web else "the API")
    if arguments.api_token:
        logger.info("the page wants #token=TOKEN after its address, with the token for TOKEN")
    if not is_loopback(arguments.host):
        logger.warning("what is said travels unencrypted: put a proxy with TLS before the server")
    with signals_that_end_quietly():
        make_server(app).run([listener])


def is_asked_for(arguments: ServingArguments) -> bool:
    """True where the chat is to be held over HTTP, not at the terminal."""
    return arguments.web or arguments.api


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. port 0: a free one.   Raises ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"--port: expected a free one, found {port} in use; give another, or 0 for any."
            ) from error
        raise ConfigError(
            f"--host and --port: expected an address of this machine that may be listened at, "
            f"found {host} and {port}: {error.strerror}."
        ) from error
    # Inherited by each connection: else a small chunk waits 40 ms for the one before it.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def address(host: str, port: int) -> str:
    """Return what a browser on this machine is given."""
    if host in ALL_ADDRESSES:
        host = "localhost"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def make_server(app: ASGIApp) -> uvicorn.Server:
    """Return a server without a word of its own in the log: it could quote a request."""
    config = uvicorn.Config(
        app,
        interface="asgi3",
        loop="asyncio",
        http=PunctualProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=LAST_SECONDS,
    )
    return uvicorn.Server(config)


class PunctualProtocol(H11Protocol):
    """Closes a connection whose next request does not come in time, or whose last never ends."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Begin without a deadline."""
        super().__init__(*args, **kwargs)
        self._deadline: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait no longer if it was a request's last header."""
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        super().connection_lost(exc)
        self._forget()

    def _wait(self) -> None:
        is_idle = self.cycle is None or self.cycle.response_complete
        if not is_idle:
            self._forget()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(MAX_HEADER_SECONDS, self.transport.abort)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


@contextmanager
def signals_that_end_quietly() -> Iterator[None]:
    """Let uvicorn's own handling of Ctrl-C and SIGTERM be all: it raises them again at its end."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
