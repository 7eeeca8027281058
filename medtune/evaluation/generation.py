"""Replies of a model to questions, and whether they end by themselves."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from medtune.data.records import Message
from medtune.data.rendering import ChatRenderer

BATCH_PROMPTS = 16


@dataclass(frozen=True)
class Reply:
    """A generated reply; `stopped` is False where the token limit cut it."""

    text: str
    stopped: bool


@torch.no_grad()
def generate_replies(
    model: PreTrainedModel,
    renderer: ChatRenderer,
    prompts: Sequence[Sequence[Message]],
    max_new_tokens: int,
) -> list[Reply]:
    """Return the most likely reply (greedy) to each prompt, at most `max_new_tokens` long."""
    stop_ids = model.generation_config.eos_token_id
    stop_ids = set(stop_ids if isinstance(stop_ids, list) else [stop_ids])
    replies = []
    for start in range(0, len(prompts), BATCH_PROMPTS):
        ids = [renderer.prompt_ids(prompt) for prompt in prompts[start : start + BATCH_PROMPTS]]
        width = max(map(len, ids))
        pad = renderer.tokenizer.pad_token_id
        padding = [width - len(row) for row in ids]
        padded = [[pad] * n + row for n, row in zip(padding, ids, strict=True)]
        mask = [[0] * n + [1] * len(row) for n, row in zip(padding, ids, strict=True)]
        output = model.generate(
            input_ids=torch.tensor(padded, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
        )
        for row in output[:, width:].tolist():
            end = next((i for i, token in enumerate(row) if token in stop_ids), None)
            text = renderer.tokenizer.decode(row[:end], skip_special_tokens=True)
            replies.append(Reply(text.strip(), end is not None))
    return replies
