"""Renderers of two families: GLM-4 (the built-in tokenizer) and ChatML (none of GLM's tokens)."""

import json

import pytest
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from medtune.data.rendering import ChatRenderer
from medtune.models.families import family_of

CHATML_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def glm(tokenizer: PreTrainedTokenizerFast) -> ChatRenderer:
    return ChatRenderer(tokenizer, family_of(tokenizer).turn_end)


@pytest.fixture(scope="module")
def chatml(tokenizer: PreTrainedTokenizerFast) -> ChatRenderer:
    """A renderer for a family without any of GLM's tokens: a copy with other added tokens."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend["post_processor"] = None
    backend["added_tokens"] = [
        token for token in backend["added_tokens"] if token["content"] == "<|endoftext|>"
    ]
    copy = Tokenizer.from_str(json.dumps(backend))
    copy.add_special_tokens(
        [AddedToken(name, special=True) for name in ("<|im_start|>", "<|im_end|>")]
    )
    other = PreTrainedTokenizerFast(
        tokenizer_object=copy, eos_token="<|endoftext|>", chat_template=CHATML_TEMPLATE
    )
    return ChatRenderer(other, family_of(other).turn_end)
