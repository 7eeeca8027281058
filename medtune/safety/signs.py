"""The table of red flags, read from red_flags.yaml: kinds of emergency, their signs, their advice.

The head of red_flags.yaml says how a sign is written. Here a sign becomes regular expressions, and
signs are laid out by their first character, so that a text is gone through once.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

TABLE = Path(__file__).with_name("red_flags.yaml")
# "不停" and the like deny nothing: there another sign stands for 不, in the table's patterns and in
# the text that is searched; never in the advice, which people read.
NO_NEGATION = re.compile("不(?=[停断时知由住光仅]|小心)")
NO_NEGATION_SIGN = "丕"
GAP = r"[^,。!?;\n没不无未]{0,8}?"  # between two parts of a sign: no end of a clause, no negation
NAME = re.compile(r"<(\w+)>")
BRACKETS = {"(": 1, "[": 1, ")": -1, "]": -1}


class TableError(ValueError):
    """A line of the table that cannot be used; the message says what was expected and found."""


@dataclass(frozen=True)
class Sign:
    """Words that tell of an emergency: `lead`, with all of `others` near it and not `unless`."""

    kind: int
    """Number of its kind in the table; the lower, the sooner it is answered."""
    lead: re.Pattern[str]
    others: tuple[re.Pattern[str], ...]
    unless: re.Pattern[str] | None


@dataclass(frozen=True)
class Kind:
    """A kind of emergency."""

    name: str
    advice: str
    """In Chinese, and one line in English."""
    counts_even_if: frozenset[str]
    """Readings (medtune.safety.context) that do not take back a sign of this kind."""


@dataclass(frozen=True)
class Table:
    """All of red_flags.yaml."""

    kinds: tuple[Kind, ...]
    signs_of: dict[str, tuple[Sign, ...]]
    """First character of a sign -> the signs that may begin with it, in the order of the table."""
    begins: dict[str, re.Pattern[str]]
    """First character -> whether any of its signs begins here (one match tells it)."""
    firsts: re.Pattern[str]
    harmless: re.Pattern[str]
    spellings: dict[str, str]
    simplified: dict[int, int]


def load_table() -> Table:
    """Return the table. Raises TableError for a sign that cannot be used.

    Each kind's `title` is left unread: it is a heading for people who read the file.
    """
    raw = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    words = {name: as_searched(pattern) for name, pattern in raw["words"].items()}
    kinds, signs_of = [], defaultdict(list)
    for number, entry in enumerate(raw["kinds"]):
        kinds.append(
            Kind(
                entry["kind"],
                f"{entry['advice']}\n{entry['english']}",
                frozenset(entry.get("counts_even_if", ()))
                | (frozenset() if entry.get("mild_may_wait") else {"mild"}),
            )
        )
        for text in as_searched(entry["signs"]).splitlines():
            sign, firsts = read_sign(text, number, words)
            for first in firsts:
                signs_of[first].append(sign)
    return Table(
        tuple(kinds),
        {first: tuple(signs) for first, signs in signs_of.items()},
        {
            first: re.compile("|".join(sign.lead.pattern for sign in signs))
            for first, signs in signs_of.items()
        },
        re.compile("[" + "".join(map(re.escape, signs_of)) + "]"),
        re.compile("|".join(as_searched(raw["harmless"]).splitlines())),
        raw["spellings"],
        str.maketrans(raw["traditional"], raw["simplified"]),
    )


def as_searched(text: str) -> str:
    """Return a text or a pattern with the 不 that denies nothing replaced."""
    return NO_NEGATION.sub(NO_NEGATION_SIGN, text)


def read_sign(text: str, kind: int, words: dict[str, Any]) -> tuple[Sign, set[str]]:
    """Return a sign of the table and the characters that it may begin with.

    Raises TableError where it has no fixed first character or is no regular expression.
    """
    try:
        rest, _, unless = text.partition(" unless ")
        lead, *others = rest.split(" with ")
        sign = Sign(
            kind,
            re.compile(expression_of(lead, words)),
            tuple(re.compile(expression_of(other, words)) for other in others),
            re.compile(expression_of(unless, words)) if unless else None,
        )
        firsts = set(first_characters(lead.split("…")[0], words))
    except (re.error, KeyError, TableError) as error:
        raise TableError(f"{TABLE.name}: cannot use the sign {text!r}: {error}") from error
    return sign, firsts


def expression_of(text: str, words: dict[str, Any]) -> str:
    """Return the regular expression of one side of "with" or "unless"."""
    parts = []
    for part in text.split("…"):
        part = NAME.sub(lambda match: f"(?:{words[match[1]]})", part)
        parts.append("(?:" + "|".join(map(whole, alternatives(part))) + ")")
    return GAP.join(parts)


def whole(word: str) -> str:
    """Return a word's expression; an English one does not match within another word."""
    if word[:1].isascii() and word[:1].isalpha():
        return rf"(?<![a-z])(?:{word})(?![a-z])"
    return word


def alternatives(part: str) -> list[str]:
    """Split at each "|" that is not within brackets."""
    found, depth = [""], 0
    for character in part:
        depth += BRACKETS.get(character, 0)
        if character == "|" and depth == 0:
            found.append("")
        else:
            found[-1] += character
    return found


def first_characters(part: str, words: dict[str, Any]) -> Iterator[str]:
    """Yield each character that a part of a sign may begin with."""
    for word in alternatives(part):
        name = NAME.match(word)
        if name:
            yield from first_characters(words[name[1]], words)
        elif word.startswith("["):
            yield from word[1 : word.index("]")]
        elif word.startswith("(?:"):
            yield from first_characters(word[3 : end_of_group(word)], words)
        elif not word or word[0] in "(.\\?*" or word[1:2] in ("?", "*", "{"):
            raise TableError(f"expected a plain first character, found {word!r}")
        else:
            yield word[0]


def end_of_group(word: str) -> int:
    """Return where the bracket closes that a word begins with."""
    depth = 0
    for at, character in enumerate(word):
        depth += BRACKETS.get(character, 0)
        if depth == 0:
            return at
    raise TableError(f"expected a closing bracket in {word!r}")
