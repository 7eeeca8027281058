"""Evaluation files of several shapes become items: a question that must not be trained on.

Shapes: CMB-Exam (`question`, `option`), CMB-Clin (`description`, `QA_pairs`), PromptCBLUE (`input`,
`answer_choices`), and any JSON rows with one of QUESTION_FIELDS. One bad row stops the reading: an
item that is passed over is one that the training data may hold unseen.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtune.common.errors import DataError
from medtune.data.formats.checks import RowError, describe
from medtune.data.formats.files import read_json_rows
from medtune.data.records import Source

QUESTION_FIELDS = (
    "question",
    "instruction",
    "input",
    "prompt",
    "content",
    "text",
    "conversations",
    "messages",
    "conversation",
)
GAP = "\0"
ASKERS = ("user", "human", None)  # None: turns without a role
BETWEEN_CHOICES = r"(?:[\W_]|\u6216|\u548c)+"  # signs, "or", "and"


@dataclass(frozen=True, slots=True)
class EvalItem:
    """One thing that a model is asked in an evaluation.

    question: what is asked. GAP stands where something was left out (an answer in between, the
        list of choices); the pieces on both sides belong to the item.
    options: the choices, in the order of the file; empty ones are left out.
    """

    source: Source
    question: str
    options: tuple[str, ...] = ()


def read_eval_items(path: Path) -> Iterator[EvalItem]:
    """Yield the items of one file: JSON lines, or one JSON array (then the line is an index).

    A case of CMB-Clin gives an item for its description and one for each question with its answer.
    Raises DataError that starts with `file:line`: nothing there, no JSON, a row with no question.
    """
    is_empty = True
    try:
        for number, row in read_json_rows(path):
            is_empty = False
            source = Source(str(path), number)
            if isinstance(row, RowError):
                raise DataError(f"{source}: {row}")
            if not isinstance(row, dict):
                found = type(row).__name__
                raise DataError(f"{source}: expected an object {{…}}, found {found}; mend the row.")
            yield from items_from_row(row, source)
    except OSError as error:
        raise DataError(
            f"{path}: expected a file of evaluation items, found: {error.strerror}; mend the path."
        ) from error
    if is_empty:
        raise DataError(f"{path}:1: expected evaluation items, found none; leave the file out.")


def items_from_row(row: dict[str, Any], source: Source) -> Iterator[EvalItem]:
    """Yield the item of a row, or the several of a case. Raises DataError."""
    if "QA_pairs" in row:
        yield EvalItem(source, text_of(row, "description", source))
        yield from case_items(row["QA_pairs"], source)
    elif "answer_choices" in row:
        choices = choices_of(row["answer_choices"], "answer_choices", source)
        yield EvalItem(source, without_choices(text_of(row, "input", source), choices), choices)
    else:
        field = "options" if "options" in row else "option"
        yield EvalItem(source, question_of(row, source), choices_of(row.get(field), field, source))


def case_items(pairs: Any, source: Source) -> Iterator[EvalItem]:
    """Yield an item for each question of a case, with its answer.

    "Name the principles of treatment" alone is no item: a dozen cases of CMB-Clin ask just that.
    """
    if not isinstance(pairs, list) or not all(isinstance(pair, dict) for pair in pairs):
        raise DataError(
            f"{source}: expected 'QA_pairs' as a list of objects, found {describe(pairs)}; mend it."
        )
    for pair in pairs:
        answer = "answer" if "answer" in pair else "solution"
        question = text_of(pair, "question", source)
        yield EvalItem(source, question + GAP + text_of(pair, answer, source))


def question_of(row: dict[str, Any], source: Source) -> str:
    """Return what a row asks: the first of QUESTION_FIELDS that is filled.

    An `input` belongs to its `instruction`.   Raises DataError.
    """
    fields = [name for name in QUESTION_FIELDS if name in row]
    field = next((name for name in fields if row[name]), next(iter(fields), None))
    if field is None:
        raise DataError(
            f"{source}: expected one of {', '.join(QUESTION_FIELDS)}, found {sorted(row)}; "
            "rename the column, or leave the file out if it holds no questions."
        )
    question = text_of(row, field, source)
    addition = row.get("input")
    if field == "instruction" and isinstance(addition, str) and addition.strip():
        question += GAP + addition
    return question


def text_of(row: dict[str, Any], field: str, source: Source) -> str:
    """Return a field's text; of a list of turns, those of the user. Raises DataError if blank."""
    value = row.get(field)
    if isinstance(value, list):
        value = GAP.join(turn_text(turn) for turn in value if is_asked(turn))
    if not isinstance(value, str) or not value.strip(f" \t\n{GAP}"):
        raise DataError(
            f"{source}: expected text in '{field}', found {describe(row.get(field))}; "
            "fill it or remove the row."
        )
    return value


def is_asked(turn: Any) -> bool:
    """True for a turn that the user speaks."""
    return isinstance(turn, dict) and turn.get("from", turn.get("role")) in ASKERS


def turn_text(turn: dict[str, Any]) -> str:
    """Return what is said in a turn, or nothing where it is no text."""
    value = next((turn[name] for name in ("value", "content", "text") if name in turn), "")
    return value if isinstance(value, str) else ""


def choices_of(value: Any, field: str, source: Source) -> tuple[str, ...]:
    """Return choices given as {"A": …}, as a list, or as a list written as text; null is none."""
    if isinstance(value, str) and value.strip():
        try:
            value = ast.literal_eval(value)
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
            value = [value]
    if not value:
        return ()
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list) or any(isinstance(choice, dict | list) for choice in value):
        raise DataError(
            f"{source}: expected '{field}' as an object or a list of texts, found "
            f"{describe(value)}; mend the row."
        )
    return tuple(str(choice) for choice in value if choice is not None and str(choice).strip())


def without_choices(text: str, choices: tuple[str, ...]) -> str:
    """Return a prompt with GAP in place of its list of choices, which may stand in any order.

    Example: "Which one: yes, no?" with the choices no, yes -> "Which one: \\0?".
    """
    choice = "|".join(re.escape(name) for name in sorted(choices, key=len, reverse=True))
    if len(choices) < 2:
        return text
    return re.sub(f"(?:{choice})(?:{BETWEEN_CHOICES}(?:{choice}))+", GAP, text)
