"""Log-likelihoods of given text: perplexity over tokens, and which of two answers is likelier."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from medtune.data.grouping import fault_tolerance_data_collator
from medtune.data.rendering import IGNORE_INDEX

BATCH_ROWS = 8


def perplexity(model: PreTrainedModel, rows: Sequence[dict[str, Any]], pad_token_id: int) -> float:
    """Return exp(sum of negative log-likelihoods / number of supervised tokens) over all rows."""
    sums = list(log_likelihoods(model, rows, pad_token_id))
    num_tokens = sum(
        sum(label != IGNORE_INDEX for label in row["labels"][1:]) for row in rows
    )  # the first token of a row has nothing before it to be predicted from
    return float(torch.tensor(-sum(sums) / num_tokens, dtype=torch.float64).exp())


def preference_accuracy(
    model: PreTrainedModel, pairs: Sequence[dict[str, list[int]]], pad_token_id: int
) -> float:
    """Return the share of pairs whose chosen answer is likelier as a whole than the rejected one.

    An answer's log-likelihood is the sum over its tokens, the quantity that DPO itself compares.
    """
    rows = [
        {
            "input_ids": pair["prompt_ids"] + pair[name],
            "labels": [IGNORE_INDEX] * len(pair["prompt_ids"]) + pair[name],
        }
        for pair in pairs
        for name in ("chosen_ids", "rejected_ids")
    ]
    sums = list(log_likelihoods(model, rows, pad_token_id))
    return sum(c > r for c, r in zip(sums[::2], sums[1::2], strict=True)) / len(pairs)


@torch.no_grad()
def log_likelihoods(
    model: PreTrainedModel, rows: Sequence[dict[str, Any]], pad_token_id: int
) -> Iterator[float]:
    """Yield the summed log-likelihood (nats) of each row's supervised tokens, in order."""
    collate = fault_tolerance_data_collator(pad_token_id)
    for start in range(0, len(rows), BATCH_ROWS):
        batch = collate(list(rows[start : start + BATCH_ROWS]))
        batch.pop("num_tokens", None)
        labels = batch.pop("labels")[:, 1:]
        inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
        logits = model(**inputs, use_cache=False).logits[:, :-1].float()
        loss = cross_entropy(
            logits.flatten(0, 1),
            labels.flatten().to(model.device),
            ignore_index=IGNORE_INDEX,
            reduction="none",
        )
        yield from (-loss.view(labels.shape).double().sum(1)).tolist()
