"""Which tensors of an old model become which of a native one: the one table of both directions."""

import torch
from transformers import GlmConfig

Shape = tuple[int, ...]

FUSED = "self_attention.query_key_value"
# Modules of a layer: the old name, and the native ones that its rows are divided among, in order.
MODULES = {
    FUSED: ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention.dense": ("self_attn.o_proj",),
    "mlp.dense_h_to_4h": ("mlp.gate_up_proj",),  # gate rows, then up rows, in both
    "mlp.dense_4h_to_h": ("mlp.down_proj",),
}
OLD_LAYER, NATIVE_LAYER = "transformer.encoder.layers.", "model.layers."
EMBEDDING, HEAD = "transformer.embedding.word_embeddings.weight", "transformer.output_layer.weight"
# Computed by the native model itself.
DROPPED = ("transformer.rotary_pos_emb.inv_freq",)


def module_rows(config: GlmConfig) -> dict[str, int]:
    """Return how many rows each native linear module of a layer has."""
    query = config.num_attention_heads * config.head_dim
    key = config.num_key_value_heads * config.head_dim
    return {
        "self_attn.q_proj": query,
        "self_attn.k_proj": key,
        "self_attn.v_proj": key,
        "self_attn.o_proj": config.hidden_size,
        "mlp.gate_up_proj": 2 * config.intermediate_size,
        "mlp.down_proj": config.hidden_size,
    }


def layout_of(config: GlmConfig) -> dict[str, dict[str, Shape]]:
    """Return for each old tensor the native ones that its rows become, in order, with their shapes.

    The head is left out where it is tied to the embedding.
    Example, of a layer with 4 heads of 16 and 2 groups: {"….query_key_value.bias":
    {"….q_proj.bias": (64,), "….k_proj.bias": (32,), "….v_proj.bias": (32,)}}
    """
    rows, hidden = module_rows(config), config.hidden_size
    columns = dict.fromkeys(MODULES, hidden)
    columns["self_attention.dense"] = config.num_attention_heads * config.head_dim
    columns["mlp.dense_4h_to_h"] = config.intermediate_size
    table: dict[str, dict[str, Shape]] = {
        EMBEDDING: {"model.embed_tokens.weight": (config.vocab_size, hidden)}
    }
    for number in range(config.num_hidden_layers):
        old, native = f"{OLD_LAYER}{number}.", f"{NATIVE_LAYER}{number}."
        for norm in ("input_layernorm.weight", "post_attention_layernorm.weight"):
            table[old + norm] = {native + norm: (hidden,)}
        for module, parts in MODULES.items():
            table[f"{old}{module}.weight"] = {
                f"{native}{part}.weight": (rows[part], columns[module]) for part in parts
            }
        if config.attention_bias:
            table[f"{old}{FUSED}.bias"] = {
                f"{native}{part}.bias": (rows[part],) for part in MODULES[FUSED]
            }
    table["transformer.encoder.final_layernorm.weight"] = {"model.norm.weight": (hidden,)}
    if not config.tie_word_embeddings:
        table[HEAD] = {"lm_head.weight": (config.vocab_size, hidden)}
    return table


def fused_shape(parts: dict[str, Shape]) -> Shape:
    """Return the shape of the tensor whose rows these are. Example: (64, 8), (32, 8) -> (96, 8)"""
    shapes = list(parts.values())
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def split_rows(tensor: torch.Tensor, parts: dict[str, Shape]) -> dict[str, torch.Tensor]:
    """Return the rows of an old tensor under their native names; they share its memory."""
    pieces = tensor.split([shape[0] for shape in parts.values()])
    return dict(zip(parts, pieces, strict=True))


def to_old(native: dict[str, torch.Tensor], config: GlmConfig) -> dict[str, torch.Tensor]:
    """Return the tensors of a native model in the old format, bit by bit."""
    return {
        old: torch.cat([native[name] for name in parts]) for old, parts in layout_of(config).items()
    }
