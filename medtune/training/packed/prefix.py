"""The packed forward under a P-Tuning prefix: its keys and values stand once before the stream.

PEFT's own forward repeats the prefix for each row, drops the positions that tell the documents of a
block apart, and keeps the keys in a cache, which recomputed activations do without.
"""

import functools
import types
from typing import Any

from accelerate.utils import is_peft_model
from peft import PeftModel, PeftType


def has_prefix(model: Any) -> bool:
    """Whether P-Tuning v2 trains this model: keys and values before every row, in each layer."""
    return is_peft_model(model) and model.active_peft_config.peft_type == PeftType.PREFIX_TUNING


def install_prefix(model: PeftModel) -> None:
    """Have the packed forward of the model's base read the prefix; other calls stay PEFT's."""
    padded = model.forward

    @functools.wraps(type(model).forward)
    def forward(self: PeftModel, *args: Any, fused_lm_head: bool = False, **kwargs: Any) -> Any:
        if not fused_lm_head:
            return padded(*args, **kwargs)
        layers = self.get_prompt(batch_size=1).layers
        virtual = [(layer.keys, layer.values) for layer in layers]
        return self.base_model(*args, fused_lm_head=True, virtual=virtual, **kwargs)

    model.forward = types.MethodType(forward, model)
