"""Generated prose: replies and reports in sections, scored by ROUGE-L."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from medtune.evaluation.results.statistics import Metric
from medtune.evaluation.scorers.overlap import rouge_f
from medtune.evaluation.scorers.promptcblue.measure import Counts, Measure, ratio
from medtune.evaluation.scorers.promptcblue.reading import Reading
from medtune.evaluation.scorers.promptcblue.tokens import basic_tokens

SECTIONS = ("主诉", "现病史", "辅助检查", "既往史", "诊断", "建议")
NAMES = ("rouge1", "rouge2", "rougeL")
NUM_TEXTS = "texts"
NOTHING = ["无", "。"]  # what the official scorer puts in the place of an empty text
ZEROS = (0.0, 0.0, 0.0)


def read_reply(text: str, reading: Reading) -> str:
    """Return the text without the blanks around it."""
    return text.strip()


def read_sections(text: str, reading: Reading) -> dict[str, str]:
    """Return the sections of a report: lines after the first that start with a section's name.

    A later line of the same section replaces an earlier one.
    """
    lines = text.strip().split("\n")[1:]
    return {
        name: line.strip().split(f"{name}：")[-1].strip()
        for name in SECTIONS
        for line in lines
        if line.startswith(f"{name}：")
    }


def rouge_of(gold: str, predicted: str | None, is_strict: bool) -> tuple[float, float, float]:
    """Return ROUGE-1, ROUGE-2 and ROUGE-L of two texts; None scores 0.

    strict: nothing where something is wanted scores 0 and is not compared as the word "nothing".
    """
    if predicted is None:
        return ZEROS
    wanted, found = basic_tokens(gold), basic_tokens(predicted)
    if is_strict and wanted and not found:
        return ZEROS
    return rouge_f(found or NOTHING, wanted or NOTHING)


def count_reply(gold: str, predicted: str | None, is_strict: bool) -> Counts:
    """Return the three values of one text."""
    return dict(zip(NAMES, rouge_of(gold, predicted, is_strict), strict=True)) | {NUM_TEXTS: 1.0}


def count_sections(
    gold: Mapping[str, str], predicted: Mapping[str, str] | None, is_strict: bool
) -> Counts:
    """Return the sums of the three values over the gold sections, and how many there are."""
    sums = np.zeros(len(NAMES))
    for name, text in gold.items():
        found = None if predicted is None else predicted.get(name, "")
        sums += rouge_of(text, found, is_strict)
    return dict(zip(NAMES, sums.tolist(), strict=True)) | {NUM_TEXTS: float(len(gold))}


def mean(sums: np.ndarray) -> np.ndarray:
    """Return the first column over the second."""
    return ratio(sums[..., 0], sums[..., 1])


def metrics(items: Sequence[Mapping[str, float]]) -> dict[str, Metric]:
    """Return the mean ROUGE values over all texts."""
    return {name: Metric(name, (name, NUM_TEXTS), mean) for name in NAMES}


def is_text(answer: Any) -> bool:
    """True for a string."""
    return isinstance(answer, str)


def is_sections(answer: Any) -> bool:
    """True for an object of texts."""
    return isinstance(answer, dict) and all(map(is_text, [*answer, *answer.values()]))


prose = partial(Measure, metrics=metrics, primary="rougeL", official_name="RougeL")
REPLY_ROUGE = prose(counts=count_reply, is_answer=is_text)
SECTION_ROUGE = prose(counts=count_sections, is_answer=is_sections)
