"""The two models of the benchmark: GLM's layers at a size that two cores train in a minute.

S is small; its output head has a larger share of the work than in a real model. P is
"proportional": its head has the share that GLM-4-9B's has (about 7 % of the products).
"""

import torch
from transformers import GlmConfig, GlmForCausalLM

MODEL_SEED = 42
SHAPES = {
    "S": {
        "vocab_size": 8192, "hidden_size": 256, "intermediate_size": 768,
        "num_hidden_layers": 6, "num_attention_heads": 4,
    },
    "P": {
        "vocab_size": 4096, "hidden_size": 512, "intermediate_size": 1712,
        "num_hidden_layers": 8, "num_attention_heads": 8,
    },
    # for the tests and for trying the benchmark itself; in no case
    "tiny": {
        "vocab_size": 512, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4,
    },
}  # fmt: skip


def build_config(size: str) -> GlmConfig:
    """Return the configuration of model S, P or tiny: two key-value heads, as in GLM-4-9B."""
    shape = SHAPES[size]
    return GlmConfig(
        **shape,
        num_key_value_heads=2,
        head_dim=shape["hidden_size"] // shape["num_attention_heads"],
        max_position_embeddings=2048,
        pad_token_id=0,
        eos_token_id=0,
    )


def build_model(size: str) -> GlmForCausalLM:
    """Return the model with random float32 weights, the same on every call."""
    torch.manual_seed(MODEL_SEED)
    return GlmForCausalLM(build_config(size))


def linear_shapes(config: GlmConfig) -> list[tuple[int, int]]:
    """Return (inputs, outputs) of the six linear layers that one decoder layer has."""
    width, inner = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    return [
        (width, queries), (width, keys), (width, keys), (queries, width),
        (width, 2 * inner), (inner, width),
    ]  # fmt: skip
