"""Every word in both languages, and numbers as people read them."""

import re
from string import Formatter

import pytest

from medtune.evaluation.safety.probes import CATEGORIES
from medtune.report.texts import (
    Text,
    count,
    difference,
    duration,
    join,
    label,
    load_texts,
    number,
    quantity,
    say,
)
from tests.conftest import REPO

CHINESE = re.compile(r"[\u3400-\u9fff\u3000-\u303f\uff00-\uffef]")
NAMES = {"PT", "SFT", "DPO", "PromptCBLUE", "ROUGE-1", "ROUGE-2", "ROUGE-L", "sha256"}
# Keys that are put together from a name: what is measured, drawn, counted.
COMPOSED = (
    "model", "stage", "task", "metric", "unit", "curve", "ledger", "mix", "card", "data", "use",
    "lineage", "cost", "safety", "contamination", "models", "kind", "group", "problem",
)  # fmt: skip


def places_of(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


@pytest.mark.parametrize("key", load_texts())
def test_a_text_has_both_languages_and_the_same_places(key: str) -> None:
    text = load_texts()[key]

    assert text.zh.strip() and text.en.strip()
    assert places_of(text.zh) == places_of(text.en)
    assert key == "page.chinese" or not CHINESE.search(text.en)
    without = re.sub(r"\{\w+\}", "", text.zh)
    assert CHINESE.search(text.zh) or text.zh in NAMES or not re.search(r"[a-z]{3}", without)


def test_every_text_is_used() -> None:
    sources = [*(REPO / "medtune/report").rglob("*.py"), *(REPO / "medtune/report").rglob("*.html")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    unused = [
        key
        for key in load_texts()
        if f'"{key}"' not in code and f"'{key}'" not in code and key.split(".")[0] not in COMPOSED
    ]

    assert unused == []


def test_an_unknown_text_is_an_error_and_an_unknown_name_is_itself() -> None:
    with pytest.raises(KeyError):
        say("no.such.text")
    assert label("task", "their_own_task") == "their_own_task"


def test_every_category_of_the_probes_has_a_name() -> None:
    for category in CATEGORIES:
        assert CHINESE.search(Text(*label("group.category", category)).zh)


def test_values_are_put_in_in_the_language_of_the_text() -> None:
    said = say("missing.evaluation", model=Text("底座", "base"))

    assert "底座" in said.zh and "base" not in said.zh
    assert "base" in said.en and "底座" not in said.en
    assert "12,345" in say("benchmark.items", num=12345).zh


def test_a_place_in_a_value_is_not_filled_in() -> None:
    assert "{num}" in say("missing.end", path="{num}").en


def test_join_keeps_both_languages() -> None:
    assert join([Text("甲", "a"), "x"], Text("、", ", ")) == ("甲、x", "a, x")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(33.798, "33.8"), (0.01234567, "0.01235"), (12345.6, "12,346"), (None, "–"), (-2.5, "−2.5"),
     (float("nan"), "–"), (float("inf"), "∞"), (float("-inf"), "−∞"), (-1e-9, "−1e-09")],
)  # fmt: skip
def test_numbers_have_four_digits(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_fractions_are_percentages_and_their_differences_points() -> None:
    assert quantity(0.5125, "fraction") == "51.2\N{NO-BREAK SPACE}%"
    assert quantity(51.25, "points") == "51.25"
    assert quantity(None, "fraction") == quantity(float("nan"), "fraction") == "–"
    assert difference(0.2, "fraction") == "+20.0"
    assert difference(-0.034, "fraction") == "−3.4"
    assert difference(2, "points") == "+2"
    assert difference(float("-inf"), "perplexity") == "−∞"


def test_times_and_counts() -> None:
    assert [duration(s) for s in (29.84, 200, 7500, None)] == [
        "29.8 s", "3 min 20 s", "2 h 05 min", "–",
    ]  # fmt: skip
    assert [count(n) for n in (0, 1234.0, None, float("nan"))] == ["0", "1,234", "–", "–"]
