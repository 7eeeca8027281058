"""The page in a headless Chromium: both languages, both widths, no error, nothing cut off."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from medtune.report.options import ReportArguments
from medtune.report.texts import LANGUAGES, load_texts
from medtune.report.writing import write_report
from tests.report.browser import Browser, find_chromium

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

HEADINGS = """[...document.querySelectorAll("h2")].filter(
  (heading) => heading.getClientRects().length && heading.innerText.trim()
).map((heading) => heading.innerText.trim())"""
# What lies right of the window and is not in a box that scrolls on its own.
BESIDE = """[...document.querySelectorAll("body *")].filter((element) =>
  !element.closest(".scroll") && !element.closest("svg") && element.getClientRects().length
  && element.getBoundingClientRect().right > innerWidth + 1
).map((element) => element.outerHTML.slice(0, 80))"""
CONTRAST = """(() => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = parts(color).map((c) => c / 255)
      .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      if (parts(color)[3] !== 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const low = [];
  for (const element of document.querySelectorAll("body *:not(svg *):not(script)")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.getClientRects().length) continue;
    const [one, other] = [getComputedStyle(element).color, behind(element)].map(light);
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) low.push([ratio, element.outerHTML.slice(0, 80)]);
  }
  return low;
})()"""


@pytest.fixture(scope="module")
def page(whole_chain: Path) -> Path:
    write_report(ReportArguments(outputs=str(whole_chain), profile="tiny"))
    return whole_chain / "tiny-report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert CHROMIUM is not None
    with Browser(CHROMIUM, tmp_path_factory.mktemp("browser")) as one:
        yield one


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_shows_all_parts_without_an_error(
    browser: Browser, page: Path, width: int, language: str
) -> None:
    browser.open(page, width, f"#lang={language}")
    titles = {getattr(t, language) for k, t in load_texts().items() if k.startswith("section.")}

    assert set(browser.evaluate(HEADINGS)) == titles
    assert browser.evaluate(BESIDE) == []
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert browser.problems == []
    assert browser.requests == [f"{page.resolve().as_uri()}"]


def test_a_wide_table_scrolls_in_its_own_box(browser: Browser, page: Path) -> None:
    browser.open(page, 390)

    assert browser.evaluate(
        "[...document.querySelectorAll('.scroll')].some((box) => box.scrollWidth > box.clientWidth)"
    )


def test_the_button_switches_the_language_and_it_is_remembered(
    browser: Browser, page: Path
) -> None:
    browser.open(page, 1280, "#lang=zh")
    browser.evaluate("localStorage.clear(); document.getElementById('language').click()")
    switched = browser.evaluate("[document.title, document.documentElement.lang]")
    browser.open(page, 1280)

    assert switched == ["tiny: the models before and after training", "en"]
    assert browser.evaluate("document.documentElement.dataset.language") == "en"
    browser.evaluate("localStorage.clear()")


def test_a_language_that_is_none_is_passed_over(browser: Browser, page: Path) -> None:
    browser.open(page, 1280, "#lang=constructor")

    assert browser.evaluate("document.documentElement.dataset.language") == "zh"
    assert browser.problems == []


def test_the_filter_shows_the_questions_that_fit(browser: Browser, page: Path) -> None:
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
def test_text_stands_out_from_what_is_behind_it(browser: Browser, page: Path, scheme: str) -> None:
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.call("Emulation.setEmulatedMedia", features=media)
    browser.open(page, 1280)

    assert browser.evaluate(CONTRAST) == []
    browser.call("Emulation.setEmulatedMedia", features=[])


def test_it_prints(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    printed = browser.call("Page.printToPDF", transferMode="ReturnAsBase64")

    assert len(printed["data"]) > 50_000
    assert browser.problems == []
