"""The work that a training step cannot avoid, in floating-point operations, and the machine's rate.

Useful work is counted from the lengths alone: no padding, a pair's prompt once, attention causal,
the head for labelled positions only, nothing computed twice. A frozen weight costs two products of
2 operations per parameter and token (forward, and back to its input), a LoRA weight three.
"""

import time
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GlmConfig

from bench.models import linear_shapes

IGNORE_INDEX = -100
ATTENTION_FORWARD_AND_BACKWARD = 3.5  # in forward passes; the backward recomputes the scores
GEMM_TOKENS, GEMM_REPEATS = 2048, 5
Row = dict[str, Any]


@dataclass
class Work:
    """What one epoch must do.

    num_tokens: each token once, a shared prompt once.   num_row_tokens: as rows are laid out, a
    pair's prompt twice.   num_labelled: positions that are scored.   num_attended: (query, key)
    pairs of the causal attention.
    """

    num_tokens: int = 0
    num_row_tokens: int = 0
    num_labelled: int = 0
    num_attended: float = 0.0

    def add(self, row: Row) -> None:
        """Count a row of any kind."""
        if "prompt_ids" in row:
            self._add_pair(
                *(len(row[name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
            )
            return
        lengths = row.get("seq_lengths") or [len(row["input_ids"])]
        self.num_tokens += sum(lengths)
        self.num_row_tokens += sum(lengths)
        self.num_labelled += sum(label != IGNORE_INDEX for label in row["labels"])
        self.num_attended += sum(length**2 / 2 for length in lengths)

    def _add_pair(self, prompt: int, chosen: int, rejected: int) -> None:
        self.num_tokens += prompt + chosen + rejected
        self.num_row_tokens += 2 * prompt + chosen + rejected
        self.num_labelled += chosen + rejected
        answers = sum(length * prompt + length**2 / 2 for length in (chosen, rejected))
        self.num_attended += prompt**2 / 2 + answers


def count_work(rows: list[Row]) -> Work:
    """Return the sum over rows."""
    work = Work()
    for row in rows:
        work.add(row)
    return work


def useful_flops(
    config: GlmConfig,
    work: Work,
    lora_rank: int | None,
    num_epochs: int,
    num_reference_passes: int,
) -> float:
    """Return the operations of a LoRA run with a frozen head, or of a run that trains all weights.

    lora_rank: None if all weights are trained.
    num_reference_passes: passes of a DPO reference over the data (0 for other training).
    """
    # Forward, back to the input, and for a trained weight back to it.
    products = 4 if lora_rank else 6
    shapes = linear_shapes(config)
    body = config.num_hidden_layers * sum(inputs * outputs for inputs, outputs in shapes)
    lora = config.num_hidden_layers * (lora_rank or 0) * sum(map(sum, shapes))
    head = config.vocab_size * config.hidden_size * work.num_labelled
    width = config.num_attention_heads * config.head_dim
    attention = 4 * width * config.num_hidden_layers * work.num_attended
    policy = (
        (products * body + 6 * lora) * work.num_tokens
        + ATTENTION_FORWARD_AND_BACKWARD * attention
        + products * head
    )
    reference = 2 * body * work.num_tokens + attention + 2 * head
    return num_epochs * policy + num_reference_passes * reference


def measure_gemm_rate(config: GlmConfig) -> float:
    """Return float32 operations per second of the body's own matrix products, the best of a few."""
    shapes = linear_shapes(config)
    inputs = [torch.randn(GEMM_TOKENS, width) for width, _ in shapes]
    weights = [torch.randn(outputs, width) for width, outputs in shapes]
    flops = 2 * GEMM_TOKENS * sum(width * outputs for width, outputs in shapes)
    best = float("inf")
    with torch.no_grad():
        for _ in range(GEMM_REPEATS):
            start = time.perf_counter()
            for x, weight in zip(inputs, weights, strict=True):
                torch.nn.functional.linear(x, weight)
            best = min(best, time.perf_counter() - start)
    return flops / best
