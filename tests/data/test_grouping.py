"""Documents become blocks and batches without losing a token or seeing each other.

References: the docstrings' examples, tensors written out by hand, and, for packing, the same model
on each document alone.
"""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import GlmForCausalLM, PreTrainedTokenizerFast

from medtune.common.errors import DataError
from medtune.data.grouping import (
    fault_tolerance_data_collator,
    group_text_function,
    positions_of,
    tokenize_function,
)
from medtune.data.rendering import IGNORE_INDEX
from medtune.models.tiny import SPECIAL_TOKENS

PAD = 0


def flat(rows: list[list[int]]) -> list[int]:
    return [token for row in rows for token in row]


# -- text to ids


def test_document_is_prefix_text_end(tokenizer: PreTrainedTokenizerFast) -> None:
    gmask, sop, end = tokenizer.convert_tokens_to_ids(["[gMASK]", "<sop>", "<|endoftext|>"])
    texts = ["头痛怎么办", "a\n\nb", ""]
    contents = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]

    assert tokenize_function(texts, tokenizer) == [[gmask, sop, *ids, end] for ids in contents]


@pytest.mark.parametrize("name", SPECIAL_TOKENS)
def test_control_text_in_a_document_stays_text(
    tokenizer: PreTrainedTokenizerFast, name: str
) -> None:
    text = f"{name}前{name}{name}后{name}"
    (ids,) = tokenize_function([text], tokenizer)
    controls = set(tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)))

    assert not controls & set(ids[2:-1])
    assert tokenizer.decode(ids[2:-1]) == text
    assert tokenizer.convert_ids_to_tokens([*ids[:2], ids[-1]]) == [
        "[gMASK]",
        "<sop>",
        "<|endoftext|>",
    ]


def test_tokenizer_without_end_token_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    other = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)

    with pytest.raises(DataError, match="end-of-text token"):
        tokenize_function(["头痛"], other)


# -- documents to blocks


def test_example_of_the_docstring() -> None:
    assert group_text_function([[5, 6, 0], [7, 8, 9, 0]], 4) == [
        {"input_ids": [5, 6, 0, 7], "labels": [-100, 6, 0, -100], "seq_lengths": [3, 1]},
        {"input_ids": [8, 9, 0], "labels": [-100, 9, 0], "seq_lengths": [3]},
    ]


def test_long_document_goes_on_in_the_next_blocks() -> None:
    assert group_text_function([[1, 2, 3, 4, 5, 6, 7]], 3) == [
        {"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "seq_lengths": [3]},
        {"input_ids": [4, 5, 6], "labels": [-100, 5, 6], "seq_lengths": [3]},
        {"input_ids": [7], "labels": [-100], "seq_lengths": [1]},
    ]


def test_document_that_fills_a_block_leaves_no_empty_one() -> None:
    assert group_text_function([[1, 2], [3, 4]], 2) == [
        {"input_ids": [1, 2], "labels": [-100, 2], "seq_lengths": [2]},
        {"input_ids": [3, 4], "labels": [-100, 4], "seq_lengths": [2]},
    ]


@pytest.mark.parametrize("documents", [[], [[]], [[], []]])
def test_no_token_gives_no_block(documents: list[list[int]]) -> None:
    assert group_text_function(documents, 4) == []


@pytest.mark.parametrize("block_size", [1, 0, -4])
def test_block_too_short_to_predict_is_refused(block_size: int) -> None:
    with pytest.raises(ValueError, match=f"2 or more, found {block_size}"):
        group_text_function([[1, 2]], block_size)


@pytest.mark.parametrize("seed", range(200))
def test_no_token_is_lost_and_only_piece_starts_are_masked(seed: int) -> None:
    rng = random.Random(seed)
    block_size = rng.randint(2, 40)
    documents = [
        [rng.randint(0, 999) for _ in range(rng.choice([0, 1, 2, rng.randint(1, 100)]))]
        for _ in range(rng.randint(1, 30))
    ]

    rows = group_text_function(documents, block_size)

    ids = [row["input_ids"] for row in rows]
    assert flat(ids) == flat(documents)
    assert all(len(block) == block_size for block in ids[:-1])
    assert not ids or 1 <= len(ids[-1]) <= block_size
    # A piece starts where a document or a block does, and nowhere else.
    offset, document_starts = 0, set()
    for document in documents:
        document_starts |= {offset} if document else set()
        offset += len(document)
    offset = 0
    for row in rows:
        length = len(row["input_ids"])
        starts = [n for n in range(length) if n == 0 or offset + n in document_starts]
        lengths = [end - start for start, end in zip(starts, [*starts[1:], length], strict=True)]
        assert row["seq_lengths"] == lengths
        assert sum(row["seq_lengths"]) == length
        assert row["labels"] == [
            IGNORE_INDEX if place in starts else token
            for place, token in enumerate(row["input_ids"])
        ]
        offset += length


# -- rows to batches


def test_example_of_the_collator_s_docstring() -> None:
    rows = [{"input_ids": [5, 6], "labels": [-100, 6]}, {"input_ids": [7], "labels": [7]}]
    batch = fault_tolerance_data_collator(PAD)(rows)

    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[5, 6], [7, 0]],
        "labels": [[-100, 6], [7, -100]],
        "attention_mask": [[1, 1], [1, 0]],
    }
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_blocks_get_positions_that_restart_and_no_mask() -> None:
    rows = group_text_function([[5, 6, 9], [7, 8, 4, 9], [3, 9]], 6)
    batch = fault_tolerance_data_collator(PAD)(rows)

    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[5, 6, 9, 7, 8, 4], [9, 3, 9, 0, 0, 0]],
        "labels": [[-100, 6, 9, -100, 8, 4], [-100, -100, 9, -100, -100, -100]],
        "position_ids": [[0, 1, 2, 0, 1, 2], [0, 0, 1, 0, 1, 2]],
        "num_tokens": [6, 3],
    }
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_padding_takes_the_pad_token_and_leaves_the_rows_as_they_were() -> None:
    rows = [{"input_ids": [7], "labels": [7]}, {"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}]
    batch = fault_tolerance_data_collator(99)(rows)

    assert batch["input_ids"].tolist() == [[7, 99, 99], [1, 2, 3]]
    assert rows[0] == {"input_ids": [7], "labels": [7]}


@pytest.mark.parametrize("width", [6, 7, 9])
def test_positions_of_padding_are_one_more_piece(width: int) -> None:
    expected = [0, 1, 2, 0, 0, 1, 0, 1, 2]

    assert positions_of([3, 1, 2], width) == expected[:width]
    assert positions_of([3, 1], 6) == [0, 1, 2, 0, 0, 1]  # the docstring's example


@pytest.mark.parametrize(
    ("row", "lengths"),
    [
        ({"input_ids": [1, 2], "labels": [1]}, "1 and 2"),
        ({"input_ids": [1], "labels": [1, 2]}, "2 and 1"),
        ({"input_ids": [], "labels": []}, "0 and 0"),
    ],
)
def test_row_of_unequal_lengths_is_refused_by_its_number(row: dict[str, Any], lengths: str) -> None:
    good = {"input_ids": [1, 2], "labels": [1, 2]}

    with pytest.raises(DataError, match=f"row 1 of a batch: .* found {lengths}"):
        fault_tolerance_data_collator(PAD)([good, row])


# -- packed = alone

LENGTHS = ([7, 12, 5], [9, 1, 14], [11, 4])  # documents of three blocks of 24, the last one short
BLOCK_TOKENS = 24


@pytest.fixture(scope="module")
def model(small_model_folder: Path) -> GlmForCausalLM:
    return GlmForCausalLM.from_pretrained(small_model_folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def documents() -> list[list[int]]:
    """Documents of random ids of ordinary tokens; in blocks of 24 none is divided."""
    rng = random.Random(3)
    return [[rng.randint(10, 3900) for _ in range(n)] for block in LENGTHS for n in block]


@torch.no_grad()
def loss_alone(model: GlmForCausalLM, document: list[int]) -> float:
    """Summed negative log-likelihood of all tokens but the first, with nothing else around."""
    if len(document) == 1:
        return 0.0
    ids = torch.tensor([document])
    logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
    return cross_entropy(logits.double(), ids[0, 1:], reduction="sum").item()


@torch.no_grad()
def test_documents_in_one_block_have_the_loss_that_each_has_alone(
    model: GlmForCausalLM, documents: list[list[int]]
) -> None:
    rows = group_text_function(documents, BLOCK_TOKENS)
    assert [row["seq_lengths"] for row in rows] == list(map(list, LENGTHS))
    packed = []
    for batch_rows in (rows[:2], rows[1:]):  # two full blocks; a full one and a padded one
        batch = fault_tolerance_data_collator(PAD)(batch_rows)
        logits = model(
            input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False
        ).logits
        losses = cross_entropy(
            logits[:, :-1].flatten(0, 1).double(),
            batch["labels"][:, 1:].flatten(),
            ignore_index=IGNORE_INDEX,
            reduction="none",
        ).view(len(batch_rows), -1)
        for row, row_losses in zip(batch_rows, losses, strict=True):
            start = 0
            for length in row["seq_lengths"]:
                # Loss n is that of token n + 1; a piece's first token has none.
                packed.append(row_losses[start : start + length - 1].sum().item())
                start += length

    alone = [loss_alone(model, document) for document in documents]
    expected = alone[:6] + alone[3:]
    # fp32 rounding measured at 2e-6; seeing the document before would move a sum by 0.16 (below)
    assert packed == pytest.approx(expected, abs=1e-5, rel=0)


@torch.no_grad()
def test_documents_would_see_each_other_with_running_positions(
    model: GlmForCausalLM, documents: list[list[int]]
) -> None:
    """The check above can fail: without restarts the second document's loss differs."""
    ids = torch.tensor([documents[0] + documents[1]])
    logits = model(input_ids=ids, use_cache=False).logits[0].double()
    start = len(documents[0])
    loss = cross_entropy(logits[start:-1], ids[0, start + 1 :], reduction="sum").item()

    assert abs(loss - loss_alone(model, documents[1])) > 0.05
