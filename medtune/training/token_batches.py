"""Batches by tokens instead of rows: every row once an epoch, in bins of nearly equal size."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import DataLoader, Sampler

from medtune.common.errors import ConfigError
from medtune.data.rows import row_lengths


def fill_bins(lengths: Sequence[int], budget: int, order: Sequence[int]) -> list[list[int]]:
    """Return row numbers in bins of at most `budget` tokens, by best fit, longest row first.

    order: the rows' order among equals; it changes which of them share a bin, never how many bins
    there are. Best-fit decreasing needs at most 11/9 of the fewest bins (Johnson 1974).
    Raises ConfigError for a row above the budget.
    Example: ([5, 3, 2, 4], 7, [0, 1, 2, 3]) -> [[0, 2], [3, 1]]
    """
    bins: list[list[int]] = []
    with_space: dict[int, list[int]] = defaultdict(list)  # tokens that are free -> bins
    free_sizes = 0  # the keys of `with_space` that hold a bin, as bits
    for row in sorted(order, key=lambda row: -lengths[row]):
        length = int(lengths[row])
        if length > budget:
            raise ConfigError(
                f"--tokens_per_batch: expected {length} or more, the length of the longest row, "
                f"found {budget}; raise it or lower --max_length."
            )
        fitting = free_sizes >> length << length
        if fitting:
            free = (fitting & -fitting).bit_length() - 1  # the tightest that still fits
            number = with_space[free].pop()
            if not with_space[free]:
                free_sizes &= ~(1 << free)
        else:
            free, number = budget, len(bins)
            bins.append([])
        bins[number].append(row)
        free -= length
        with_space[free].append(number)
        free_sizes |= 1 << free
    return bins


def split_to_multiple(bins: list[list[int]], num_processes: int) -> list[list[int]]:
    """Halve the fullest bins until every process gets as many; no row is repeated or lost.

    Raises ConfigError if there are fewer rows than processes.
    """
    bins = list(bins)
    while len(bins) % num_processes:
        fullest = max(range(len(bins)), key=lambda number: len(bins[number]))
        rows = bins[fullest]
        if len(rows) < 2:
            raise ConfigError(
                f"--tokens_per_batch: expected at least as many training rows as processes "
                f"({num_processes}) to share out, found {sum(map(len, bins))}."
            )
        bins[fullest] = rows[: len(rows) // 2]
        bins.append(rows[len(rows) // 2 :])
    return bins


class TokenBudgetBatches(Sampler[list[int]]):
    """This process's batches of row numbers, anew for each epoch and the same for each run.

    All processes work on batches of nearly the same size at a time.
    """

    def __init__(
        self, lengths: Sequence[int], budget: int, seed: int, rank: int = 0, num_processes: int = 1
    ) -> None:
        """Fill the bins once, so that a row above the budget is found at the start."""
        self.lengths, self.budget, self.seed = lengths, budget, seed
        self.rank, self.num_processes = rank, num_processes
        self.epoch = 0
        self.num_batches = len(self.bins_of_epoch()) // num_processes

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = epoch

    def bins_of_epoch(self) -> list[list[int]]:
        """Return every process's bins: those of one step side by side."""
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(len(self.lengths)).tolist()
        bins = split_to_multiple(fill_bins(self.lengths, self.budget, order), self.num_processes)
        bins.sort(key=lambda rows: -sum(int(self.lengths[row]) for row in rows))
        steps = np.arange(len(bins)).reshape(-1, self.num_processes)
        return [bins[number] for number in random.permutation(steps).reshape(-1)]

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the row numbers of each batch."""
        yield from self.bins_of_epoch()[self.rank :: self.num_processes]

    def __len__(self) -> int:
        """Batches of this process in an epoch."""
        return self.num_batches


class EpochDataLoader(DataLoader):
    """A DataLoader whose sampler hears of a new epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch on."""
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


def token_budget_loader(rows: Dataset, budget: int, trainer: Any) -> EpochDataLoader:
    """Return the training batches of this process for a trainer."""
    arguments = trainer.args
    sampler = TokenBudgetBatches(
        row_lengths(rows), budget, arguments.data_seed or arguments.seed,
        arguments.process_index, arguments.world_size,
    )  # fmt: skip
    return EpochDataLoader(
        rows,
        batch_sampler=sampler,
        collate_fn=trainer.data_collator,
        num_workers=arguments.dataloader_num_workers,
        pin_memory=arguments.dataloader_pin_memory,
    )


def gather_uneven(accelerator: Any) -> None:
    """Let `accelerator.gather` join tensors of which each process has another number of rows.

    TRL gathers a number for each pair, and batches of equal tokens hold unequal numbers of pairs:
    gloo ends the processes then, and NCCL reads past the shorter tensor.
    """
    gather = accelerator.gather

    def gather_rows(values: Any) -> Any:
        if not isinstance(values, torch.Tensor) or values.dim() != 1:
            return gather(values)
        counts = gather(torch.tensor([len(values)], device=values.device)).tolist()
        padded = values.new_zeros(max(counts))
        padded[: len(values)] = values
        parts = gather(padded).view(len(counts), -1)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    accelerator.gather = gather_rows
