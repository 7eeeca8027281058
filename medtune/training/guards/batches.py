"""Which rows a batch was made of: found again by their tokens, and only when that is asked for."""

from typing import NamedTuple

import torch
from datasets import Dataset

from medtune.data.rows import row_lengths


class SeenBatch(NamedTuple):
    """The ids of a batch, (rows, longest), and how many of each row are real."""

    ids: torch.Tensor
    lengths: torch.Tensor

    def rows(self) -> list[list[int]]:
        """Return the ids of each row without padding."""
        pairs = zip(self.ids.tolist(), self.lengths.tolist(), strict=True)
        return [ids[:length] for ids, length in pairs]


def find_rows(dataset: Dataset, wanted: list[list[int]]) -> list[int]:
    """Return the numbers of the rows that have these ids (of a pair: prompt and chosen answer).

    Rows with the same ids are all named. The data set is read once, so this takes a while.
    """
    texts = {tuple(ids) for ids in wanted}
    longest = max(map(len, texts), default=0)
    is_pair = "prompt_ids" in dataset.column_names
    # A pair has its rejected answer besides: its whole length says little, so all are looked at.
    candidates = [
        n for n, length in enumerate(row_lengths(dataset)) if is_pair or length <= longest
    ]
    found = []
    for number in candidates:
        row = dataset[number]
        ids = row["prompt_ids"] + row["chosen_ids"] if is_pair else row["input_ids"]
        if tuple(ids) in texts:
            found.append(number)
    return found
