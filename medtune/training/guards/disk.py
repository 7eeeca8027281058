"""How much room the checkpoints and the result of a run take."""

from typing import Any

from accelerate.utils import is_peft_model

OPTIMIZER_BYTES = 8  # of each trained weight: two moments in float32
SMALL_FILES_BYTES = 32 << 20  # tokenizer, states, logs


def checkpoint_bytes(model: Any) -> int:
    """Return what one checkpoint of a model takes: its saved weights and their optimizer state.

    Right under ZeRO-3 too.
    """
    return final_bytes(model) + OPTIMIZER_BYTES * sum(
        count_of(parameter) for parameter in model.parameters() if parameter.requires_grad
    )


def final_bytes(model: Any) -> int:
    """Return what the finished folder takes beside its checkpoints.

    Of an adapter the adapter alone; else the whole model, also where only some layers are trained.
    """
    saved = (p for p in model.parameters() if p.requires_grad or not is_peft_model(model))
    return SMALL_FILES_BYTES + sum(count_of(p) * p.element_size() for p in saved)


def count_of(parameter: Any) -> int:
    """Return the values of a parameter, of all processes."""
    return getattr(parameter, "ds_numel", parameter.numel())
