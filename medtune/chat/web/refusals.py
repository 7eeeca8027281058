"""How a request is refused: a status, and a body in the form of OpenAI's errors."""

import json
from typing import Any

from starlette.responses import Response

KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
# Line ends to some clients of a stream, and none to JSON.
LINE_ENDS = str.maketrans({sign: f"\\u{ord(sign):04x}" for sign in "\x85\u2028\u2029"})


class Refusal(Exception):
    """What is wrong with a request, without a word of its content beyond the names of fields."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """param: the field at fault.   code: a name of the mistake for programs."""
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.headers = headers

    @property
    def body(self) -> dict[str, Any]:
        """The object that an OpenAI client reads an error from."""
        kind = KINDS.get(self.status)
        if kind is None:
            kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return {"error": error}

    def response(self) -> Response:
        """Return the whole response."""
        return json_response(self.body, self.status, self.headers)


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a response of JSON."""
    return Response(to_json(value), status, headers, media_type="application/json")


def to_json(value: Any) -> str:
    """Return JSON on one line, by anybody's notion of a line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).translate(LINE_ENDS)
