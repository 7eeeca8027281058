"""The cases of bench/gpu.py: which rows a step has, and how a system lays them out.

Rows are the same for every system; how many go through the model at a time is not: the padded
systems take a fixed number of rows, the others as many as fill a stream.
"""

import random
from dataclasses import dataclass
from typing import NamedTuple

import torch
from transformers import GlmConfig

from bench.cases import QUANTILES
from bench.flops import IGNORE_INDEX, Row, count_work
from bench.models import build_config

SEED = 20
MAX_ROW_TOKENS = 2048  # of rows of real lengths
STREAM_TOKENS = 8192  # of a stream without padding
OURS, DENSE_MASK = "ours", "dense_mask"
PADDED_RECOMPUTED, PADDED = "padded_recomputed", "padded"


class Size(NamedTuple):
    """A model, and what every length is divided by for it."""

    config: GlmConfig
    divisor: int


# The defaults of GlmConfig are the 9B model's, which tests/models/test_glm4_9b.py counts.
SIZES = {"9b": Size(GlmConfig(), 1), "tiny": Size(build_config("tiny"), 32)}


@dataclass(frozen=True)
class Task:
    """Rows of a step and how they are trained on.

    kind: sft or dpo.   row_tokens: of every row; 0: drawn from real lengths.   padded_rows: rows at
    a time of the padded systems, with all layers recomputed (TRL's defaults) and with none, which
    memory would not hold as many of.   seconds: budget of one system; less left, and it is skipped.
    """

    kind: str
    num_rows: int
    row_tokens: int
    padded_rows: tuple[int, int]
    seconds: int
    systems: tuple[str, ...] = (OURS, PADDED_RECOMPUTED, PADDED)
    trains_all: bool = False
    has_online_reference: bool = True


TASKS = {
    "sft_real": Task("sft", 32, 0, (8, 4), 40, (OURS, PADDED_RECOMPUTED, PADDED, DENSE_MASK)),
    "sft_2048": Task("sft", 8, 2048, (8, 4), 30),
    "dpo_online": Task("dpo", 8, 0, (8, 2), 45),
    "dpo_precomputed": Task("dpo", 8, 0, (8, 2), 45, has_online_reference=False),
    "full_2048": Task("sft", 4, 2048, (4, 2), 30, trains_all=True),
    "sft_4096": Task("sft", 4, 4096, (4, 2), 30),
}


class Place(NamedTuple):
    """Where it runs, and at which size."""

    device: str
    size: Size
    num_steps: int

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return torch.bfloat16 if self.device == "cuda" else torch.float32


def draw_steps(task: Task, size: Size, num_steps: int) -> list[list[Row]]:
    """Return the rows of each step, the same for every system."""
    generator = random.Random(SEED)

    def length(part: str) -> int:
        quantiles = QUANTILES[task.kind][part]
        place = generator.uniform(0, len(quantiles) - 1)
        low = min(int(place), len(quantiles) - 2)
        value = quantiles[low] + (place - low) * (quantiles[low + 1] - quantiles[low])
        return max(2, round(value) // size.divisor)

    def ids(count: int) -> list[int]:
        return generator.choices(range(1, size.config.vocab_size), k=count)

    def draw_row() -> Row:
        limit = MAX_ROW_TOKENS // size.divisor
        if task.row_tokens:
            tokens = ids(task.row_tokens // size.divisor)
            return {"input_ids": tokens, "labels": [IGNORE_INDEX, *tokens[1:]]}
        prompt = ids(min(length("prompt"), limit - 2))
        room = limit - len(prompt)
        if task.kind == "dpo":
            parts = {part: ids(min(length(part), room)) for part in ("chosen", "rejected")}
            return {"prompt_ids": prompt} | {f"{part}_ids": one for part, one in parts.items()}
        answer = ids(min(length("answer"), room))
        return {"input_ids": prompt + answer, "labels": [IGNORE_INDEX] * len(prompt) + answer}

    return [[draw_row() for _ in range(task.num_rows)] for _ in range(num_steps)]


def split_rows(rows: list[Row], task: Task, system: str, size: Size) -> list[list[Row]]:
    """Return the rows that go through the model together: by count if padded, else by tokens."""
    if system in (PADDED, PADDED_RECOMPUTED):
        count = task.padded_rows[system == PADDED]
        return [rows[start : start + count] for start in range(0, len(rows), count)]
    parts: list[list[Row]] = [[]]
    for row in rows:
        tokens = count_work([*parts[-1], row]).num_tokens
        if parts[-1] and tokens > STREAM_TOKENS // size.divisor:
            parts.append([])
        parts[-1].append(row)
    return parts


class Batch:
    """Rows that go through the model together, as a system wants them."""

    def __init__(self, rows: list[Row], system: str, device: str) -> None:
        """Pad the rows (chosen answers before the rejected), or lay them end to end."""
        sequences = sequences_of(rows)
        columns = lay_end_to_end(sequences) if system == DENSE_MASK else pad(sequences)
        self.tensors = {name: torch.tensor(x, device=device) for name, x in columns.items()}
        self.reference: torch.Tensor | None = None  # (rows,) log-probabilities, once computed
        # Of what the model computes: medtune's forward leaves the padding out.
        is_ours = system == OURS
        self.num_tokens = (
            count_work(rows).num_tokens if is_ours else self.tensors["input_ids"].numel()
        )


def sequences_of(rows: list[Row]) -> list[tuple[list[int], list[int]]]:
    """Return ids and labels of each row; of pairs, all chosen answers and then the rejected."""
    if "input_ids" in rows[0]:
        return [(row["input_ids"], row["labels"]) for row in rows]
    return [
        (row["prompt_ids"] + row[part], [IGNORE_INDEX] * len(row["prompt_ids"]) + row[part])
        for part in ("chosen_ids", "rejected_ids")
        for row in rows
    ]


def pad(sequences: list[tuple[list[int], list[int]]]) -> dict[str, list[list[int]]]:
    """Return rows of one width, padded on the right."""
    width = max(len(ids) for ids, _ in sequences)
    return {
        "input_ids": [ids + [0] * (width - len(ids)) for ids, _ in sequences],
        "labels": [labels + [IGNORE_INDEX] * (width - len(labels)) for _, labels in sequences],
        "attention_mask": [[1] * len(x) + [0] * (width - len(x)) for x, _ in sequences],
    }


def lay_end_to_end(sequences: list[tuple[list[int], list[int]]]) -> dict[str, list[list[int]]]:
    """Return one row; transformers tells the documents apart by their positions."""
    return {
        "input_ids": [[token for ids, _ in sequences for token in ids]],
        "labels": [[label for _, labels in sequences for label in labels]],
        "position_ids": [[place for ids, _ in sequences for place in range(len(ids))]],
    }
