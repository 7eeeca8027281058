"""Perplexity from logits: every token weighs alike, and what two other programs report.

Reference: stored numbers (float64); exp(sum nll / tokens) written out.
"""

import json
import math

import pytest

from medtune.evaluation.scorers.perplexity import (
    IGNORE_INDEX,
    exp_or_inf,
    measure_losses,
    pooled_perplexity,
    sequence_loss,
    sequence_losses,
    trainer_style_loss,
)
from tests.evaluation.parity import PARITY, needs_parity

EVEN = [[0.0, 0.0]] * 4  # two words, equally likely


@needs_parity
def test_numbers_are_those_of_the_definition() -> None:
    cases = json.loads((PARITY / "perplexity/cases.json").read_text(encoding="utf-8"))
    for case in cases:
        losses = sequence_losses(case["logits"], case["labels"])
        numbers = measure_losses(losses, case["eval_batches"])
        means = numbers.pop("per_sequence_nll_mean")
        expected_means = case["expected"].pop("per_sequence_nll_mean")

        assert numbers == pytest.approx(case["expected"], abs=1e-9)
        assert [mean is None for mean in means] == [mean is None for mean in expected_means]
        known = [mean for mean in means if mean is not None]
        assert known == pytest.approx([m for m in expected_means if m is not None], abs=1e-9)


def test_logits_predict_the_next_label() -> None:
    logits = [[math.log(3), 0.0], [0.0, 0.0], [0.0, 0.0]]
    loss = sequence_loss(logits, [1, 0, 1])

    assert loss.tokens == 2
    assert loss.nll_sum == pytest.approx(math.log(4 / 3) + math.log(2))


def test_tokens_weigh_alike_whatever_their_sequence() -> None:
    certain = [[100.0, 0.0]] * 2
    losses = sequence_losses([EVEN, certain], [[0, 1, 0, 1], [0, 0]])
    pooled = pooled_perplexity(losses)

    assert pooled["tokens"] == 4
    assert pooled["perplexity"] == pytest.approx(2 ** (3 / 4))
    assert trainer_style_loss(losses, [[0], [1]]) == pytest.approx(math.log(2) / 2)
    assert trainer_style_loss(losses, [[0, 1]]) == pytest.approx(math.log(2) * 3 / 4)


def test_a_constant_on_all_logits_changes_nothing_but_the_formula_that_ignores_labels() -> None:
    shifted = [[value + 3 for value in row] for row in EVEN]
    here, there = (
        measure_losses(sequence_losses([logits], [[0, 1, 0, 1]])) for logits in (EVEN, shifted)
    )

    assert there["perplexity"] == pytest.approx(here["perplexity"]) == 2
    assert here["seed000_compute_metrics_value"] == 1
    assert there["seed000_compute_metrics_value"] == pytest.approx(math.exp(3))


def test_extreme_logits_and_overflow() -> None:
    logits = [[1e6, 0.0], [0.0, 0.0]]
    numbers = measure_losses(sequence_losses([logits], [[0, 1]]))

    assert numbers["nll_sum"] == 1e6
    assert numbers["perplexity"] == math.inf == exp_or_inf(1e6)
    masked = measure_losses(sequence_losses([[[-math.inf, 0.0], [0.0, 0.0]]], [[0, 1]]))
    assert masked["perplexity"] == 1


def test_no_label_has_no_perplexity() -> None:
    losses = sequence_losses([EVEN], [[0, *[IGNORE_INDEX] * 3]])

    assert pooled_perplexity(losses)["perplexity"] is None
    assert measure_losses(losses, [[0]])["hf_trainer_style_perplexity"] is None
    assert losses[0].nll_mean is None
    assert trainer_style_loss([], []) is None


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (EVEN, [0, 1], "logits of 2 tokens"),
        ([[0.0], [0.0, 1.0]], [0, 1], "inhomogeneous"),
        ([[math.nan, 0.0], [0.0, 0.0]], [0, 1], "NaN"),
        (EVEN, [0, 1, 2, 0], "labels below 2"),
        ([[], []], [0, 0], "shape"),
    ],
)
def test_what_does_not_fit_is_refused(logits: list, labels: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sequence_loss(logits, labels)


def test_sequences_and_logits_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="expected logits of 2 sequences, found 1"):
        sequence_losses([EVEN], [[0], [1]])
