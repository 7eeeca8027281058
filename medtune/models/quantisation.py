"""Weights in 4 or 8 bits by bitsandbytes: how they are loaded, and checks that its loading lacks.

Linear layers of the decoder alone are quantised; embeddings, norms and the head keep their type.
RMS norms compute in float32 by themselves, so nothing has to be turned to float32 for training.
"""

from typing import Any

import torch
from accelerate import PartialState
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from medtune.common.errors import ConfigError

OPTION = "--quantization_bit"


def quantisation_options(bits: int, dtype: torch.dtype) -> dict[str, Any]:
    """Return what from_pretrained takes so that the linear layers come in 4 or 8 bits.

    4: NF4 with its scales quantised once more, products in `dtype`.   8: LLM.int8.
    Raises ConfigError where there is no bitsandbytes, and under ZeRO-3.
    """
    if is_deepspeed_zero3_enabled():
        raise ConfigError(
            f"{OPTION} {bits} and DeepSpeed ZeRO-3 clash: bitsandbytes' weights cannot be divided "
            "among processes. Take configs/deepspeed/zero2.json or none: each process then holds "
            "the quantised model."
        )
    try:
        import bitsandbytes  # noqa: F401 (slow to import, and transformers' own error is a riddle)
    except ImportError as error:
        raise ConfigError(
            f"{OPTION} {bits}: expected the package bitsandbytes, found none ({error}); install "
            "requirements.txt, or leave the option out."
        ) from error
    if bits == 4:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    else:
        config = BitsAndBytesConfig(load_in_8bit=True)
    return {"quantization_config": config, "device_map": {"": PartialState().device}}


def is_quantised(model: nn.Module) -> bool:
    """Whether some of a model's weights are integers, which are frozen and stay where they are."""
    return bool(getattr(model, "is_quantized", False))


def bits_of(model: nn.Module) -> int:
    """Return the bits of the linear layers' weights: 4, 8, or 16 for what is not quantised."""
    if not is_quantised(model):
        return 16
    return 4 if getattr(model, "is_loaded_in_4bit", False) else 8


def keep_scales(model: PreTrainedModel) -> None:
    """Keep bitsandbytes from packing 4-bit weights anew, which it does on some CPUs to go faster.

    From the first evaluation on, the scales would be rounded to bfloat16: the model that is trained
    afterwards is another one. It also fails where a row is not a multiple of 64 values.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def find_other_shapes(model: PreTrainedModel) -> set[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Return (name, shape in the file, shape in the model) of quantised weights that do not fit.

    transformers compares the shapes of all others; a quantised one it takes as it comes.
    """
    found: set[tuple[str, tuple[int, ...], tuple[int, ...]]] = set()
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        state = getattr(weight, "quant_state", None)
        if state is None and not hasattr(weight, "SCB"):
            continue
        assert isinstance(weight, torch.Tensor)
        in_file = tuple(weight.shape if state is None else state.shape)
        in_model = (int(module.out_features), int(module.in_features))
        if in_file != in_model:
            found.add((f"{name}.weight", in_file, in_model))
    return found


def num_values(parameter: torch.Tensor) -> int:
    """Return how many weights a parameter holds: of 4-bit ones two lie in each byte."""
    state = getattr(parameter, "quant_state", None)
    if state is not None:
        return int(state.shape.numel())
    return int(getattr(parameter, "ds_numel", parameter.numel()))  # ZeRO-3: of all processes
