"""Recompute as few layers as the memory at hand allows: the plan, and making a model keep to it."""

import os
from functools import wraps
from typing import TYPE_CHECKING, Any

import psutil
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from peft import PeftConfig, PeftModel
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from medtune.arguments import AUTO, StageArguments
from medtune.common.errors import ConfigError
from medtune.common.log import is_main_process, logger
from medtune.models.adapters import TrainableModel
from medtune.models.quantisation import bits_of
from medtune.models.shapes import shape_of
from medtune.training.memory.estimate import CONTEXT_BYTES, GIB, MemoryEstimate, estimate_memory
from medtune.training.memory.workload import Machine, Workload, build_workload, longest_row

if TYPE_CHECKING:
    from datasets import Dataset

SAFETY_MARGIN = 0.08  # of the memory at hand: fragments, and what the estimate does not know

NO_ROOM = (
    "the memory at hand may not do, even so: take a smaller --per_device_train_batch_size or "
    "--tokens_per_batch (and more --gradient_accumulation_steps), shorter rows, or spread the "
    "weights over several GPUs with --deepspeed configs/deepspeed/zero3.json"
)


def plan_recompute(work: Workload, memory_bytes: int) -> MemoryEstimate:
    """Return the estimate with the fewest recomputed layers that fits with the safety margin.

    If none fits, the one that needs the least memory.
    """
    estimates = [estimate_memory(work, num) for num in range(work.shape.num_layers + 1)]
    limit = (1 - SAFETY_MARGIN) * memory_bytes
    fitting = (estimate for estimate in estimates if estimate.peak <= limit)
    return next(fitting, min(estimates, key=lambda estimate: estimate.peak))


def describe_plan(plan: MemoryEstimate, memory_bytes: int) -> str:
    """Return the plan as one line, in GiB."""
    parts = [f"{name} {size / GIB:.1f}" for name, size in plan.parts().items() if size]
    return (
        f"recomputing {plan.num_recomputed} of {plan.num_layers} layers: {plan.peak / GIB:.1f} of "
        f"{memory_bytes / GIB:.1f} GiB predicted ({', '.join(parts)})"
    )


def has_room(plan: MemoryEstimate, memory_bytes: int) -> bool:
    """True if the plan fits with the safety margin."""
    return plan.peak <= (1 - SAFETY_MARGIN) * memory_bytes


def settle_recompute(
    arguments: StageArguments[Any], trainable: TrainableModel, rows: "Dataset"
) -> None:
    """Turn `gradient_checkpointing: auto` into a plan, log it and bind the model to it.

    Call it on every process before the trainer is built: `arguments` then hold True or False, as
    the trainers know it. What cannot be computed (a family, a tuner) has all layers recomputed.
    """
    training = arguments.training
    if training.gradient_checkpointing != AUTO:
        return
    on_gpu = torch.cuda.is_available() and not training.use_cpu
    model = trainable.model
    machine = Machine(model.dtype.itemsize, training.world_size, on_gpu, bits_of(model))
    try:
        shape, adapter = shape_of(model.config), adapter_of(trainable)
        work = build_workload(arguments, shape, adapter, longest_row(rows), machine)
    except ConfigError as error:
        logger.warning("gradient_checkpointing: all layers are recomputed: %s", error)
        set_checkpointing(training, True)
        return
    memory = memory_at_hand(on_gpu)
    plan = plan_recompute(work, memory)
    logger.info("%s", describe_plan(plan, memory))
    if not has_room(plan, memory) and is_main_process():
        logger.warning("%s", NO_ROOM)
    set_checkpointing(training, plan.num_recomputed > 0)
    recompute_layers(trainable.model, plan.num_recomputed)


def set_checkpointing(training: Any, is_on: bool) -> None:
    """Set both names of the trainers' option."""
    training.gradient_checkpointing = training.activation_checkpointing = is_on


def recompute_layers(model: PreTrainedModel | PeftModel, num_recomputed: int) -> None:
    """Let checkpointing, whenever and by whomever it is turned on, hold for the first layers only.

    Every way to turn it on (the trainer's, TRL's after the reference pass, PEFT's) ends in this
    method of the base model, so it is the one place where the plan always holds.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    turn_all = type(base)._set_gradient_checkpointing.__get__(base)

    @wraps(turn_all)
    def turn_planned(*args: Any, **kwargs: Any) -> None:
        turn_all(*args, **kwargs)
        layers = [m for m in base.modules() if isinstance(m, GradientCheckpointingLayer)]
        for layer in layers[num_recomputed:]:
            layer.gradient_checkpointing = False

    base._set_gradient_checkpointing = turn_planned


def adapter_of(trainable: TrainableModel) -> PeftConfig | None:
    """Return the adapter that will be trained: the new one, the loaded one, or none."""
    if isinstance(trainable.model, PeftModel):
        return trainable.model.peft_config["default"]
    return trainable.new_adapter


def memory_at_hand(on_gpu: bool) -> int:
    """Return the bytes that this process can have: what is free and what it already holds.

    The least of all processes, because under DeepSpeed they must follow one plan.
    """
    if on_gpu:
        memory = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() + CONTEXT_BYTES
    else:
        sharers = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        memory = psutil.virtual_memory().available // sharers + psutil.Process().memory_info().rss
    return min(gather_object([memory])) if PartialState().num_processes > 1 else memory
