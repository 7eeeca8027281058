"""How much room the checkpoints and the result of a run take."""

from typing import Any

OPTIMIZER_BYTES = 8  # of each trained weight: two moments in float32
SMALL_FILES_BYTES = 32 << 20  # tokenizer, states, logs


def checkpoint_bytes(model: Any) -> int:
    """Return what one checkpoint of a model takes: its trained weights and their optimizer state.

    An adapter's checkpoint holds the adapter alone. Right under ZeRO-3 too.
    """
    total = SMALL_FILES_BYTES
    for parameter in model.parameters():
        if parameter.requires_grad:
            count = getattr(parameter, "ds_numel", parameter.numel())
            total += count * (parameter.element_size() + OPTIMIZER_BYTES)
    return total


def final_bytes(model: Any) -> int:
    """Return what the finished folder takes beside its checkpoints."""
    trained = (p for p in model.parameters() if p.requires_grad)
    sizes = (getattr(p, "ds_numel", p.numel()) * p.element_size() for p in trained)
    return SMALL_FILES_BYTES + sum(sizes)
