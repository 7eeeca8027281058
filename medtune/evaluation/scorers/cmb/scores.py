"""Accuracy on CMB-Exam: as the authors' score.py counts it, and by sets of letters.

The official figure compares strings, so that "CA" is wrong where the key says "AC", and gives every
class of an exam the same weight. The strict one compares sets, weighs every question alike, and
says how many answers could not be read.
Source: score.py of https://github.com/FreedomIntelligence/CMB.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

UNSPECIFIED = "unspecified"  # an exam type or class that the key does not give
ALL_LETTERS = "ABCDEFG"

Counts = dict[str, int]


@dataclass(frozen=True)
class ExamQuestion:
    """What the key says of a question; `answer` in the key's order, `options` where known."""

    answer: str
    question_type: str
    exam_type: str = UNSPECIFIED
    exam_class: str = UNSPECIFIED
    options: dict[str, str] = field(default_factory=dict)

    @property
    def letters(self) -> str:
        """The letters that can be chosen."""
        filled = [letter for letter, text in self.options.items() if text.strip()]
        return "".join(filled) or ALL_LETTERS


def official_counts(answer: str, chosen: str) -> Counts:
    """Return correct, items and unread of one answer: right if it is the key's very string."""
    return {"correct": int(chosen == answer), "items": 1, "unread": int(not chosen)}


def strict_counts(answer: str, chosen: str | None) -> Counts:
    """Return correct, items and unread of one answer: right if it is the key's set of letters."""
    is_right = chosen is not None and set(chosen) == set(answer)
    return {"correct": int(is_right), "items": 1, "unread": int(chosen is None)}


def add_counts(several: Iterable[Counts]) -> Counts:
    """Return the sums of correct, items and unread."""
    sums = {"correct": 0, "items": 0, "unread": 0}
    for counts in several:
        for name in sums:
            sums[name] += counts[name]
    return sums


def score_exam(questions: Sequence[ExamQuestion], counted: Sequence[Counts]) -> dict[str, Any]:
    """Return accuracies and counts of answered questions, one of `counted` for each question.

    accuracy_per_subcategory: exam_type -> exam_class -> accuracy; accuracy_per_category: the plain
    mean of its classes, as the official code reports it; accuracy: over all questions; per_type,
    per_class and per_question_type: correct, items, unread and accuracy over questions.
    """
    groups: dict[str, dict[str, list[Counts]]] = defaultdict(lambda: defaultdict(list))
    of_question_type: dict[str, list[Counts]] = defaultdict(list)
    for question, counts in zip(questions, counted, strict=True):
        groups[question.exam_type][question.exam_class].append(counts)
        of_question_type[question.question_type].append(counts)
    subcategories = {
        exam_type: {name: summed(counts)["accuracy"] for name, counts in classes.items()}
        for exam_type, classes in groups.items()
    }
    return {
        "accuracy_per_category": {
            exam_type: sum(classes.values()) / len(classes)
            for exam_type, classes in subcategories.items()
        },
        "accuracy_per_subcategory": subcategories,
        **summed(counted),
        "per_type": {
            exam_type: summed([counts for named in classes.values() for counts in named])
            for exam_type, classes in groups.items()
        },
        "per_class": {
            exam_type: {name: summed(counts) for name, counts in classes.items()}
            for exam_type, classes in groups.items()
        },
        "per_question_type": {name: summed(counts) for name, counts in of_question_type.items()},
    }


def summed(counted: Sequence[Counts]) -> dict[str, Any]:
    """Return correct, items, unread and their accuracy; 0 for no items."""
    sums = add_counts(counted)
    return {**sums, "accuracy": sums["correct"] / sums["items"] if sums["items"] else 0.0}
