"""The words of a rule: a regular expression, or the name of a shared vocabulary.

    "活动性出血"          this text (a regular expression)
    "EMERGENCY"           any pattern of this vocabulary
    "ADVISES:四环素|它"   any pattern of a vocabulary that has a slot, about this subject

`vocabularies.json` holds, for each name, its meaning, its patterns (`{}` is the slot) and whether
only what is urged at once and without condition counts (`at_once`).
"""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

VOCABULARIES: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("vocabularies.json").read_text(encoding="utf-8")
)
NAME = re.compile(r"([A-Z][A-Z_]+)(?::(.+))?", re.DOTALL)
SLOT = "{}"


class PatternError(ValueError):
    """A rule that cannot be used; the message says what was expected and found."""


@dataclass(frozen=True)
class Pattern:
    """Something to look for in a clause."""

    text: str
    """As written in the rule."""
    expression: re.Pattern[str]
    at_once: bool
    """True if it counts only where it is urged without condition and delay."""


@lru_cache(maxsize=4096)
def compile_pattern(text: str) -> Pattern:
    """Return the pattern that a text of a rule stands for.

    Raises PatternError for an unknown vocabulary, a subject that is missing or not asked for, and
    an expression that does not compile or matches nothing at all.
    """
    match = NAME.fullmatch(text)
    if not match:
        return Pattern(text, _compile(text, text), at_once=False)
    name, subject = match.groups()
    if name not in VOCABULARIES:
        raise PatternError(f"expected a vocabulary of {sorted(VOCABULARIES)}, found {name!r}")
    vocabulary = VOCABULARIES[name]
    joined = "|".join(f"(?:{pattern})" for pattern in vocabulary["patterns"])
    has_slot = SLOT in joined
    if has_slot != (subject is not None):
        wanted = f"'{name}:subject'" if has_slot else f"'{name}' without a subject"
        raise PatternError(f"expected {wanted}, found {text!r}")
    if subject is not None:
        _compile(subject, text)
        joined = joined.replace(SLOT, f"(?:{subject})")
    return Pattern(text, _compile(joined, text), vocabulary.get("at_once", False))


def _compile(expression: str, text: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(expression, re.IGNORECASE)  # answers are read without case
    except re.error as error:
        raise PatternError(f"expected a regular expression, found {text!r}: {error}") from error
    if compiled.search(""):
        raise PatternError(f"expected words to look for, found {text!r}, which is found anywhere")
    return compiled
