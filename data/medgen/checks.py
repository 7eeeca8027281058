"""Rules the generated data must keep; each function raises ValueError when one is broken."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

Record = dict[str, Any]
BAD_TEXT = re.compile(
    r"[。，；：、？！][。，；：、？！]|[{}]|  |，不要[^。]*不要不要|和和|等等检查|的的|本品本品"
)

FAR_FROM_CHANCE = 0.06
NUM_PROMPTCBLUE_TASKS = 18
# What one could choose by without reading the question.
BLIND_GUESSES: dict[str, Callable[[str, str], int]] = {
    "the longest option": lambda letter, text: len(text),
    "the shortest option": lambda letter, text: -len(text),
    "the option with most commas": lambda letter, text: text.count("，") + text.count("、"),
    **{letter: lambda own, text, letter=letter: own == letter for letter in "ABCDE"},
}


def squeeze(text: str) -> str:
    """Remove all white space."""
    return "".join(text.split())


def human_turns(records: Iterable[Record]) -> list[str]:
    """Return every human message of some conversations."""
    return [m["value"] for r in records for m in r["conversations"] if m["from"] == "human"]


def pair_questions(pairs: Iterable[Record]) -> list[str]:
    """Return every question of some preference pairs, those of the history too."""
    asked = []
    for pair in pairs:
        asked += [turn[0] for turn in pair["history"]] + [pair["question"]]
    return asked


def check_no_overlap(label: str, training: Iterable[str], held_out: Iterable[str]) -> None:
    """Raise if a held-out text occurs in training, white space aside."""
    common = set(map(squeeze, training)) & set(map(squeeze, held_out))
    if common:
        raise ValueError(f"{label}: held-out text also in training: {sorted(common)[:3]}")


def check_texts(label: str, texts: Iterable[str]) -> None:
    """Raise on doubled punctuation, an unfilled slot or a text that does not end as a sentence."""
    for text in texts:
        found = BAD_TEXT.search(text)
        if found:
            raise ValueError(f"{label}: {found.group(0)!r} in {text!r}")


def check_documents(label: str, documents: list[str], shortest: int, longest: int) -> None:
    """Raise on a document of the wrong length, a repeated one or one holding a blank line."""
    check_texts(label, documents)
    for text in documents:
        if not shortest <= len(text) <= longest or "\n" in text:
            raise ValueError(f"{label}: bad length {len(text)}: {text!r}")
    if len(set(documents)) != len(documents):
        raise ValueError(f"{label}: a document occurs twice")


def check_conversation(record: Record) -> None:
    """Raise unless roles alternate, system only first, ending with gpt, answers of good length."""
    messages = record["conversations"]
    start = 1 if messages[0]["from"] == "system" else 0
    roles = [m["from"] for m in messages[start:]]
    if not roles or roles != ["human", "gpt"] * (len(roles) // 2):
        raise ValueError(f"bad roles: {record}")
    check_texts("conversation", [m["value"] for m in messages])
    for message in messages[start:]:
        value = message["value"]
        if message["from"] == "gpt" and not (25 <= len(value) <= 110 and value[-1] == "。"):
            raise ValueError(f"bad answer: {value!r}")


def check_exam(questions: list[Record]) -> None:
    """Raise on a question that is badly built, or when its form gives the answers away."""
    check_texts("exam", [q["question"] for q in questions])
    if len({squeeze(q["question"]) for q in questions}) != len(questions):
        raise ValueError("exam: a question occurs twice")
    for question in questions:
        options, answer = question["option"], question["answer"]
        check_texts("exam", options.values())
        single = question["question_type"] == "单项选择题"
        good = len(set(options.values())) == len(options) >= 4 and set(answer) <= set(options)
        if not good or single != (len(answer) == 1) or list(answer) != sorted(set(answer)):
            raise ValueError(f"exam: bad question: {question}")
    singles = [q for q in questions if len(q["answer"]) == 1]
    chance = sum(1 / len(q["option"]) for q in singles) / len(singles)
    for name, score in BLIND_GUESSES.items():
        reached = sum(map(partial(_guessed, score), singles)) / len(singles)
        if abs(reached - chance) > FAR_FROM_CHANCE:
            raise ValueError(f"exam: choosing {name} gives {reached:.3f}, chance is {chance:.3f}")


def check_promptcblue(rows: list[Record]) -> None:
    """Raise where a task lacks rows, or a choice that is the whole answer is not offered."""
    counts = Counter(row["task_dataset"] for row in rows)
    if len(counts) != NUM_PROMPTCBLUE_TASKS or not set(counts.values()) <= {3, 4}:
        raise ValueError(f"promptcblue: expected 3 or 4 rows of each of 18 tasks: {counts}")
    for row in rows:
        choices = [*(row["answer_choices"] or [row["target"]]), "非上述类型"]
        if row["task_type"] in ("cls", "matching") and row["target"] not in choices:
            raise ValueError(f"promptcblue: the answer is no choice: {row}")


def _guessed(score: Callable[[str, str], int], question: Record) -> float:
    """Return the chance to be right by taking one of the options that score highest."""
    scores = {letter: score(letter, text) for letter, text in question["option"].items()}
    best = [letter for letter, value in scores.items() if value == max(scores.values())]
    return (question["answer"] in best) / len(best)


def check_pairs(label: str, pairs: list[Record]) -> None:
    """Raise on a bad pair or when one side is systematically longer."""
    chosen = [p["response_chosen"] for p in pairs]
    rejected = [p["response_rejected"] for p in pairs]
    check_texts(label, [*chosen, *rejected, *pair_questions(pairs)])
    if any(c == r for c, r in zip(chosen, rejected, strict=True)):
        raise ValueError(f"{label}: chosen equals rejected")
    ratio = sum(map(len, chosen)) / sum(map(len, rejected))
    shorter = sum(len(c) < len(r) for c, r in zip(chosen, rejected, strict=True)) / len(pairs)
    if not (1 / 1.2 <= ratio <= 1.2 and 0.35 <= shorter <= 0.65):
        raise ValueError(f"{label}: lengths out of balance: {ratio:.2f} {shorter:.2f}")
