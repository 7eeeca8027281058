"""An examination in CMB-Exam's schema, made from the facts that the other data teach.

Each question asks for one fact, worded as in no training text. All its options are the same
sentence: the right one holds the entity's own value, the others hold values that are true of other
entities, so nothing but knowing the fact tells them apart. What was asked in finetune/ has
distractors that were asked there too, and what was not has those that were not: how often a value
was read must not give the answer away.
"""

from __future__ import annotations

import random
from typing import Any

from .facts import Fact, held_out, statements, value_of
from .tables import load_wording, rng_for

Question = dict[str, Any]
LETTERS = "ABCDE"
NUM_KNOWN, NUM_MULTIPLE = 165, 25
FOUR_OPTIONS_SHARE = 0.25
# Values that many entities share, or that are no answer without a second one.
LEFT_OUT = ("pregnancy", "high", "low", "dont")


class ExamWriter:
    """Writes the questions on one half of the facts, of which all distractors come too."""

    def __init__(self, facts: list[Fact], exam_class: str) -> None:
        """Take the facts and the name of this half."""
        self.facts = facts
        self.exam_class = exam_class
        self.alike: dict[tuple[str, str], list[Fact]] = {}
        for fact in facts:
            self.alike.setdefault((fact.entity.kind, fact.attribute), []).append(fact)

    def single(self, fact: Fact, number: int) -> Question | None:
        """Return a question with one right option, None where too few distractors exist."""
        rng = rng_for("exam", fact.key)
        right = value_of(fact)
        size = 4 if rng.random() < FOUR_OPTIONS_SHARE else 5
        wrong = _near_in_length(right, self._wrong_values(fact, rng), size - 1, rng.randrange(size))
        if len(wrong) < size - 1:
            return None
        sentence = rng.choice(statements(fact))
        rng.shuffle(wrong)
        wrong.insert(number % size, right)
        texts = [sentence.format(n=fact.entity.name, v=value) for value in wrong]
        return self._question(fact, fact.eval_question, texts, {number % size})

    def multiple(self, fact: Fact, number: int) -> Question | None:
        """Return a question with two to four right options, None for a fact without a list."""
        stems: list[str] = load_wording("exam")["multiple"].get(fact.attribute, [])
        rng = rng_for("exam_multiple", fact.key)
        own = list(fact.entity.row[fact.attribute]) if stems else []
        foreign = self._wrong_items(fact, rng)
        num_right = min(2 + number % 3, len(own))
        if num_right < 2 or len(foreign) < len(LETTERS) - num_right:
            return None
        texts = rng.sample(own, num_right)
        texts += foreign[: len(LETTERS) - num_right]
        order = rng.sample(range(len(LETTERS)), len(LETTERS))
        right = {place for place, index in enumerate(order) if index < num_right}
        stem = stems[number % len(stems)].format(n=fact.entity.name)
        return self._question(fact, stem, [texts[index] for index in order], right)

    def _question(self, fact: Fact, text: str, options: list[str], right: set[int]) -> Question:
        exam_type, exam_subject = load_wording("exam")["exams"][fact.entity.kind]
        return {
            "exam_type": exam_type,
            "exam_class": self.exam_class,
            "exam_subject": exam_subject,
            "question": text,
            "answer": "".join(LETTERS[place] for place in sorted(right)),
            "question_type": "单项选择题" if len(right) == 1 else "多项选择题",
            "option": dict(zip(LETTERS, options, strict=False)),
        }

    def _others(self, fact: Fact, rng: random.Random) -> list[Fact]:
        """Return the same attribute of other entities that share no part of the value."""
        own = _parts(fact)
        alike = self.alike[fact.entity.kind, fact.attribute]
        others = [other for other in alike if not own & _parts(other)]
        rng.shuffle(others)
        return others

    def _wrong_values(self, fact: Fact, rng: random.Random) -> list[str]:
        # Shuffled before repeats are dropped: a frequent value stays the likelier distractor.
        return list(dict.fromkeys(value_of(other) for other in self._others(fact, rng)))

    def _wrong_items(self, fact: Fact, rng: random.Random) -> list[str]:
        items = [rng.choice(sorted(_parts(other))) for other in self._others(fact, rng)]
        return list(dict.fromkeys(items))


def _parts(fact: Fact) -> set[str]:
    value = fact.entity.row[fact.attribute]
    return set(value) if isinstance(value, list) else {value_of(fact)}


def _near_in_length(right: str, wrong: list[str], count: int, shorter: int) -> list[str]:
    """Return `count` values, nearest in length, `shorter` of them shorter where there are so many.

    So neither the longest option nor the shortest is right more often than chance.
    """
    wrong = sorted(wrong, key=lambda value: abs(len(value) - len(right)))
    below = [value for value in wrong if len(value) < len(right)]
    above = [value for value in wrong if len(value) > len(right)]
    taken = below[:shorter] + above[: count - shorter]
    rest = [value for value in wrong if value not in taken]
    return (taken + rest)[:count]


def build_exam(facts: list[Fact]) -> list[Question]:
    """Return the examination: as near as may be half of it on facts that finetune/ asks for."""
    hidden = held_out(facts)
    classes = load_wording("exam")["classes"]
    usable = [fact for fact in facts if fact.attribute not in LEFT_OUT]
    halves = {
        classes["known"]: [fact for fact in usable if fact.key not in hidden],
        classes["pretrain_only"]: [fact for fact in usable if fact.key in hidden],
    }
    questions: list[Question] = []
    for exam_class, half in halves.items():
        rng_for("exam", exam_class).shuffle(half)
        writer = ExamWriter(half, exam_class)
        questions += _made(writer.single, half, NUM_KNOWN)
        questions += _made(writer.multiple, half, NUM_MULTIPLE)
    rng_for("exam_order").shuffle(questions)
    return [{"id": f"medgen-{number:03d}", **q} for number, q in enumerate(questions, start=1)]


def _made(write: Any, facts: list[Fact], most: int) -> list[Question]:
    made: list[Question] = []
    for fact in facts:
        question = write(fact, len(made)) if len(made) < most else None
        if question:
            made.append(question)
    return made
