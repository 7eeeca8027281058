"""How sure a number is: intervals by resampling items, and a paired test between two models.

Every metric is a function of sums over items (correct answers, tokens, true positives, …), so one
resampling of items serves all of them, and a corpus metric such as micro-F1 or perplexity gets its
interval in the same way as a mean. Source: Efron and Tibshirani, An Introduction to the Bootstrap
(1993), chapters 13 and 15.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 42
CELLS_AT_ONCE = 4 * 10**6  # of resamples x items: 32 MB, whatever the number of items


@dataclass(frozen=True)
class Metric:
    """A number that is computed from the sums of columns over items.

    columns: names among an item's counts; an item that lacks one counts as 0 there.
    of_sums: (..., len(columns)) sums -> (...) values; NaN where there is nothing to compute from.
    higher_is_better: None where more is neither better nor worse, as of a length.
    chance: what guessing reaches, None where that means nothing; chance_column: the column with
    each item's own chance, where items differ.
    unit: fraction, points (0-100), perplexity, bits, tokens, nats or score.
    """

    name: str
    columns: tuple[str, ...]
    of_sums: Callable[[Floats], Floats]
    higher_is_better: bool | None = True
    chance: float | None = None
    chance_column: str | None = None
    unit: str = "fraction"

    def describe(self, items: Sequence[Mapping[str, float]]) -> dict[str, Any]:
        """Return what a reader of the number over these items must know."""
        chance = self.chance
        if self.chance_column and items:
            chance = sum(item.get(self.chance_column, 0.0) for item in items) / len(items)
        return {
            "chance": chance,
            "higher_is_better": self.higher_is_better,
            "unit": self.unit,
        }


def ratio(sums: Floats) -> Floats:
    """Return the first sum over the second; NaN where the second is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums[..., 1] != 0, sums[..., 0] / sums[..., 1], np.nan)


def mean(name: str, column: str, of: str = "items", **about: Any) -> Metric:
    """Return the metric sum(column) / sum(of)."""
    return Metric(name, (column, of), ratio, **about)


def table(items: Sequence[Mapping[str, float]], columns: Sequence[str]) -> Floats:
    """Return the counts of items as an array, (items, columns)."""
    rows = [[float(item.get(name, 0.0)) for name in columns] for item in items]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(columns))


def measure(
    items: Sequence[Mapping[str, float]], metrics: Sequence[Metric], resamples: int = RESAMPLES
) -> dict[str, dict[str, Any]]:
    """Return value, 95 % interval and description of each metric over these items.

    resamples: 0 gives no intervals.   An interval is None where no resample gives a number.
    """
    columns = list(dict.fromkeys(name for metric in metrics for name in metric.columns))
    counts = table(items, columns)
    has_interval = resamples > 0 and len(items) > 1
    sums = resampled_sums(counts, resamples) if has_interval else None
    found = {}
    for metric in metrics:
        own = [columns.index(name) for name in metric.columns]
        low, high = (None, None) if sums is None else percentiles(metric.of_sums(sums[:, own]))
        found[metric.name] = {
            "value": number(metric.of_sums(counts[:, own].sum(0))),
            "low": low,
            "high": high,
            "num_items": len(items),
            **metric.describe(items),
        }
    return found


def compare_paired(
    before: Sequence[Mapping[str, float]],
    after: Sequence[Mapping[str, float]],
    metric: Metric,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Return how a metric differs between two models on the same items, in the same order.

    The interval of the difference comes from resampling items; the p-value, two-sided, from
    exchanging the models' answers of randomly chosen items: without a true difference it would be
    as large as often as these exchanges make it.
    """
    assert len(before) == len(after), "the items of a paired comparison must be the same"
    first, second = table(before, metric.columns), table(after, metric.columns)
    values = number(metric.of_sums(first.sum(0))), number(metric.of_sums(second.sum(0)))
    result: dict[str, Any] = {
        "metric": metric.name,
        "before": values[0],
        "after": values[1],
        "delta": None,
        "low": None,
        "high": None,
        "p_value": None,
        "num_items": len(before),
        **metric.describe(before),
    }
    if None in values or len(before) < 2:
        return result
    delta = values[1] - values[0]  # type: ignore[operator]  # neither is None
    both = np.concatenate([first, second], axis=1)
    sums = resampled_sums(both, resamples)
    width = len(metric.columns)
    differences = metric.of_sums(sums[:, width:]) - metric.of_sums(sums[:, :width])
    low, high = percentiles(differences)
    return {
        **result,
        "delta": delta,
        "low": low,
        "high": high,
        "p_value": exchange_p_value(first, second, metric, delta, resamples),
    }


def exchange_p_value(
    first: Floats, second: Floats, metric: Metric, delta: float, resamples: int
) -> float:
    """Return the share of random exchanges with a difference at least as large as `delta`."""
    generator = np.random.default_rng(SEED)
    total, change = first.sum(0), second - first
    both = first.sum(0) + second.sum(0)
    num_as_large = 0
    for size in portions(resamples, len(first)):
        is_exchanged = generator.integers(0, 2, size=(size, len(first))).astype(np.float64)
        sums = total + is_exchanged @ change
        differences = metric.of_sums(both - sums) - metric.of_sums(sums)
        # A rounding error must not make an exchange of nothing look smaller than what was seen.
        num_as_large += int((np.abs(differences) >= abs(delta) * (1 - 1e-12)).sum())
    return (1 + num_as_large) / (1 + resamples)


def resampled_sums(counts: Floats, resamples: int) -> Floats:
    """Return the sums over items drawn with replacement, (resamples, columns), seeded."""
    generator = np.random.default_rng(SEED)
    num_items = len(counts)
    even = np.full(num_items, 1 / num_items)
    sums = [
        generator.multinomial(num_items, even, size=size) @ counts
        for size in portions(resamples, num_items)
    ]
    return np.concatenate(sums)


def portions(resamples: int, num_items: int) -> list[int]:
    """Return how many resamples to draw at once, so that memory stays flat."""
    size = max(1, CELLS_AT_ONCE // max(1, num_items))
    return [min(size, resamples - start) for start in range(0, resamples, size)]


def percentiles(values: Floats) -> tuple[float | None, float | None]:
    """Return the ends of the central 95 %; None where most resamples give no number."""
    numbers = np.sort(values[~np.isnan(values)])
    if len(numbers) * 2 < len(values):
        return None, None
    # Resamples themselves, no point between two: inf (a perplexity that overflows) is a value.
    outside = round((1 - CONFIDENCE) / 2 * (len(numbers) - 1))
    return float(numbers[outside]), float(numbers[-1 - outside])


def number(value: Any) -> float | None:
    """Return a float, or None for what is no number."""
    return None if np.isnan(value) else float(value)
