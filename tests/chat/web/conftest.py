"""A browser with the chat page open, and the scripted server that it is from."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import Browser, find_chromium
from tests.chat.web.fake_server import FakeServer

IS_BUSY = "document.getElementById('send').hidden"
IS_COMING = "document.querySelector('.answer[aria-busy=true]')"


class ChatPage:
    """The page as a person uses it."""

    def __init__(self, browser: Browser, server: FakeServer) -> None:
        self.browser, self.server = browser, server

    def open(self, width: int = 1280, fragment: str = "") -> None:
        """Load the page; what the browser keeps stays."""
        self.browser.open(f"{self.server.address}{fragment}", width)
        self.browser.wait("document.querySelector('#model').options.length || " + self.FAILURE)

    FAILURE = "document.querySelector('.failure')"

    def send(self, question: str) -> None:
        """Ask and do not wait for the answer."""
        self.browser.click("#ask")
        self.browser.type(question)
        self.browser.press("Enter")

    def ask(self, question: str) -> None:
        """Ask and wait until all answers have ended."""
        self.send(question)
        self.wait_for_answers()

    def wait_for_answers(self) -> None:
        """Wait until nothing is being written."""
        self.browser.wait(f"!{IS_BUSY} && !{IS_COMING}")

    def compare(self, other: str) -> None:
        """Choose the second model."""
        self.choose("other", other)

    def choose(self, field: str, value: str) -> None:
        """Choose an option of a select."""
        self.browser.evaluate(
            f"document.getElementById('{field}').value = {json.dumps(value)};"
            f"document.getElementById('{field}').dispatchEvent(new Event('change'))"
        )

    def act(self, action: str, within: str = ".turn:last-child .answer") -> None:
        """Click a button of an answer."""
        self.browser.click(f"{within} [data-action='{action}']")

    def texts(self, selector: str) -> list[str]:
        """What the visible elements of a selector say."""
        return self.browser.evaluate(
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            ".filter((one) => one.checkVisibility()).map((one) => one.innerText.trim())"
        )

    def answers(self) -> list[str]:
        """The texts of all answers shown."""
        return self.texts(".answer .text")

    def questions(self) -> list[str]:
        """The texts of all questions shown."""
        return self.texts(".asked")

    def asked(self) -> list[list[str]]:
        """The contents of the messages of each request for an answer."""
        return [[one["content"] for one in body["messages"]] for body in self.server.asked]

    def wait_for(self, text: str, selector: str) -> None:
        """Wait until an element says a text."""
        self.browser.wait(
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            f".some((one) => one.checkVisibility() && one.innerText.includes({json.dumps(text)}))"
        )

    def problems(self) -> list[str]:
        """What the console shows but for the statuses that a test wanted, which browsers log."""
        return [one for one in self.browser.problems if "Failed to load resource" not in one]


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with FakeServer() as one:
        thread = threading.Thread(target=one.serve_forever, daemon=True)
        thread.start()
        yield one
        one.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium is installed")
    with Browser(chromium, tmp_path_factory.mktemp("browser")) as one:
        agent: dict[str, Any] = one.call("Browser.getVersion")
        one.call(
            "Emulation.setUserAgentOverride", userAgent=agent["userAgent"], acceptLanguage="en-US"
        )
        yield one


@pytest.fixture
def page(
    browser: Browser, server: FakeServer, request: pytest.FixtureRequest
) -> Iterator[ChatPage]:
    """The page, new to the browser, in English. Its width is the parameter, 1280 without one."""
    server.reset()
    one = ChatPage(browser, server)
    one.open(getattr(request, "param", 1280))
    yield one
    browser.evaluate("localStorage.clear(); sessionStorage.clear()")
    assert one.problems() == []
