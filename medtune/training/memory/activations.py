"""What autograd keeps of a forward pass, in bytes for each token, tensor by tensor.

The modelling code is transformers' own, in eager mode, with PEFT's LoRA layers around it; attention
keeps no scores (flash, SDPA and varlen kernels alike). The tests count the tensors that
autograd really saves. Whoever changes what a layer computes changes `saved_in_layer`.
"""

from typing import NamedTuple

from peft import LoraConfig, PeftConfig

from medtune.models.shapes import (
    ATTENTION_INPUT,
    ATTENTION_OUTPUT,
    MLP_INPUT,
    MLP_PRODUCT,
    Linear,
    ModelShape,
    Norm,
)
from medtune.models.tuners import ALL_LINEAR

FLOAT32, BFLOAT16 = 4, 2  # bytes
# Of logits, the head holds one tile: as many tokens x words of the vocabulary at a time.
HEAD_TILE = (4096, 32768)


class Precision(NamedTuple):
    """Bytes of one value, by what it belongs to.

    weights: also those of the residual stream.   compute: of what a linear layer reads and gives.
    adapter: of LoRA's weights.   adapter_compute: of what they read and give.
    """

    weights: int
    compute: int
    adapter: int
    adapter_compute: int


class Kernels(NamedTuple):
    """What computes a layer.

    fuses_lora: the step of medtune.training.packed.lora, whose layers share their input.
    """

    on_gpu: bool = True
    fuses_lora: bool = False


def precision_of(weights: int, bf16: bool, deepspeed: bool) -> Precision:
    """Return the sizes in a run: bf16 is autocast, but DeepSpeed turns the weights themselves."""
    if bf16 and deepspeed:
        return Precision(BFLOAT16, BFLOAT16, BFLOAT16, BFLOAT16)
    # PEFT keeps a new adapter in float32 whatever its base is.
    adapter_compute = BFLOAT16 if bf16 else FLOAT32
    return Precision(weights, BFLOAT16 if bf16 else weights, FLOAT32, adapter_compute)


def lora_targets(shape: ModelShape, adapter: PeftConfig) -> list[Linear]:
    """Return the linear layers of a decoder layer that get LoRA; every layer counts as the same.

    Of a prefix there are none.
    PEFT itself replaces `all-linear` by names, some with their path; a pattern counts by the names
    that stand in it.
    """
    if not isinstance(adapter, LoraConfig):
        return []
    names = adapter.target_modules
    if names == ALL_LINEAR:
        return list(shape.linears)
    if not isinstance(names, str):
        names = {name.rpartition(".")[2] for name in names}
    return [linear for linear in shape.linears if linear.name in names]


def saved_in_layer(
    shape: ModelShape, size: Precision, adapter: PeftConfig | None, kernels: Kernels
) -> dict[str, int]:
    """Return the bytes for each token that a layer keeps for its backward pass, by tensor.

    adapter: None if all weights are trained.
    """
    return {
        "norms": sum(saved_in_norm(norm, size, adapter) for norm in shape.norms),
        ATTENTION_INPUT: saved_input(shape, size, adapter, ATTENTION_INPUT, kernels),
        "cos and sin": shape.rotary * size.weights if shape.rotates_a_part else 0,
        "query, key, value, output": size.compute * 2 * (shape.query + shape.key),
        "log of the softmax's sum": FLOAT32 * shape.num_heads,
        ATTENTION_OUTPUT: saved_input(shape, size, adapter, ATTENTION_OUTPUT, kernels),
        MLP_INPUT: saved_input(shape, size, adapter, MLP_INPUT, kernels),
        "gate, up, activated gate": size.compute * 3 * shape.mlp,
        MLP_PRODUCT: saved_input(shape, size, adapter, MLP_PRODUCT, kernels),
    }


def saved_in_norm(norm: Norm, size: Precision, adapter: PeftConfig | None) -> int:
    """Return the bytes for each token that one RMS norm keeps.

    Its input in float32 and the inverse roots; the normed input only where its weight is trained.
    """
    given = size.compute if norm.is_behind_linear else size.weights
    normed = 0 if adapter else given * norm.values
    return FLOAT32 * (norm.values + norm.parts) + normed


def saved_input(
    shape: ModelShape, size: Precision, adapter: PeftConfig | None, source: str, kernels: Kernels
) -> int:
    """Return the bytes for each token that the linear layers keep of what they read.

    A frozen weight needs no input. Where a type is changed on the way (or dropout applied), each
    reader keeps a copy of its own; else all share one tensor.
    """
    is_normed = source in (ATTENTION_INPUT, MLP_INPUT)
    given = size.weights if is_normed else size.compute
    # Unless its heads had to be put in order, it is the tensor that attention itself keeps.
    is_counted = source == ATTENTION_OUTPUT and not shape.rotates_a_part
    if adapter is None:
        readers = [linear for linear in shape.linears if linear.source == source]
        num_copies = (0 if is_counted else 1) if given == size.compute else len(readers)
        return size.compute * readers[0].inputs * num_copies
    readers = [linear for linear in lora_targets(shape, adapter) if linear.source == source]
    if not readers:
        return 0
    assert isinstance(adapter, LoraConfig)
    width, dropout = readers[0].inputs, adapter.lora_dropout > 0
    is_one_type = kernels.fuses_lora or given == size.adapter == size.adapter_compute
    is_shared = is_one_type and not dropout
    num_copies = (0 if is_counted else 1) if is_shared else len(readers)
    kept = size.adapter_compute * width * num_copies
    # The mask: booleans on a GPU; on a CPU, factors in the type of what is dropped.
    factor = size.compute if kernels.fuses_lora else size.adapter
    mask = (1 if kernels.on_gpu else factor) * width * len(readers) if dropout else 0
    return kept + mask + size.adapter_compute * adapter.r * len(readers)


def saved_at_ends(shape: ModelShape, size: Precision, adapter: PeftConfig | None) -> int:
    """Return the bytes for each token kept outside the layers: last norm, head, positions."""
    positions = 0 if shape.rotates_a_part else shape.rotary * size.weights
    return (
        saved_in_norm(Norm(shape.hidden), size, adapter) + size.weights * shape.hidden + positions
    )


def live_in_backward(
    shape: ModelShape, size: Precision, adapter: PeftConfig | None, kernels: Kernels
) -> int:
    """Return the bytes for each token of gradients alive at once within a layer.

    The largest moment is the MLP's: two float32 or four bfloat16 tensors of its width; PEFT's
    dropout in another type than the layer's adds a float32 one (measured: docs/memory.md).
    """
    has_dropout = getattr(adapter, "lora_dropout", 0.0) > 0 and not kernels.fuses_lora
    dropout = FLOAT32 if has_dropout and size.adapter != size.compute else 0
    return (8 + dropout) * shape.mlp + 8 * shape.hidden


def live_in_head(shape: ModelShape, size: Precision, tokens: int, is_trained: bool) -> int:
    """Return the bytes alive while the head scores: a tile of logits, gradients in float32."""
    rows, words = min(tokens, HEAD_TILE[0]), min(shape.vocabulary, HEAD_TILE[1])
    gradient = (FLOAT32 + size.weights) * shape.hidden * tokens
    of_weight = FLOAT32 * shape.hidden * shape.vocabulary if is_trained else 0
    return rows * words * (size.compute + FLOAT32) + gradient + of_weight
