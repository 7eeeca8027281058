"""The page in a headless Chromium: both languages, both widths, no error, nothing cut off."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from medtune.report.options import ReportArguments
from medtune.report.texts import LANGUAGES, load_texts
from medtune.report.writing import write_report
from tests.browser import BESIDE, CONTRAST, Browser, find_chromium

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

HEADINGS = """[...document.querySelectorAll("h2")].filter(
  (heading) => heading.getClientRects().length && heading.innerText.trim()
).map((heading) => heading.innerText.trim())"""


@pytest.fixture(scope="module")
def page(whole_chain: Path) -> str:
    write_report(ReportArguments(outputs=str(whole_chain), profile="tiny"))
    return (whole_chain / "tiny-report.html").resolve().as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert CHROMIUM is not None
    with Browser(CHROMIUM, tmp_path_factory.mktemp("browser")) as one:
        yield one


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_shows_all_parts_without_an_error(
    browser: Browser, page: str, width: int, language: str
) -> None:
    browser.open(f"{page}#lang={language}", width)
    titles = {getattr(t, language) for k, t in load_texts().items() if k.startswith("section.")}

    assert set(browser.evaluate(HEADINGS)) == titles
    assert browser.evaluate(BESIDE) == []
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert browser.problems == []
    assert browser.requests == [page]


def test_a_wide_table_scrolls_in_its_own_box(browser: Browser, page: str) -> None:
    browser.open(page, 390)

    assert browser.evaluate(
        "[...document.querySelectorAll('.scroll')].some((box) => box.scrollWidth > box.clientWidth)"
    )


def test_the_button_switches_the_language_and_it_is_remembered(browser: Browser, page: str) -> None:
    browser.open(f"{page}#lang=zh", 1280)
    browser.evaluate("localStorage.clear(); document.getElementById('language').click()")
    switched = browser.evaluate("[document.title, document.documentElement.lang]")
    browser.open(page, 1280)

    assert switched == ["tiny: the models before and after training", "en"]
    assert browser.evaluate("document.documentElement.dataset.language") == "en"
    browser.evaluate("localStorage.clear()")


def test_a_language_that_is_none_is_passed_over(browser: Browser, page: str) -> None:
    browser.open(f"{page}#lang=constructor", 1280)

    assert browser.evaluate("document.documentElement.dataset.language") == "zh"
    assert browser.problems == []


def test_the_filter_shows_the_questions_that_fit(browser: Browser, page: str) -> None:
    browser.open(page, 1280)
    shown = "document.querySelectorAll('.question:not([hidden])').length"
    seen = "[...document.querySelectorAll('.question')].filter(e => e.checkVisibility()).length"

    def choose(name: str, key: str, value: str | bool) -> int:
        return browser.evaluate(
            f"document.forms[0].elements.{name}.{key} = {json.dumps(value)};"
            f"document.forms[0].dispatchEvent(new Event('input')); {shown}"
        )

    assert browser.evaluate(shown) == 24
    assert browser.evaluate(seen) == 10
    assert choose("task", "value", "safety") == browser.evaluate(seen) == 12
    assert choose("changed", "checked", True) == 10
    assert choose("words", "value", "no such word") == 0
    assert choose("words", "value", "probe-10") == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(browser: Browser, page: str, scheme: str) -> None:
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.call("Emulation.setEmulatedMedia", features=media)
    browser.open(page, 1280)

    assert browser.evaluate(CONTRAST) == []
    browser.call("Emulation.setEmulatedMedia", features=[])


def test_it_prints(browser: Browser, page: str) -> None:
    browser.open(page, 1280)
    printed = browser.call("Page.printToPDF", transferMode="ReturnAsBase64")

    assert len(printed["data"]) > 50_000
    assert browser.problems == []
