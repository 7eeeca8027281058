"""Token ids to training rows and batches: documents to blocks, rows to tensors.

    documents (lists of ids) -> group_text_function -> blocks -> fault_tolerance_data_collator

Documents that share a block do not see each other: positions restart at 0 with each, which the
model's attention takes as a border, and no document is asked to predict the next one's first token.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from medtune.common.errors import DataError
from medtune.data.encoding import ContextT, PlainEncoder
from medtune.data.rendering import IGNORE_INDEX

Row = dict[str, list[int]]


def tokenize_function(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Return the ids of each document: the model's prefix, the text, the end-of-text token.

    The prefix is what the tokenizer puts before an empty text (GLM-4: `[gMASK]<sop>`). Nothing is
    padded or cut, and control tokens written in a document stay text.
    Raises DataError if the tokenizer has no end-of-text token.
    """
    return next(tokenize_batches([(texts, None)], tokenizer))[0]


def tokenize_batches(
    batches: Iterable[tuple[Sequence[str], ContextT]], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[list[list[int]], ContextT]]:
    """Yield what tokenize_function returns for each batch of texts, and what came with it."""
    if tokenizer.eos_token_id is None:
        raise DataError(
            f"{tokenizer.name_or_path}: expected an end-of-text token (eos_token), found none; set "
            "it in tokenizer_config.json."
        )
    prefix, end = tokenizer("")["input_ids"], tokenizer.eos_token_id
    for documents, context in PlainEncoder(tokenizer).stream(batches):
        yield [[*prefix, *ids, end] for ids in documents], context


def group_text_function(documents: Sequence[Sequence[int]], block_size: int) -> list[Row]:
    """Lay documents end to end and cut blocks of `block_size` tokens; the last may be shorter.

    documents: one list of ids per document (not per line); a long one goes on in the next block.
    Returns rows with `input_ids`, `labels` (the first token of each piece is not predicted from the
    piece before it) and `seq_lengths` (the lengths of the pieces). No token is lost or invented:
    the ids of all rows, joined, are the ids of all documents, joined.
    Raises ValueError if block_size < 2.
    Example (size 4): [[5, 6, 0], [7, 8, 9, 0]] ->
      {"input_ids": [5, 6, 0, 7], "labels": [-100, 6, 0, -100], "seq_lengths": [3, 1]},
      {"input_ids": [8, 9, 0], "labels": [-100, 9, 0], "seq_lengths": [3]}
    """
    cutter = BlockCutter(block_size)
    return [row for document in documents for row in cutter.add(document)] + cutter.rest()


class BlockCutter:
    """Cuts blocks from documents that come one after the other, see group_text_function."""

    def __init__(self, block_size: int) -> None:
        """Start with an empty block. Raises ValueError if block_size < 2."""
        if block_size < 2:
            raise ValueError(f"expected block_size of 2 or more, found {block_size}")
        self.block_size = block_size
        self.num_pieces = 0  # of documents, so far; the first token of each is not predicted
        self._open: Row = {"input_ids": [], "labels": [], "seq_lengths": []}

    def add(self, document: Sequence[int]) -> list[Row]:
        """Return the blocks that `document` fills."""
        full = []
        start = 0
        while start < len(document):
            row = self._open
            piece = list(document[start : start + self.block_size - len(row["input_ids"])])
            row["input_ids"] += piece
            row["labels"] += [IGNORE_INDEX, *piece[1:]]
            row["seq_lengths"].append(len(piece))
            self.num_pieces += 1
            start += len(piece)
            if len(row["input_ids"]) == self.block_size:
                full += self.rest()
        return full

    @property
    def is_empty(self) -> bool:
        """True if no block is open."""
        return not self._open["input_ids"]

    def rest(self) -> list[Row]:
        """Return the block that is not full, if there is one, and begin another."""
        row, self._open = self._open, {"input_ids": [], "labels": [], "seq_lengths": []}
        return [row] if row["input_ids"] else []


@dataclass
class fault_tolerance_data_collator:  # noqa: N801 (the name that users of this trade know)
    """Make a batch of ragged rows: pad on the right, or say which row cannot be used.

    Without `seq_lengths`: input_ids, labels and attention_mask, each (rows, longest).
    With `seq_lengths` (blocks): input_ids, labels, position_ids that restart with each document,
    and num_tokens (rows,), the lengths without padding. A mask is left out on purpose: with one,
    transformers ignores the restarts and documents see each other. Padding is a document of its
    own that nothing is learnt from.
    Example (pad 0): [{ids [5, 6], labels [-100, 6]}, {ids [7], labels [7]}] ->
      input_ids [[5, 6], [7, 0]], labels [[-100, 6], [7, -100]], attention_mask [[1, 1], [1, 0]]
    Raises DataError for a row whose ids and labels differ in length.
    """

    pad_token_id: int

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Collate rows; keys as above, all int64."""
        for number, row in enumerate(features):
            lengths = len(row["input_ids"]), len(row["labels"])
            if lengths[0] != lengths[1] or not lengths[0]:
                raise DataError(
                    f"row {number} of a batch: expected as many labels as input_ids and at least "
                    f"one, found {lengths[1]} and {lengths[0]}."
                )
        batch = {
            "input_ids": self._pad([row["input_ids"] for row in features], self.pad_token_id),
            "labels": self._pad([row["labels"] for row in features], IGNORE_INDEX),
        }
        if "seq_lengths" in features[0]:
            width = batch["input_ids"].size(1)
            positions = [positions_of(row["seq_lengths"], width) for row in features]
            num_tokens = torch.tensor([len(row["input_ids"]) for row in features])
            return {**batch, "position_ids": torch.tensor(positions), "num_tokens": num_tokens}
        mask = self._pad([[1] * len(row["input_ids"]) for row in features], 0)
        return {**batch, "attention_mask": mask}

    @staticmethod
    def _pad(rows: list[list[int]], value: int) -> torch.Tensor:
        width = max(map(len, rows))
        return torch.tensor([row + [value] * (width - len(row)) for row in rows])


def positions_of(seq_lengths: Sequence[int], width: int) -> list[int]:
    """Return positions that restart at 0 with each piece; padding up to `width` is one more piece.

    Example: ([3, 1], 6) -> [0, 1, 2, 0, 0, 1].
    """
    padding = width - sum(seq_lengths)
    pieces = [*seq_lengths, padding] if padding else seq_lengths
    return [position for length in pieces for position in range(length)]
