"""Every word of the page in both languages: texts.json, and numbers as people read them."""

import json
import math
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

LANGUAGES = ("zh", "en")
DIGITS = 3  # of intervals and differences
NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


class Text(NamedTuple):
    """The same words in both languages."""

    zh: str
    en: str


Words = str | Text  # data of a user or a model is the same in both languages


@cache
def load_texts() -> dict[str, Text]:
    """Return the table of texts by key."""
    content = Path(__file__).with_name("texts.json").read_text(encoding="utf-8")
    return {key: Text(*pair) for key, pair in json.loads(content).items()}


def say(key: str, **values: Words | int) -> Text:
    """Return the text of a key, its {places} filled in. KeyError for a key that is not there."""
    text = load_texts()[key]
    if not values:
        return text
    zh, en = (
        pattern.format(**{name: in_language(value, language) for name, value in values.items()})
        for pattern, language in zip(text, LANGUAGES, strict=True)
    )
    return Text(zh, en)


def label(kind: str, name: str) -> Words:
    """Return what a task, a metric or a stage is called; its own name if it has no other."""
    return load_texts().get(f"{kind}.{name}", name)


def in_language(words: Words | int, language: str) -> str:
    """Return words in one language; a count with its thousands separated."""
    if isinstance(words, Text):
        return getattr(words, language)
    return f"{words:,}" if isinstance(words, int) else words


def join(words: Iterable[Words], separator: Words = ", ") -> Text:
    """Return words in a row, in both languages."""
    parts = list(words)
    zh, en = (
        in_language(separator, language).join(in_language(part, language) for part in parts)
        for language in LANGUAGES
    )
    return Text(zh, en)


def count(value: float | None) -> str:
    """Return a whole number; a dash where nobody counted."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:,.0f}"


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with as many digits that count. Examples: 33.8 0.0123 12,345"""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "\N{INFINITY}" if value > 0 else f"{MINUS}\N{INFINITY}"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"
    return MINUS + text[1:] if text.startswith("-") else text


def quantity(value: float | None, unit: str) -> str:
    """Return a measured value in its unit: a fraction as percentage."""
    if unit == "fraction" and value is not None and math.isfinite(value):
        return f"{100 * value:.1f}\N{NO-BREAK SPACE}%".replace("-", MINUS)
    return number(value)


def difference(value: float | None, unit: str) -> str:
    """Return a difference with its sign: of fractions in percentage points."""
    if value is None or math.isnan(value):
        return NOTHING
    if unit == "fraction" and math.isfinite(value):
        return f"{100 * value:+.1f}".replace("-", MINUS)
    return number(value, DIGITS) if value < 0 else f"+{number(value, DIGITS)}"


def duration(seconds: float | None) -> str:
    """Return a time. Examples: 29.8 s, 3 min 20 s, 2 h 05 min"""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
    return f"{seconds // 3600:,.0f} h {seconds % 3600 // 60:02.0f} min"
