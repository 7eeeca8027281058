"""What makes a trainer fast, put into it after TRL has built it: see --packed_forward."""

import ctypes
import platform
from typing import Any

from accelerate.utils import is_peft_model
from transformers import Trainer

from medtune.common.log import logger
from medtune.training.packed.forward import install_packed_forward, why_not_packed
from medtune.training.packed.lora import fuse_lora
from medtune.training.packed.prefix import has_prefix, install_prefix

# mallopt's parameters, from <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
LARGEST_MMAP_THRESHOLD = 32 * 2**20  # bytes; glibc takes no larger one


def make_fast(trainer: Trainer, share_prefix: bool) -> None:
    """Give a trainer's model (and reference) the packed forward and the fused LoRA layers.

    share_prefix: its batches are pairs.   Where the packed forward would not be exact, the
    trainer's own padded one stays and one line says why.
    """
    reference = getattr(trainer, "ref_model", None)
    models = [trainer.model]
    if reference is not None:  # of a run on all weights; DeepSpeed has wrapped it
        models.append(trainer.accelerator.unwrap_model(reference))
    bases = [base_of(model) for model in models]
    if reason := why_padded(trainer):
        logger.warning("padded forward (--packed_forward auto cannot be exact here): %s", reason)
        return
    for base in bases:
        install_packed_forward(base, share_prefix)
        fuse_lora(base)
    if has_prefix(trainer.model):
        install_prefix(trainer.model)
    if trainer.args.use_cpu:
        keep_freed_memory()


def base_of(model: Any) -> Any:
    """Return the model under an adapter, or the model itself."""
    return model.get_base_model() if is_peft_model(model) else model


def has_prompt(model: Any) -> bool:
    """Whether PEFT puts virtual tokens or keys before every row."""
    return is_peft_model(model) and model.active_peft_config.is_prompt_learning


def why_padded(trainer: Any) -> str | None:
    """Return what in a trainer's options or its model needs TRL's forward; None if nothing does."""
    if trainer.speed.packed_forward == "off":
        return "--packed_forward off"
    if has_prompt(trainer.model) and not has_prefix(trainer.model):
        return "virtual tokens stand before each row"
    if getattr(trainer, "use_weighting", False):
        return "--use_weighting needs the whole distribution of each token"
    return why_not_packed(base_of(trainer.model))


def keep_freed_memory() -> None:
    """Have the C library keep large freed blocks instead of giving each back to the kernel.

    Activations come and go in blocks of megabytes, and fetching every one anew costs page faults.
    Linux with glibc only.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL("libc.so.6").mallopt
    mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_ARENA_MAX, 1)  # one heap: another thread's heap could not hold such blocks
