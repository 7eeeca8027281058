"""The probes of a file: a question, the rules for its answers, and answers judged by hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtune.common.errors import DataError
from medtune.data.formats.checks import MalformedRow
from medtune.data.formats.files import read_json_rows
from medtune.evaluation.safety.patterns import Pattern, PatternError, compile_pattern

CATEGORIES = (
    "pregnancy",
    "childhood",
    "dose_overrun",
    "interaction",
    "red_flag",
    "prescription_without_examination",
    "false_premise",
    "stopping_treatment",
    "self_harm",
    "benign",
)
FIELDS = ("id", "category", "question", "rules", "good", "bad")
MIN_ANSWERS = 2  # good ones and bad ones each: a rule that says one thing to all is found out


@dataclass(frozen=True)
class Rules:
    """What an answer must say and must not say."""

    must: tuple[tuple[Pattern, ...], ...]
    """Groups; of each, one pattern at least must be stated."""
    must_not: tuple[Pattern, ...]
    """None of these may be advised."""
    about: tuple[Pattern, ...] = ()
    """Words of the subject, one of which an answer that opens with no direct reply must name."""


@dataclass(frozen=True)
class Probe:
    """One question of the screening, and answers that a person judged safe (good) or not (bad)."""

    id: str
    category: str
    question: str
    rules: Rules
    good: tuple[str, ...]
    bad: tuple[str, ...]


def load_probes(path: Path) -> list[Probe]:
    """Return the probes of a JSON lines file, in order.

    Raises DataError with `file:line` for a row that is no probe, an unknown category, vocabulary
    or field, a pattern that does not compile, and an id or a question that occurs twice.
    """
    probes: list[Probe] = []
    seen: set[str] = set()
    for number, row in read_json_rows(path):
        try:
            probe = probe_of(row)
            for value in (probe.id, probe.question):
                if value in seen:
                    raise PatternError(f"expected a new id and question, found {value!r} again")
                seen.add(value)
        except (PatternError, MalformedRow) as error:
            raise DataError(f"{path}:{number}: {error}; mend the row.") from error
        probes.append(probe)
    if not probes:
        raise DataError(f"{path}:1: expected probes, found an empty file.")
    return probes


def probe_of(row: Any) -> Probe:
    """Return the probe of a parsed row. Raises PatternError, or the row if it is malformed."""
    if isinstance(row, MalformedRow):
        raise row
    if not isinstance(row, dict) or set(row) != set(FIELDS):
        found = sorted(map(str, row)) if isinstance(row, dict) else type(row).__name__
        raise PatternError(f"expected an object with {list(FIELDS)}, found {found}")
    for name in ("id", "category", "question"):
        if not isinstance(row[name], str) or not row[name].strip():
            raise PatternError(f"expected text in '{name}', found {row[name]!r}")
    if row["category"] not in CATEGORIES:
        raise PatternError(f"expected a category of {CATEGORIES}, found {row['category']!r}")
    answers = {name: _texts(row[name], name, MIN_ANSWERS) for name in ("good", "bad")}
    return Probe(row["id"], row["category"], row["question"], rules_of(row["rules"]), **answers)


def rules_of(value: Any) -> Rules:
    """Return the compiled rules of {"must": [[…], …], "must_not": […], "about": […]}.

    `about` may be left out.   Raises PatternError.
    """
    if not isinstance(value, dict) or {*value, "about"} != {"must", "must_not", "about"}:
        raise PatternError(f"expected 'must', 'must_not' and 'about' in 'rules', found {value!r}")
    if not isinstance(value["must"], list) or not value["must"]:
        raise PatternError(f"expected a list of groups in 'must', found {value['must']!r}")
    groups = [_texts(group, "must", 1) for group in value["must"]]
    return Rules(
        must=tuple(_compile_all(group) for group in groups),
        must_not=_compile_all(_texts(value["must_not"], "must_not", 0)),
        about=_compile_all(_texts(value.get("about", []), "about", 0)),
    )


def _compile_all(texts: Sequence[str]) -> tuple[Pattern, ...]:
    return tuple(compile_pattern(text) for text in texts)


def _texts(value: Any, name: str, least: int) -> tuple[str, ...]:
    is_list = isinstance(value, list) and len(value) >= least
    if not is_list or not all(isinstance(text, str) and text.strip() for text in value):
        raise PatternError(f"expected a list of {least} or more texts in '{name}', found {value!r}")
    return tuple(value)
