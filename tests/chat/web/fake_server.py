"""A server of the chat page whose answers are scripted by words in the question.

It keeps the contract of the real one (paths, fields, headers) and needs no model. Run it to look at
the page: python -m tests.chat.web.fake_server
"""

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[3] / "medtune/chat/web/page"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DISCLAIMER = {"zh": "不是医疗器械：全文。", "en": "Not a medical device: all of it."}
ADVICE = "胸痛可能危及生命：请立即拨打 120。\nChest pain can be an emergency: call 120 now."
HOSTILE = """<img src=x onerror="alert(1)"> <script>alert(2)</script>
[x](javascript:alert(3)) <svg onload=alert(4)></svg> <b>bold</b> https://example.org/

- <iframe srcdoc="<script>alert(5)</script>"></iframe>
- `<img src=/in-code onerror=alert(6)>` and **<img src=/in-bold onerror=alert(7)>**

```html
<img src=/in-fence onerror=alert(8)>
```"""
LISTS = """饮食上可以注意：

1. **少盐**：每天不超过 5 克。
2. 多吃蔬菜、水果和全谷物，少吃肥肉。
3. 限制饮酒，控制体重，每周运动五次，每次半小时。

血压的单位写作 `mmHg`。具体目标由医生决定。"""


class FakeServer(ThreadingHTTPServer):
    """asked, preferences: the bodies that came. token: what is demanded, "" for nothing.

    failures: the statuses of the next requests, 0 for one that is answered.
    """

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.reset()

    def reset(self) -> None:
        """Forget what came and answer as at the start."""
        self.asked: list[dict[str, Any]] = []
        self.preferences: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.num_left = 0
        self.token = ""
        self.collects_preferences = True
        self.failures: list[int] = []

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.server_port}/"


def answer_to(body: dict[str, Any]) -> str:
    """The whole text that a question gets."""
    question = body["messages"][-1]["content"]
    if "hostile" in question:
        return HOSTILE
    if "list" in question or "饮食" in question:
        return LISTS
    seed = "" if body.get("temperature") == 0 else f" #{body['seed']}"
    return f"{body['model']} on {len(body['messages'])}: {question}{seed}"


class Handler(BaseHTTPRequestHandler):
    """Answers by what the question says: slow, lost, too long, hostile, chest pain, ..."""

    server: FakeServer
    protocol_version = "HTTP/1.1"  # connections stay open, for the page has many small files

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Write no log."""

    def do_GET(self) -> None:
        """The page's files and the models."""
        self.server.paths.append(self.path)
        name = "index.html" if self.path == "/" else self.path[1:]
        if self.path == "/v1/models":
            self._if_allowed(self._models)
        elif (PAGE / name).is_file() and "/" not in name:
            kind = f"{TYPES[Path(name).suffix]}; charset=utf-8"
            self._send(200, (PAGE / name).read_bytes(), {"Content-Type": kind})
        else:
            self._fail(404, "not_found")

    def do_POST(self) -> None:
        """Answers and preferences."""
        self.server.paths.append(self.path)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.server.failures.pop(0) if self.server.failures else 0
        if status:
            self._fail(status, "scripted")
        elif self.path == "/v1/preferences":
            self.server.preferences.append(body)
            self._json(201, {})
        else:
            self._if_allowed(lambda: self._answer(body))

    def _if_allowed(self, act: Any) -> None:
        wanted = f"Bearer {self.server.token}"
        if self.server.token and self.headers.get("Authorization") != wanted:
            self._fail(401, "invalid_api_key")
        else:
            act()

    def _models(self) -> None:
        names = ("tiny-glm", "sft", "dpo")
        models = [{"id": n, "object": "model", "created": 0, "owned_by": "medtune"} for n in names]
        about = {
            "disclaimer": DISCLAIMER,
            "defaults": {"temperature": 0.8, "top_p": 0.9, "max_new_tokens": 512, "seed": 42},
            "context_length": dict.fromkeys(names, 1024),
            "collects_preferences": self.server.collects_preferences,
        }
        self._json(200, {"object": "list", "data": models, "medtune": about})

    def _answer(self, body: dict[str, Any]) -> None:
        self.server.asked.append(body)
        question = body["messages"][-1]["content"]
        if "too long" in question:
            self._fail(400, "context_length_exceeded")
            return
        headers = {"Content-Type": "text/event-stream; charset=utf-8"}
        self._send(200, b"", headers | {"Cache-Control": "no-store"}, is_stream=True)
        try:
            for event in events_of(body):
                self.wfile.write(f"data: {event}\n\n".encode())
                self.wfile.flush()
        except OSError:
            self.server.num_left += 1

    def _fail(self, status: int, code: str) -> None:
        error = {"message": f"scripted {status}", "type": "error", "param": None, "code": code}
        self._json(status, {"error": error}, {"Retry-After": "3"} if status == 429 else {})

    def _json(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        kind = {"Content-Type": "application/json"}
        self._send(status, json.dumps(body).encode(), kind | (headers or {}))

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], is_stream: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        about_length = ("Connection", "close") if is_stream else ("Content-Length", str(len(body)))
        self.send_header(*about_length)
        self.end_headers()
        self.wfile.write(body)


def events_of(body: dict[str, Any]) -> Iterator[str]:
    """The data of the events of an answer."""
    question = body["messages"][-1]["content"]
    advice = ADVICE if "胸痛" in question or "chest pain" in question else ""
    about: dict[str, Any] = {"disclaimer": "", "advice": advice, "num_left_out": 0}
    yield chunk({"role": "assistant", "content": ""}, about)
    text = f"{advice}\n\n{answer_to(body)}" if advice else answer_to(body)
    for start in range(0, len(text), 5):
        yield chunk({"content": text[start : start + 5]})
        time.sleep(0.002)
    if "slow" in question:
        for number in range(400):
            yield chunk({"content": f" {number}"})
            time.sleep(0.05)
    if "lost" in question:
        return
    ended_by = "length" if "cut" in question else "stop"
    yield chunk({}, {"ended_by": ended_by}, ended_by)
    yield "[DONE]"


def chunk(delta: dict[str, str], about: dict[str, Any] | None = None, reason: str = "") -> str:
    """One event in the shape of the OpenAI API."""
    choice = {"index": 0, "delta": delta, "finish_reason": reason or None}
    event = {"object": "chat.completion.chunk", "choices": [choice]}
    return json.dumps(event | ({"medtune": about} if about else {}))


if __name__ == "__main__":
    FakeServer(8123).serve_forever()
