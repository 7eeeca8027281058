"""Who may ask: a browser that shows our own page, and a program that knows the token.

A page elsewhere can make a person's browser send requests here. Its name cannot be made to stand
for this machine (the Host is checked), it cannot send questions (Origin, Sec-Fetch-Site, the
content type), and it cannot read answers, because no header of CORS is ever sent.
"""

import hmac
import ipaddress
import time
import traceback
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medtune.arguments import ServingArguments, is_loopback
from medtune.chat.web.refusals import Refusal
from medtune.common.log import logger
from medtune.common.text import printable

API = "/v1/"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
ALL_ADDRESSES = ("0.0.0.0", "::")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
LEFT = 499  # in the log: the client was gone before there was a status
MAX_PATH_SIGNS = 80  # in the log


class Guard:
    """Lets requests through that are meant for this server, and gives every response HEADERS."""

    def __init__(self, app: ASGIApp, arguments: ServingArguments, port: int) -> None:
        """port: the one that is listened at, also where a free one was asked for."""
        self.app = app
        self.hosts = allowed_hosts(arguments, port)
        # A page of an attacker has a name of his; an address that leads here is this server's.
        self.port_of_any_address = port if arguments.host in ALL_ADDRESSES else None
        self.token = arguments.api_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with the refusal."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            self.check(scope["method"], scope["path"], Headers(scope=scope))
        except Refusal as refusal:
            await refusal.response()(scope, receive, send_with_headers)
        else:
            await self.app(scope, receive, send_with_headers)

    def check(self, method: str, path: str, headers: Headers) -> None:
        """Raise Refusal for a request that is none of ours; nothing of its body is read."""
        host = headers.get("host", "").lower()
        if not self.is_ours(host):
            raise Refusal(
                421,
                "expected the server's own name in the Host header, found another; call it as its "
                "start says, or name it with --allowed_hosts.",
            )
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
            raise Refusal(403, "expected a request from this server's own page, found another's.")
        if method == "POST" and headers.get("sec-fetch-site", "none") not in (
            "same-origin",
            "none",
        ):
            raise Refusal(403, "expected a request from this server's own page, found another's.")
        if path.startswith(API) and not self.is_known(headers.get("authorization", "")):
            raise Refusal(
                401,
                "expected the server's token as 'Authorization: Bearer TOKEN', found none or "
                "another (on the page: #token=TOKEN after its address).",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def is_ours(self, host: str) -> bool:
        """True for a Host header that leads here by its name, or by an address where any does."""
        if host in self.hosts:
            return True
        try:
            name = urlsplit(f"//{host}")
            ipaddress.ip_address(name.hostname or "")
            return self.port_of_any_address == (name.port or 80)
        except ValueError:
            return False

    def is_known(self, authorization: str) -> bool:
        """True where no token is asked for, or it is the right one."""
        if self.token is None:
            return True
        scheme, _, token = authorization.partition(" ")
        # Takes as long for a token that is nearly right as for any other.
        is_right = hmac.compare_digest(token.strip().encode(), self.token.encode())
        return is_right and scheme.lower() == "bearer"


def allowed_hosts(arguments: ServingArguments, port: int) -> set[str]:
    """Return the Host headers that lead to the server by a name, in lower case."""
    is_open_here = is_loopback(arguments.host) or arguments.host in ALL_ADDRESSES
    names = {arguments.host.lower(), *(LOOPBACK_NAMES if is_open_here else ())}
    names = {f"[{name}]" if ":" in name else name for name in names}
    return {
        *(f"{name}:{port}" for name in names),
        *(names if port == 80 else ()),
        *(name.lower() for name in arguments.allowed_hosts),
    }


class AccessLog:
    """Logs a line for each request: method, path, status, milliseconds; never what was said.

    A defect is logged as the kind of error and where it arose: its message may quote the request.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Stand outside of all that may refuse a request."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; the line comes when the response is over."""
        started = time.monotonic()
        status = LEFT

        async def send_and_note(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        except ClientDisconnect:
            pass
        except Exception as error:
            logger.error("%s", describe_defect(error))
        finally:
            path = printable(scope["path"][:MAX_PATH_SIGNS])[:MAX_PATH_SIGNS]
            milliseconds = (time.monotonic() - started) * 1000
            logger.info("%s %s %d %.0f ms", scope["method"], path, status, milliseconds)


def describe_defect(error: Exception) -> str:
    """Return the kind of an error and the lines that led to it, without its message."""
    places = [
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    return f"a defect: {type(error).__name__} at {' > '.join(places)}"
