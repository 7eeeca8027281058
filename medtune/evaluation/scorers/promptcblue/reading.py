"""What a parser of generated text is given and gives back, and how literals in it are read."""

import ast
import warnings
from dataclasses import dataclass, field
from typing import Any

HEAD, MAY_2023 = GENERATIONS = ("head", "2023-05")
OFFICIAL, STRICT = MODES = ("official", "strict")

# MemoryError is what CPython's parser raises for an expression that is nested too deeply.
NOT_LITERAL = (ValueError, TypeError, SyntaxError, MemoryError, RecursionError)


class Malformed(Exception):
    """A text that the official code stops at; the message says why."""


@dataclass(frozen=True)
class Parsed:
    """A generated text as the structure that is scored."""

    answer: Any
    """list of dicts, label, text or sections, by task; None scores 0 whatever the gold is."""
    malformed: str | None = None
    """Why the official code stops at this text; None if it does not."""
    unread: tuple[str, ...] = ()
    """What the official parser passes over or replaces without a word."""


@dataclass
class Reading:
    """How one text is to be read, and what was passed over."""

    choices: Any = None
    """The row's `answer_choices`: a list, or whatever else a predictions file holds there."""
    generation: str = HEAD
    is_strict: bool = False
    """True: what is not among the choices stays as it is, and so scores as wrong."""
    unread: list[str] = field(default_factory=list)

    def listed_choices(self) -> list[Any]:
        """Return the choices. Raises Malformed if they are no list."""
        if not isinstance(self.choices, list):
            found = type(self.choices).__name__
            raise Malformed(f"answer_choices: expected a list, found {found}")
        return self.choices

    def is_choice(self, text: str) -> bool:
        """True if a text is among the choices; of a string that means: a part of it.

        Raises Malformed if the choices are neither a list nor a string.
        """
        if isinstance(self.choices, list | str):
            return text in self.choices
        raise Malformed(f"answer_choices: expected a list, found {type(self.choices).__name__}")


def literal(text: str) -> Any:
    """Return the value of a Python literal: numbers, strings, lists and the like, nothing run.

    Raises Malformed if the text is anything else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python does not know
            return ast.literal_eval(text)
    except NOT_LITERAL as error:
        raise Malformed(f"no literal: {type(error).__name__}") from error
