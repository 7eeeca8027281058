"""Intervals and tests: against formulas where there are any, and against what they must satisfy."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtune.evaluation.results.statistics import Metric, compare_paired, mean, measure
from medtune.evaluation.tasks.cmb_exam import CALIBRATION
from medtune.evaluation.tasks.texts import LIKELIHOOD_METRICS

ACCURACY = mean("accuracy", "correct", chance_column="chance")
Items = list[dict[str, float]]


def answers(correct: int, wrong: int) -> Items:
    return [{"items": 1.0, "correct": float(i < correct)} for i in range(correct + wrong)]


def test_interval_of_a_share_is_that_of_the_normal_approximation() -> None:
    found = measure(answers(600, 400), [ACCURACY])["accuracy"]
    half_width = 1.96 * math.sqrt(0.6 * 0.4 / 1000)

    assert found["value"] == 0.6
    # 2,000 resamples know the ends to about a twentieth of the width.
    assert found["low"] == pytest.approx(0.6 - half_width, abs=half_width / 8)
    assert found["high"] == pytest.approx(0.6 + half_width, abs=half_width / 8)


def test_interval_holds_the_truth_about_95_times_of_100() -> None:
    """400 draws of 80 answers: the share of intervals that hold 0.3 is 0.95 give or take 0.035."""
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        items = [{"items": 1.0, "correct": float(x)} for x in generator.random(80) < 0.3]
        found = measure(items, [ACCURACY], resamples=400)["accuracy"]
        held += found["low"] <= 0.3 <= found["high"]
    assert 0.915 <= held / 400 <= 0.985


def test_perplexity_weighs_tokens_and_not_texts() -> None:
    """Two texts of 1 and 9 tokens with 3 and 9 nats: exp(12 / 10), not the mean of exp(3), e."""
    items = [
        {"items": 1.0, "nats": 3.0, "tokens": 1.0, "characters": 2.0, "bytes": 6.0},
        {"items": 1.0, "nats": 9.0, "tokens": 9.0, "characters": 8.0, "bytes": 24.0},
    ]
    found = measure(items, LIKELIHOOD_METRICS)

    assert found["perplexity"]["value"] == pytest.approx(math.exp(1.2), rel=1e-15)
    assert found["perplexity_per_character"]["value"] == pytest.approx(math.exp(1.2), rel=1e-15)
    assert found["bits_per_byte"]["value"] == pytest.approx(12 / 30 / math.log(2), rel=1e-15)


def test_perplexity_that_overflows_is_infinite() -> None:
    items = [{"nats": 1e6, "tokens": 1.0, "characters": 1.0, "bytes": 1.0}] * 3
    found = measure(items, LIKELIHOOD_METRICS)["perplexity"]

    assert found["value"] == found["low"] == found["high"] == math.inf


def test_calibration_error_counted_by_hand() -> None:
    """Bin 9: confidence 0.9 and 1.0, one right: |1.9 - 1| = 0.9. Bin 4: 0.4, wrong: 0.4. / 3."""
    items = [
        {"items": 1.0, "confidence_9": 0.9, "hits_9": 1.0},
        {"items": 1.0, "confidence_9": 1.0, "hits_9": 0.0},
        {"items": 1.0, "confidence_4": 0.4, "hits_4": 0.0},
    ]
    assert measure(items, [CALIBRATION])["ece"]["value"] == pytest.approx(1.3 / 3, rel=1e-15)


def test_chance_is_the_mean_of_the_items_own() -> None:
    items = [{"items": 1.0, "correct": 1.0, "chance": c} for c in (0.2, 0.25, 0.25)]
    assert measure(items, [ACCURACY])["accuracy"]["chance"] == pytest.approx(0.7 / 3)


def test_nothing_to_compute_from_is_none_and_no_number() -> None:
    empty = measure([], [ACCURACY])["accuracy"]
    assert (empty["value"], empty["low"], empty["high"], empty["num_items"]) == (
        None,
        None,
        None,
        0,
    )
    undefined = measure([{"correct": 1.0}] * 4, [ACCURACY])["accuracy"]
    assert (undefined["value"], undefined["low"]) == (None, None)


def test_paired_difference_is_sharper_than_two_intervals() -> None:
    """Of 200 items 100 are right for both; the second has 10 more: both intervals overlap."""
    before = [{"items": 1.0, "correct": float(i < 100)} for i in range(200)]
    after = [{"items": 1.0, "correct": float(i < 110)} for i in range(200)]
    found = compare_paired(before, after, ACCURACY)

    assert found["delta"] == pytest.approx(0.05)
    assert found["low"] > 0
    assert measure(before, [ACCURACY])["accuracy"]["high"] > 0.55 > 0.5
    # Exactly: all ten items changed for the better, two-sided sign test 2 / 2^10.
    assert found["p_value"] == pytest.approx(2 / 1024, abs=0.0025)


def test_same_answers_differ_by_nothing() -> None:
    items = answers(30, 20)
    found = compare_paired(items, items, ACCURACY)
    assert (found["delta"], found["low"], found["high"], found["p_value"]) == (0, 0, 0, 1)


def test_p_values_of_no_difference_are_spread_evenly() -> None:
    """300 pairs of coin-tossing models: about a twentieth below 0.05, and half below 0.5."""
    generator = np.random.default_rng(7)
    found = []
    for _ in range(300):
        both = generator.random((2, 60)) < 0.5
        items = [[{"items": 1.0, "correct": float(x)} for x in row] for row in both]
        found.append(compare_paired(items[0], items[1], ACCURACY, resamples=300)["p_value"])
    assert np.mean(np.array(found) <= 0.05) <= 0.09
    assert 0.35 <= np.mean(np.array(found) <= 0.5) <= 0.6


counts = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=40
)
F1 = Metric("f1", ("tp", "fp", "fn"), lambda s: 2 * s[..., 0] / np.maximum(1, 2 * s[..., 0]
            + s[..., 1] + s[..., 2]))  # fmt: skip


@given(counts, counts)
@settings(max_examples=60, deadline=None)
def test_exchanging_the_models_turns_the_difference_around(first: list, second: list) -> None:
    size = min(len(first), len(second))
    before, after = (
        [dict(zip(("tp", "fp", "fn"), map(float, row), strict=True)) for row in rows[:size]]
        for rows in (first, second)
    )
    there, back = compare_paired(before, after, F1, 200), compare_paired(after, before, F1, 200)

    assert there["delta"] == pytest.approx(-back["delta"], abs=1e-12)
    assert there["p_value"] == back["p_value"]
    # The same resamples with the other sign: the ends change places.
    assert there["low"] == pytest.approx(-back["high"], abs=1e-12)
    assert there["high"] == pytest.approx(-back["low"], abs=1e-12)


def test_interval_and_p_value_of_f1_are_those_of_scipy() -> None:
    """scipy draws other resamples, one item at a time; 2,000 know an end to some 0.01 here."""
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(5)
    first, second = generator.integers(0, 4, (2, 3, 60)).astype(float)
    second[0] += generator.integers(0, 2, 60)
    items = [
        [dict(zip(("tp", "fp", "fn"), row, strict=True)) for row in counts.T.tolist()]
        for counts in (first, second)
    ]

    def f1(*columns: Any, axis: int = -1) -> Any:
        return F1.of_sums(np.stack([column.sum(axis) for column in columns], axis=-1))

    def difference(*columns: Any, axis: int = -1) -> Any:
        return f1(*columns[3:], axis=axis) - f1(*columns[:3], axis=axis)

    ours = measure(items[0], [F1])["f1"]
    settings = {"paired": True, "n_resamples": 2000, "method": "percentile", "rng": 1}
    theirs = stats.bootstrap(tuple(first), f1, **settings).confidence_interval
    assert (ours["low"], ours["high"]) == pytest.approx(tuple(theirs), abs=0.012)

    paired = compare_paired(*items, F1)
    theirs = stats.bootstrap((*first, *second), difference, **settings).confidence_interval
    assert (paired["low"], paired["high"]) == pytest.approx(tuple(theirs), abs=0.015)


def test_numbers_are_the_same_every_time() -> None:
    items = answers(37, 63)
    assert measure(items, [ACCURACY]) == measure(items, [ACCURACY])
    other = answers(45, 55)
    first = compare_paired(items, other, ACCURACY)
    assert first == compare_paired(items, other, ACCURACY)
