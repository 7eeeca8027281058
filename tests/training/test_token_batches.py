"""Batches by tokens: every row once, none over the budget, the same loss as batches by rows."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from medtune.common.errors import ConfigError
from medtune.training.token_batches import (
    TokenBudgetBatches,
    fill_bins,
    row_lengths,
    split_to_multiple,
)

LENGTHS = np.random.default_rng(0).integers(3, 90, size=301).tolist()
BUDGET = 128


def test_bins_are_filled_by_best_fit() -> None:
    # 5 opens a bin (2 free), 4 a second (3 free), 3 fits the second best, 2 fills the first
    assert fill_bins([5, 3, 2, 4], 7, [0, 1, 2, 3]) == [[0, 2], [3, 1]]


def test_bins_hold_every_row_once_and_never_more_than_the_budget() -> None:
    bins = fill_bins(LENGTHS, BUDGET, range(len(LENGTHS)))
    assert sorted(row for rows in bins for row in rows) == list(range(len(LENGTHS)))
    totals = [sum(LENGTHS[row] for row in rows) for rows in bins]
    assert max(totals) <= BUDGET
    assert sum(LENGTHS) / (len(bins) * BUDGET) > 0.97


@pytest.mark.parametrize("num_processes", [1, 2, 3, 8])
def test_an_epoch_is_shared_out_whole_and_evenly(num_processes: int) -> None:
    shares = [
        TokenBudgetBatches(LENGTHS, BUDGET, seed=7, rank=rank, num_processes=num_processes)
        for rank in range(num_processes)
    ]
    batches = [list(share) for share in shares]
    assert {len(found) for found in batches} == {len(shares[0])}
    rows = [row for found in batches for batch in found for row in batch]
    assert sorted(rows) == list(range(len(LENGTHS)))
    for together in zip(*batches, strict=True):
        sizes = [sum(LENGTHS[row] for row in batch) for batch in together]
        assert max(sizes) <= BUDGET
        assert max(sizes) - min(sizes) <= max(LENGTHS)


def test_epochs_differ_and_repeat() -> None:
    batches = TokenBudgetBatches(LENGTHS, BUDGET, seed=7)
    first = list(batches)
    batches.set_epoch(1)
    second = list(batches)
    assert first != second and len(first) == len(second) == len(batches)
    batches.set_epoch(0)
    assert list(batches) == first
    assert list(TokenBudgetBatches(LENGTHS, BUDGET, seed=8)) != first


def test_fewer_batches_than_processes_are_divided() -> None:
    assert split_to_multiple([[0, 1, 2]], 2) == [[0], [1, 2]]
    with pytest.raises(ConfigError, match=r"at least as many .* processes \(4\).* found 3"):
        split_to_multiple([[0, 1, 2]], 4)


def test_a_row_over_the_budget_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected 90 or more, .* found 89"):
        TokenBudgetBatches([4, 90], 89, seed=0)


def test_lengths_are_those_of_the_rows() -> None:
    assert row_lengths(Dataset.from_list([{"input_ids": [1, 2, 3]}, {"input_ids": [4]}])) == [3, 1]
    pair = {"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5, 6]}
    rows = Dataset.from_list([pair, {**pair, "prompt_ids": []}])
    assert row_lengths(rows) == [6, 4]
    assert row_lengths(rows.select([1])) == [4]


def logged(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry for entry in map(json.loads, lines) if "loss" in entry]


@pytest.mark.parametrize("stage", ["pt", "sft", "dpo"])
def test_one_step_of_an_epoch_is_the_same_however_it_is_cut(
    run_stage: Callable[..., Path], stage: str
) -> None:
    """The whole epoch as one optimizer step: by rows, and by uneven batches of tokens."""
    common = ("--max_steps=2", "--lora_dropout=0", "--eval_strategy=no", "--logging_steps=1")
    by_rows = logged(run_stage(stage, "rows", *common, "--per_device_train_batch_size=100"))
    budget = 70 if stage == "pt" else 150
    by_tokens = logged(
        run_stage(
            stage, "tokens", *common, f"--tokens_per_batch={budget}",
            "--gradient_accumulation_steps=100",
        )
    )  # fmt: skip
    assert len(by_rows) == len(by_tokens) == 2
    for one, other in zip(by_rows, by_tokens, strict=True):
        # float32 sums in another order, on losses near 8 (0.7 for pairs)
        assert other["loss"] == pytest.approx(one["loss"], abs=1e-5)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)


def test_a_budget_below_the_longest_row_stops_the_run(run_stage: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="--tokens_per_batch: expected"):
        run_stage("sft", "out", "--tokens_per_batch=5")
