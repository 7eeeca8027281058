"""The sizes of a dense decoder, from its config alone: no weights are read, none are made."""

from typing import NamedTuple

from transformers import PretrainedConfig

from medtune.common.errors import ConfigError

# What a linear layer of a decoder layer reads.
ATTENTION_INPUT, ATTENTION_OUTPUT = "attention input", "attention output"
MLP_INPUT, MLP_PRODUCT = "mlp input", "mlp product"

GLM_TYPES = ("glm", "glm4")
KNOWN_TYPES = (*GLM_TYPES, "llama", "qwen2", "qwen3")


class Linear(NamedTuple):
    """One linear layer of a decoder layer: what it reads, and its sizes."""

    name: str
    source: str
    inputs: int
    outputs: int
    has_bias: bool

    @property
    def num_parameters(self) -> int:
        """Weights and bias."""
        return self.outputs * (self.inputs + self.has_bias)


class Norm(NamedTuple):
    """One RMS norm: the values of a token that it reads, and in how many parts (heads).

    is_behind_linear: it reads what a linear layer gives, not the residual stream.
    """

    values: int
    parts: int = 1
    is_behind_linear: bool = False

    @property
    def num_parameters(self) -> int:
        """One weight for each value of a part: the heads share them."""
        return self.values // self.parts


class ModelShape(NamedTuple):
    """A decoder of equal layers: attention with grouped keys, gated MLP, RMS norms.

    query, key: values of all heads for a token.   rotary: values of cos and sin for a token.
    rotates_a_part: GLM turns a part of each head and joins it with the rest, which costs copies.
    """

    num_layers: int
    hidden: int
    mlp: int
    query: int
    key: int
    num_heads: int
    vocabulary: int
    rotary: int
    rotates_a_part: bool
    is_tied: bool
    linears: tuple[Linear, ...]
    norms: tuple[Norm, ...]

    @property
    def num_parameters(self) -> int:
        """Every weight of the model."""
        layer = sum(linear.num_parameters for linear in self.linears)
        layer += sum(norm.num_parameters for norm in self.norms)
        embeddings = self.vocabulary * self.hidden * (1 if self.is_tied else 2)
        return embeddings + self.num_layers * layer + self.hidden

    @property
    def num_linear_weights(self) -> int:
        """Weights of the linear layers without head and biases: what 4 bits can hold."""
        layer = sum(linear.inputs * linear.outputs for linear in self.linears)
        return self.num_layers * layer


def shape_of(config: PretrainedConfig) -> ModelShape:
    """Return the sizes that a config describes.

    Raises ConfigError for a family whose layers are of another kind.
    """
    if config.model_type not in KNOWN_TYPES:
        raise ConfigError(
            f"expected a model whose memory can be computed ({', '.join(KNOWN_TYPES)}), found "
            f"model_type {config.model_type!r} in its config.json."
        )
    head_dim = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    is_glm = config.model_type in GLM_TYPES
    share = config.rope_parameters.get("partial_rotary_factor", 1.0) if is_glm else 1.0
    return ModelShape(
        num_layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        mlp=config.intermediate_size,
        query=config.num_attention_heads * head_dim,
        key=config.num_key_value_heads * head_dim,
        num_heads=config.num_attention_heads,
        vocabulary=config.vocab_size,
        rotary=2 * int(head_dim * share),
        rotates_a_part=is_glm,
        is_tied=bool(config.tie_word_embeddings),
        linears=linears_of(config, head_dim),
        norms=norms_of(config, head_dim),
    )


def norms_of(config: PretrainedConfig, head_dim: int) -> tuple[Norm, ...]:
    """Return the norms of one decoder layer: before attention and MLP, and each family's others."""
    before = (Norm(config.hidden_size),) * 2
    if config.model_type == "glm4":  # of what attention and MLP give
        return (*before, *(Norm(config.hidden_size, is_behind_linear=True),) * 2)
    if config.model_type == "qwen3":  # of each head of query and key
        heads = (config.num_attention_heads, config.num_key_value_heads)
        return (*before, *(Norm(num * head_dim, num, is_behind_linear=True) for num in heads))
    return before


def linears_of(config: PretrainedConfig, head_dim: int) -> tuple[Linear, ...]:
    """Return the linear layers of one decoder layer, by the names that LoRA knows them by."""
    hidden, mlp = config.hidden_size, config.intermediate_size
    query, key = config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim
    has_bias = config.model_type == "qwen2" or config.attention_bias
    has_output_bias = config.model_type in ("llama", "qwen3") and config.attention_bias
    has_mlp_bias = bool(getattr(config, "mlp_bias", False))
    if config.model_type in GLM_TYPES:
        gates = [Linear("gate_up_proj", MLP_INPUT, hidden, 2 * mlp, has_mlp_bias)]
    else:
        gates = [
            Linear(name, MLP_INPUT, hidden, mlp, has_mlp_bias) for name in ("gate_proj", "up_proj")
        ]
    return (
        Linear("q_proj", ATTENTION_INPUT, hidden, query, has_bias),
        Linear("k_proj", ATTENTION_INPUT, hidden, key, has_bias),
        Linear("v_proj", ATTENTION_INPUT, hidden, key, has_bias),
        Linear("o_proj", ATTENTION_OUTPUT, query, hidden, has_output_bias),
        *gates,
        Linear("down_proj", MLP_PRODUCT, mlp, hidden, has_mlp_bias),
    )
