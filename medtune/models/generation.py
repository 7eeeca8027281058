"""Replies of a model to prompts, which are token ids, and whether they end by themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_PROMPTS = 16
BATCH_TOKENS = 16_384  # of a batch's prompts with their padding: long ones come in smaller batches


@dataclass(frozen=True)
class Reply:
    """A generated reply; `stopped` is False where the token limit cut it.

    num_tokens: with the token that ended it.
    """

    text: str
    stopped: bool
    num_tokens: int


def batch_prompts(prompts: Sequence[list[int]]) -> list[list[int]]:
    """Return the numbers of the prompts of each batch, those of a like length together.

    The longest come first, so that memory runs out at once or never.
    """
    batches: list[list[int]] = []
    width = 0
    for number in sorted(range(len(prompts)), key=lambda n: (-len(prompts[n]), n)):
        room = max(1, min(BATCH_PROMPTS, BATCH_TOKENS // max(width, 1)))
        if not batches or len(batches[-1]) >= room:
            batches.append([])
            width = len(prompts[number])
        batches[-1].append(number)
    return batches


@torch.no_grad()
def generate_batch(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    stop_ids: Sequence[int] | None = None,
    **options: Any,
) -> list[Reply]:
    """Return the most likely reply (greedy) to each of the prompts, answered at one time.

    prompts: their ids, see batch_prompts.   stop_ids: what ends a reply; None for the model's own.
    The model is to be in evaluation mode.   options: of transformers' `generate`, such as
    repetition_penalty; do_sample draws the replies.
    """
    ends = set(stop_ids_of(model) if stop_ids is None else stop_ids)
    width = max(map(len, prompts))
    pad = tokenizer.pad_token_id
    padded = [[pad] * (width - len(ids)) + ids for ids in prompts]
    mask = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
    output = model.generate(
        input_ids=torch.tensor(padded, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
        max_new_tokens=max_new_tokens,
        use_cache=True,
        eos_token_id=sorted(ends) or None,
        pad_token_id=pad,
        **{"do_sample": False, **options},
    )
    replies = []
    for row in output[:, width:].tolist():
        end = next((place for place, token in enumerate(row) if token in ends), None)
        text = tokenizer.decode(row[:end], skip_special_tokens=True)
        num_tokens = len(row) if end is None else end + 1
        replies.append(Reply(text.strip(), end is not None, num_tokens))
    return replies


def stop_ids_of(model: PreTrainedModel | PeftModel) -> list[int]:
    """Return the ids that a model's own generation configuration stops at."""
    ids = model.generation_config.eos_token_id
    return [] if ids is None else [ids] if isinstance(ids, int) else list(ids)
