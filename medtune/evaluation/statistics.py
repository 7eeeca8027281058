"""What a metric is: a function of sums of counts over items, so that one bootstrap serves all."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Metric:
    """A metric as a function of the sums of the items' counts.

    of_sums: float64 of shape (..., len(columns)) -> (...), vectorised over the leading axes.
    """

    name: str
    columns: tuple[str, ...]
    """Names of the items' counts that are summed, in the order of `of_sums`."""
    of_sums: Callable[[np.ndarray], np.ndarray]
    higher_is_better: bool = True
    chance: float | None = None
    """What guessing reaches; None where that is not defined."""
    unit: str = "fraction"
    """fraction, perplexity, bits, tokens, score, ..."""
