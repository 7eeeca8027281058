"""A P-Tuning v2 prefix of ChatGLM2's own training code, made into PEFT's prefix tuning for glm.

Both keep, for each virtual token, a key and a value for each layer and group, in the same order.
The positions differ: the old code counts the text from 0, beside the prefix, and glm from the
length of the prefix on. A learned key is turned by that length, and then its product with every
query is what it was: only the distance of two positions counts in a rotary embedding.
"""

from pathlib import Path

import torch
from peft import PrefixTuningConfig
from transformers import GlmConfig

from medtune.common.errors import CheckpointError
from medtune.models.conversion.shards import describe_names
from medtune.models.weight_files import FETCH_AGAIN

OLD_PREFIX = "transformer.prefix_encoder."
EMBEDDING = f"{OLD_PREFIX}embedding.weight"
# Of a prefix trained with --prefix_projection: two linear layers with tanh between them.
PROJECTION = tuple(
    f"{OLD_PREFIX}trans.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")
)


def convert_prefix(
    where: Path, tensors: dict[str, torch.Tensor], config: GlmConfig
) -> tuple[dict[str, torch.Tensor], PrefixTuningConfig]:
    """Return the tensors and the settings of the same prefix for glm, in float32.

    config: the sizes of the base.   Raises CheckpointError: other tensors, or of another base.
    """
    expected = {EMBEDDING, *(PROJECTION if len(tensors) > 1 else ())}
    width = config.num_key_value_heads * config.head_dim
    if tensors.keys() != expected:
        raise CheckpointError(
            f"{where}: expected the tensors of a prefix encoder ({', '.join(sorted(expected))}), "
            f"found {describe_names(sorted(tensors))}. {FETCH_AGAIN}"
        )
    values = tensors[EMBEDDING].float()
    if len(tensors) > 1:
        first, first_bias, second, second_bias = (tensors[name].float() for name in PROJECTION)
        values = torch.tanh(values @ first.T + first_bias) @ second.T + second_bias
    num_tokens, columns = values.shape
    if columns != config.num_hidden_layers * 2 * width:
        raise CheckpointError(
            f"{where}: expected {config.num_hidden_layers * 2 * width:,} values for each virtual "
            f"token (the sizes of the base), found {columns:,}; give the model that the prefix was "
            "trained on as --base_model."
        )
    # (virtual tokens, layers, key or value, groups, head)
    pairs = values.view(num_tokens, config.num_hidden_layers, 2, -1, config.head_dim).clone()
    pairs[:, :, 0] = turn(pairs[:, :, 0], num_tokens, config)
    settings = PrefixTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=num_tokens,
        token_dim=width,
        num_transformer_submodules=1,
        num_attention_heads=config.num_key_value_heads,
        num_layers=config.num_hidden_layers,
        encoder_hidden_size=config.hidden_size,
        inference_mode=True,
    )
    return {"prompt_embeddings": pairs.reshape(num_tokens, columns)}, settings


def turn(keys: torch.Tensor, position: int, config: GlmConfig) -> torch.Tensor:
    """Return keys (…, head) with the rotary embedding of a position, as glm applies it."""
    rope = config.rope_parameters
    width = int(config.head_dim * rope["partial_rotary_factor"])
    frequencies = 1.0 / rope["rope_theta"] ** (torch.arange(0, width, 2).double() / width)
    angles = position * frequencies
    turned, rest = keys[..., :width].double(), keys[..., width:]
    even, odd = turned[..., 0::2], turned[..., 1::2]
    cos, sin = angles.cos(), angles.sin()
    pairs = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1)
    return torch.cat((pairs.flatten(-2).to(keys.dtype), rest), dim=-1)
