"""Labels: how one is read, and precision, recall and F1 averaged over labels.

"Micro" in PromptCBLUE's names of these tasks is the average weighted by gold frequency. The macro
average is over the labels that occur in gold or predictions: each stray prediction adds a zero.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from medtune.evaluation.results.statistics import Metric
from medtune.evaluation.scorers.promptcblue.measure import Counts, Measure, ratio
from medtune.evaluation.scorers.promptcblue.reading import Reading

Rate = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

SAME = {"相同": "是的", "不同": "不是"}


def read_label(first_label: str, text: str, reading: Reading) -> str:
    """Return the whole text without the blanks around it."""
    label = text.strip()
    # The choices of a row are those of the gold label's group; the first label is always allowed.
    allowed = (*reading.choices, first_label, "") if isinstance(reading.choices, list) else (label,)
    if label not in allowed:
        reading.unread.append(f"not among the choices: {label[:80]}")
    return label


def read_sameness(text: str, reading: Reading) -> str:
    """Return the yes or no that a text says in one of two ways, or whatever else the text is."""
    label = SAME.get(text.strip(), text.strip())
    if label not in (*SAME.values(), ""):
        reading.unread.append(f"neither 是的 nor 不是: {label[:80]}")
    return label


def count(first_label: str, gold: str, predicted: str | None, is_strict: bool) -> Counts:
    """Return one count, named by gold and predicted label.

    The official scorer takes an empty prediction for the first label of its list.
    """
    label = first_label if predicted == "" and not is_strict else predicted
    return {json.dumps([gold, label], ensure_ascii=False): 1.0}


class Confusions:
    """Sums of pairs of labels as what each label's rates are made of."""

    def __init__(self, columns: Sequence[str]) -> None:
        """Number the labels of the columns, gold and predicted ones alike."""
        pairs = [json.loads(column) for column in columns]
        number = {label: i for i, label in enumerate(dict.fromkeys(chain.from_iterable(pairs)))}
        self.num_labels = len(number)
        self.gold = np.array([number[gold] for gold, _ in pairs], dtype=np.int64)
        self.predicted = np.array([number[label] for _, label in pairs], dtype=np.int64)

    def by_label(self, sums: np.ndarray, label_of_column: np.ndarray) -> np.ndarray:
        """Return the sums of the columns of each label: (..., columns) -> (..., labels)."""
        out = np.zeros((self.num_labels, *sums.shape[:-1]))
        np.add.at(out, label_of_column, np.moveaxis(sums, -1, 0))
        return np.moveaxis(out, 0, -1)

    def average(self, rate: Rate, is_macro: bool, sums: np.ndarray) -> np.ndarray:
        """Return the mean over labels of a rate of (correct, predicted, gold) counts."""
        correct = self.by_label(sums * (self.gold == self.predicted), self.gold)
        predicted = self.by_label(sums, self.predicted)
        gold = self.by_label(sums, self.gold)
        weights = (gold + predicted > 0).astype(float) if is_macro else gold
        rates = rate(correct, predicted, gold)
        return ratio((rates * weights).sum(-1), weights.sum(-1))


RATES: dict[str, Rate] = {
    "precision": lambda correct, predicted, gold: ratio(correct, predicted),
    "recall": lambda correct, predicted, gold: ratio(correct, gold),
    "f1": lambda correct, predicted, gold: ratio(2 * correct, predicted + gold),
}


def metrics(is_macro: bool, items: Sequence[Mapping[str, float]]) -> dict[str, Metric]:
    """Return precision, recall and F1; the columns are the pairs of labels that occur."""
    columns = tuple(dict.fromkeys(name for item in items for name in item))
    confusions = Confusions(columns)
    return {
        name: Metric(name, columns, partial(confusions.average, rate, is_macro))
        for name, rate in RATES.items()
    }


def is_label(answer: Any) -> bool:
    """True for a string."""
    return isinstance(answer, str)


def label_measure(first_label: str, is_macro: bool) -> Measure:
    """Return how a task with labels is scored; first_label: what an empty prediction stands for."""
    return Measure(
        counts=partial(count, first_label),
        metrics=partial(metrics, is_macro),
        is_answer=is_label,
        primary="f1",
        official_name="Macro-F1" if is_macro else "Micro-F1",
        is_empty_gold=lambda answer: answer == "",
    )
