"""Replies to a batch of prompts are those to each prompt alone, whatever stands beside it.

Reference: transformers' `generate` on one unpadded prompt.
"""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from medtune.models.generation import (
    BATCH_PROMPTS,
    BATCH_TOKENS,
    Reply,
    batch_prompts,
    generate_batch,
    stop_ids_of,
)

LIMIT = 12  # tokens


@pytest.fixture(scope="module")
def model(small_model_folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(small_model_folder).eval()


def ids_alone(model: PreTrainedModel, prompt: list[int], limit: int = LIMIT) -> list[int]:
    """The most likely continuation by repeated forward passes, without a cache."""
    ids = list(prompt)
    for _ in range(limit):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def prompts_of(tokenizer: PreTrainedTokenizerFast, *texts: str) -> list[list[int]]:
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]


def test_reply_in_a_batch_is_the_reply_alone(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    prompts = prompts_of(tokenizer, "头痛", "感冒发热三天了应该怎么办？", "咳", "布洛芬怎么吃？")

    replies = generate_batch(model, tokenizer, prompts, LIMIT, [0])

    expected = [tokenizer.decode(ids_alone(model, prompt)) for prompt in prompts]
    assert [reply.text for reply in replies] == [text.strip() for text in expected]
    assert not any(reply.stopped for reply in replies)


def test_reply_ends_before_the_first_stop_id(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    prompts = prompts_of(tokenizer, "头痛", "感冒发热")
    whole = [ids_alone(model, prompt) for prompt in prompts]
    stop = whole[0][5]
    place = whole[0].index(stop)
    assert stop not in whole[1]

    replies = generate_batch(model, tokenizer, prompts, LIMIT, [stop])

    assert replies[0] == Reply(tokenizer.decode(whole[0][:place]).strip(), True, place + 1)
    assert replies[1].stopped is False


def test_model_s_own_stop_ids_hold_where_none_are_given(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    (prompt,) = prompts_of(tokenizer, "头痛")
    first = ids_alone(model, prompt, 1)[0]
    for ids, expected in ((first, [first]), ([first, 1], [first, 1]), (None, [])):
        monkeypatch.setattr(model.generation_config, "eos_token_id", ids)
        assert stop_ids_of(model) == expected
        (reply,) = generate_batch(model, tokenizer, [prompt], LIMIT)
        assert reply.stopped == bool(expected)
        assert (reply.text == "") == bool(expected)


@given(st.lists(st.integers(1, 3 * BATCH_TOKENS), max_size=60))
def test_every_prompt_is_in_one_batch_that_is_not_too_large(lengths: list[int]) -> None:
    prompts = [[0] * length for length in lengths]

    batches = batch_prompts(prompts)

    assert sorted(number for batch in batches for number in batch) == list(range(len(lengths)))
    for batch in batches:
        assert 1 <= len(batch) <= BATCH_PROMPTS
        width = max(lengths[number] for number in batch)
        assert len(batch) == 1 or len(batch) * width <= BATCH_TOKENS
    widths = [max(lengths[number] for number in batch) for batch in batches]
    assert widths == sorted(widths, reverse=True)
