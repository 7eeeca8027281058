"""Micro-F1 over sets of tuples: what the extracting tasks are scored by."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from medtune.evaluation.results.statistics import Metric
from medtune.evaluation.scorers.promptcblue.measure import Counts, Measure, ratio

COLUMNS = ("tp", "fp", "fn")


def tuples_of(records: list[dict[str, Any]]) -> set[tuple[str, ...]]:
    """Return each record as its values, by sorted key.

    The keys themselves are not compared; the order within a value is.
    """
    return {
        tuple(json.dumps(record[key], ensure_ascii=False) for key in sorted(record))
        for record in records
    }


def count(gold: list[dict[str, Any]], predicted: Any, is_strict: bool) -> Counts:
    """Return how many tuples are in both sets, in the prediction alone and in the gold alone."""
    wanted, found = tuples_of(gold), tuples_of(predicted or [])
    numbers = (len(wanted & found), len(found - wanted), len(wanted - found))
    return dict(zip(COLUMNS, map(float, numbers), strict=True))


def precision(sums: np.ndarray) -> np.ndarray:
    """Return the share of predicted tuples that are gold."""
    return ratio(sums[..., 0], sums[..., 0] + sums[..., 1])


def recall(sums: np.ndarray) -> np.ndarray:
    """Return the share of gold tuples that are predicted."""
    return ratio(sums[..., 0], sums[..., 0] + sums[..., 2])


def f1(sums: np.ndarray) -> np.ndarray:
    """Return the harmonic mean of precision and recall."""
    return ratio(2 * sums[..., 0], 2 * sums[..., 0] + sums[..., 1] + sums[..., 2])


def metrics(items: Sequence[Mapping[str, float]]) -> dict[str, Metric]:
    """Return precision, recall and F1 over all tuples of all items."""
    rates: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "precision": precision,
        "recall": recall,
        "f1": f1,
    }
    return {name: Metric(name, COLUMNS, rate) for name, rate in rates.items()}


def is_records(answer: Any) -> bool:
    """True for a list of objects."""
    return isinstance(answer, list) and all(
        isinstance(record, dict) and all(isinstance(key, str) for key in record)
        for record in answer
    )


MICRO_F1 = Measure(count, metrics, is_records, "f1", "Micro-F1")
