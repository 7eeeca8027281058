"""How the structures of a task are compared, as counts of one item and metrics of their sums."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medtune.evaluation.results.statistics import Metric

Counts = dict[str, float]


@dataclass(frozen=True)
class Measure:
    """Everything about scores that the tasks of one kind share."""

    counts: Callable[[Any, Any, bool], Counts]
    """(gold answer, predicted answer or None, is_strict) -> the item's counts."""
    metrics: Callable[[Sequence[Mapping[str, float]]], dict[str, Metric]]
    """The items' counts -> their metrics by name; only labels need to see the items."""
    is_answer: Callable[[Any], bool]
    """True if a value has the shape that `counts` takes."""
    primary: str
    """The metric that enters the mean over the tasks."""
    official_name: str
    """The end of the task's key in the official score map."""
    is_empty_gold: Callable[[Any], bool] = lambda answer: False
    """True for a gold answer that nothing can be compared with."""


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the quotient of two arrays of one shape, 0 where the denominator is 0."""
    out = np.zeros(np.shape(denominator))
    return np.divide(numerator, denominator, out=out, where=np.asarray(denominator) != 0)
