"""Perplexity from logits and labels: over tokens, and as two other programs count it.

The right one weighs every token alike: exp(sum of -log p / number of labels). The Trainer's is the
exponential of a mean of batch means, and differs where batches hold unequally many labels. The
third, exp(mean of all logits), is reported only to show that it does not look at the labels.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

IGNORE_INDEX = -100


@dataclass(frozen=True)
class SequenceLoss:
    """What one sequence adds: nll_sum in nats, over `tokens` labels; its logits' sum and number."""

    nll_sum: float
    tokens: int
    logit_sum: float
    num_logits: int

    @property
    def nll_mean(self) -> float | None:
        """Mean negative log-likelihood of a label; None where no label counts."""
        return self.nll_sum / self.tokens if self.tokens else None


def sequence_loss(logits: Any, labels: Sequence[int]) -> SequenceLoss:
    """Return the loss of one sequence: the logits at t predict the label at t + 1.

    logits: (time, vocabulary), any nested sequence or array.   labels: (time,), -100 is left out.
    Raises ValueError if the shapes differ, a logit is no finite number or a label no token.
    """
    logits_TV = np.asarray(logits, dtype=np.float64)
    if logits_TV.ndim != 2 or len(logits_TV) != len(labels) or not logits_TV.size:
        raise ValueError(
            f"expected logits of {len(labels)} tokens by the vocabulary, found the shape "
            f"{logits_TV.shape}"
        )
    # A masked word may have -inf; NaN, +inf or a row without any word show in the maximum.
    if not np.isfinite(logits_TV.max(axis=1)).all():
        raise ValueError("expected finite logits, found NaN or infinity")
    places = [n for n in range(1, len(labels)) if labels[n] != IGNORE_INDEX]
    if any(not 0 <= labels[n] < logits_TV.shape[1] for n in places):
        raise ValueError(f"expected labels below {logits_TV.shape[1]}, found another")
    rows = logits_TV[[n - 1 for n in places]]
    chosen = rows[np.arange(len(places)), [labels[n] for n in places]] if places else rows[:, 0]
    with np.errstate(over="ignore"):  # logits near the largest float: the sums are infinite then
        return _loss_of(logits_TV, rows, chosen)


def _loss_of(logits_TV: np.ndarray, rows: np.ndarray, chosen: np.ndarray) -> SequenceLoss:
    """Return the loss of the rows that predict a label, by log-sum-exp."""
    largest = rows.max(axis=1, keepdims=True)
    log_sums = largest[:, 0] + np.log(np.exp(rows - largest).sum(axis=1))
    return SequenceLoss(
        float((log_sums - chosen).sum()), len(rows), float(logits_TV.sum()), logits_TV.size
    )


def exp_or_inf(value: float) -> float:
    """Return e to this power; infinity where that is too large for a float."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def pooled_perplexity(losses: Iterable[SequenceLoss]) -> dict[str, float | int | None]:
    """Return tokens, nll_sum, nll_token_mean and perplexity over all labels of all sequences.

    The means are None where no label counts.
    """
    losses = list(losses)
    tokens = sum(loss.tokens for loss in losses)
    nll_sum = sum(loss.nll_sum for loss in losses)
    mean = nll_sum / tokens if tokens else None
    perplexity = None if mean is None else exp_or_inf(mean)
    return {
        "tokens": tokens,
        "nll_sum": nll_sum,
        "nll_token_mean": mean,
        "perplexity": perplexity,
    }


def trainer_style_loss(
    losses: Sequence[SequenceLoss], batches: Iterable[Sequence[int]]
) -> float | None:
    """Return the Trainer's eval_loss: the mean of batch means, each weighted by its sequences.

    batches: indices of the sequences of each batch.   None where a batch holds no label, for which
    the Trainer reports NaN.
    """
    total, num_sequences = 0.0, 0
    for batch in batches:
        tokens = sum(losses[index].tokens for index in batch)
        if not tokens:
            return None
        total += len(batch) * sum(losses[index].nll_sum for index in batch) / tokens
        num_sequences += len(batch)
    return total / num_sequences if num_sequences else None


def sequence_losses(logits: Sequence[Any], labels: Sequence[Sequence[int]]) -> list[SequenceLoss]:
    """Return the loss of each sequence. Raises ValueError as `sequence_loss`.

    logits: (sequences, time, vocabulary); sequences may differ in length.   labels: (sequences,
    time).
    """
    if len(logits) != len(labels):
        raise ValueError(f"expected logits of {len(labels)} sequences, found {len(logits)}")
    return [sequence_loss(*pair) for pair in zip(logits, labels, strict=True)]


def measure_losses(
    losses: Sequence[SequenceLoss], batches: Sequence[Sequence[int]] | None = None
) -> dict[str, Any]:
    """Return all numbers of some sequences.

    batches: indices of the sequences of each evaluation batch, for the Trainer's value.
    """
    numbers: dict[str, Any] = pooled_perplexity(losses)
    numbers["per_sequence_nll_mean"] = [loss.nll_mean for loss in losses]
    if batches is not None:
        loss = trainer_style_loss(losses, batches)
        numbers["hf_trainer_style_eval_loss"] = loss
        numbers["hf_trainer_style_perplexity"] = None if loss is None else exp_or_inf(loss)
    num_logits = sum(loss.num_logits for loss in losses)
    mean_logit = sum(loss.logit_sum for loss in losses) / num_logits
    numbers["seed000_compute_metrics_value"] = exp_or_inf(mean_logit)
    return numbers
