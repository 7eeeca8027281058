"""The configuration of an old `chatglm` model: what it must say to be converted, and as glm's."""

from pathlib import Path
from typing import Any

from transformers import GlmConfig

from medtune.common.errors import CheckpointError
from medtune.common.files import read_object
from medtune.models.weight_files import CONFIG, FETCH_AGAIN

OLD_TYPE, NATIVE_TYPE = "chatglm", "glm"
ROPE_THETA = 10000.0
# What a key that is missing means: the defaults of the published configuration class.
DEFAULTS: dict[str, Any] = {
    "num_layers": 28,
    "padded_vocab_size": 65024,
    "hidden_size": 4096,
    "ffn_hidden_size": 13696,
    "kv_channels": 128,
    "num_attention_heads": 32,
    "seq_length": 2048,
    "attention_dropout": 0.0,
    "layernorm_epsilon": 1e-5,
    "rmsnorm": True,
    "apply_residual_connection_post_layernorm": False,
    "post_layer_norm": True,
    "add_bias_linear": False,
    "add_qkv_bias": False,
    "multi_query_attention": False,
    "multi_query_group_num": 1,
    "fp32_residual_connection": False,
    "original_rope": True,
    "rope_ratio": 1,
    "tie_word_embeddings": False,
    "initializer_range": 0.02,
}
# The only values with the mathematics of glm; all published models of these generations have them.
REQUIRED: dict[str, Any] = {
    "rmsnorm": True,
    "apply_residual_connection_post_layernorm": False,
    "post_layer_norm": True,
    "add_bias_linear": False,
    "multi_query_attention": True,
    "fp32_residual_connection": False,
    "original_rope": True,
}
SIZES = (
    "num_layers", "padded_vocab_size", "hidden_size", "ffn_hidden_size", "kv_channels",
    "num_attention_heads", "multi_query_group_num", "seq_length",
)  # fmt: skip
FIRST_GENERATION = ("position_encoding_2d", "inner_hidden_size")
ORIGINAL = "Convert the original 16-bit model of the same name."


def read_model_type(folder: Path) -> str | None:
    """Return the model_type of a folder's config.json. Raises CheckpointError: no such file."""
    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointError(
            f"{folder}: expected a model ({CONFIG}) or an adapter, found neither. {FETCH_AGAIN}"
        )
    return read_object(path, FETCH_AGAIN).get("model_type")


def read_old_config(folder: Path) -> dict[str, Any]:
    """Return the values of an old model's config.json, missing ones by their published defaults.

    Raises CheckpointError naming what makes it another architecture.
    """
    path = folder / CONFIG
    written = read_object(path, FETCH_AGAIN)
    check_generation(path, written)
    check_not_quantised(path, written)
    values = {**DEFAULTS, **written}
    for key, required in REQUIRED.items():
        if values[key] is not required:
            raise CheckpointError(
                f"{path}: expected {key}: {str(required).lower()}, as all published models have "
                f"it, found {str(values[key]).lower()}{'' if key in written else ' (the default)'}"
                ": glm has no such layers, so this model cannot be converted."
            )
    for key in SIZES:
        if type(values[key]) is not int or values[key] < 1:
            raise CheckpointError(
                f"{path}: expected {key}: a number from 1, found {values[key]!r}. {FETCH_AGAIN}"
            )
    if values["num_attention_heads"] % values["multi_query_group_num"]:
        raise CheckpointError(
            f"{path}: expected num_attention_heads to be a multiple of multi_query_group_num, "
            f"found {values['num_attention_heads']} and {values['multi_query_group_num']}."
        )
    return values


def check_generation(path: Path, written: dict[str, Any]) -> None:
    """Refuse models of other architectures with this model_type."""
    first = [key for key in FIRST_GENERATION if key in written]
    if first:
        raise CheckpointError(
            f"{path}: expected ChatGLM2, ChatGLM3 or GLM-4, found {first[0]}: ChatGLM-6B, the "
            "first generation, with two-dimensional positions, LayerNorm and GELU. It is another "
            "architecture that transformers has no class for; use a later generation."
        )
    if "vision_config" in written:
        raise CheckpointError(
            f"{path}: expected a text model, found vision_config: a model that sees pictures "
            "(GLM-4V), which this does not convert."
        )


def check_not_quantised(path: Path, written: dict[str, Any]) -> None:
    """Refuse a model whose weights were rounded to integers."""
    if written.get("quantization_bit") or written.get("quantization_config"):
        found = written.get("quantization_bit") or "quantization_config"
        raise CheckpointError(
            f"{path}: expected 16-bit or 32-bit weights, found quantization_bit: {found}: a "
            f"checkpoint quantised to int4 or int8. {ORIGINAL}"
        )


def native_config(values: dict[str, Any], pad_id: int | None, stop_ids: list[int]) -> GlmConfig:
    """Return glm's configuration of the same model.

    values: of `read_old_config`.   stop_ids: of the tokens that generation stops at.
    """
    return GlmConfig(
        vocab_size=values["padded_vocab_size"],
        hidden_size=values["hidden_size"],
        intermediate_size=values["ffn_hidden_size"],
        num_hidden_layers=values["num_layers"],
        num_attention_heads=values["num_attention_heads"],
        num_key_value_heads=values["multi_query_group_num"],
        head_dim=values["kv_channels"],
        attention_dropout=values["attention_dropout"],
        attention_bias=values["add_qkv_bias"],
        max_position_embeddings=values["seq_length"],
        initializer_range=values["initializer_range"],
        rms_norm_eps=values["layernorm_epsilon"],
        tie_word_embeddings=values["tie_word_embeddings"],
        rope_parameters={
            "rope_type": "default",
            "rope_theta": ROPE_THETA * values["rope_ratio"],
            "partial_rotary_factor": 0.5,
        },
        pad_token_id=pad_id,
        eos_token_id=stop_ids,
        architectures=["GlmForCausalLM"],
    )


def old_config(config: GlmConfig) -> dict[str, Any]:
    """Return the content of config.json that the same model has in the old format."""
    return {
        **DEFAULTS,
        "model_type": OLD_TYPE,
        "architectures": ["ChatGLMModel"],
        "num_layers": config.num_hidden_layers,
        "padded_vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "ffn_hidden_size": config.intermediate_size,
        "kv_channels": config.head_dim,
        "num_attention_heads": config.num_attention_heads,
        "seq_length": config.max_position_embeddings,
        "layernorm_epsilon": config.rms_norm_eps,
        "add_qkv_bias": config.attention_bias,
        "multi_query_attention": True,
        "multi_query_group_num": config.num_key_value_heads,
        "rope_ratio": config.rope_parameters["rope_theta"] / ROPE_THETA,
        "tie_word_embeddings": config.tie_word_embeddings,
        "torch_dtype": str(config.dtype).removeprefix("torch."),
    }
