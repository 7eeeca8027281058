"""The JSON of a request: read no further than allowed, and not for ever."""

import asyncio
import json
from typing import Any, NoReturn

from starlette.requests import Request

from medtune.chat.web.refusals import Refusal

MAX_BYTES = 1 << 20
MAX_SECONDS = 30


async def read_object(request: Request) -> dict[str, Any]:
    """Return the object in a request's body.

    Raises Refusal: 415 no JSON by its type, 413 more than MAX_BYTES, 408 more than MAX_SECONDS,
    400 no object of JSON in UTF-8.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, "expected the content type application/json; send the header with it.")
    try:
        value = json.loads((await read_body(request)).decode("utf-8"), parse_constant=refuse_number)
    except UnicodeDecodeError as error:
        raise Refusal(400, f"expected UTF-8, found other bytes at {error.start}.") from error
    # Arrays in arrays in arrays end in a RecursionError.
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "expected JSON, found something else.") from error
    if not isinstance(value, dict):
        raise Refusal(400, f"expected an object of JSON, found {name_of(value)}.")
    return value


async def read_body(request: Request) -> bytes:
    """Return the bytes of a body. Raises Refusal as soon as there are too many or too few."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > MAX_BYTES:
        refuse_size()
    body = bytearray()
    try:
        async with asyncio.timeout(MAX_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BYTES:  # a chunked body declares no length
                    refuse_size()
    except TimeoutError as error:
        raise Refusal(408, f"expected the whole body within {MAX_SECONDS} seconds.") from error
    return bytes(body)


def refuse_size() -> NoReturn:
    """Raise the Refusal of a body that is too large."""
    raise Refusal(413, f"expected at most {MAX_BYTES:,} bytes, found more; send less.")


def refuse_number(name: str) -> NoReturn:
    """Raise for NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(f"{name} is no JSON")


def name_of(value: Any) -> str:
    """Return what kind of JSON a value is, without its content."""
    names = {dict: "an object", list: "an array", str: "text", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")
