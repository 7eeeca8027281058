"""The longest batch is tried before the first step, so that memory runs out at once or never."""

from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from medtune.common.errors import BatchTooLarge, MemoryExhausted
from medtune.data.rows import row_lengths
from medtune.training.guards.disk import OPTIMIZER_BYTES
from medtune.training.memory.recompute import NO_ROOM


class LongestBatch(TrainerCallback):
    """Runs forward and backward of the longest batch once and forgets the result.

    Random numbers, metrics and gradients are as they were before. Not under DeepSpeed, whose
    backward pass cannot be taken back: there the plan of `gradient_checkpointing auto` has to do.
    """

    def __init__(self, trainer: Any) -> None:
        """Try the batches of this trainer."""
        self.trainer = trainer

    def on_train_begin(self, *_: Any, model: Any = None, **__: Any) -> None:
        """Try it. Raises BatchTooLarge if the memory does not do."""
        trainer = self.trainer
        if trainer.is_deepspeed_enabled:
            return
        rows = longest_batch(trainer)
        batch = trainer.data_collator([trainer.train_dataset[row] for row in rows])
        num_tokens = batch["input_ids"].numel()
        devices = [trainer.args.device] if trainer.args.device.type == "cuda" else []
        metrics = {mode: dict(values) for mode, values in trainer._metrics.items()}
        try:
            with torch.random.fork_rng(devices):
                model.train()
                room = optimizer_room(trainer, model)
                trainer.loss_of_rows(model, batch).backward()
                del room
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise BatchTooLarge(
                f"the longest batch ({len(rows)} rows, {num_tokens:,} tokens) does not fit into "
                f"the memory of {trainer.args.device}: {first_line(error)}: {NO_ROOM}."
            ) from error
        finally:
            model.zero_grad(set_to_none=True)
            for mode, values in metrics.items():
                trainer._metrics[mode].clear()
                trainer._metrics[mode].update(values)


def optimizer_room(trainer: Any, model: Any) -> torch.Tensor | None:
    """Return memory of the size that the optimizer's states will take, None where they are there.

    They are made in the first step, after the trial. On a CPU nothing is held: memory that is asked
    for and not written to is not taken there.
    """
    device = trainer.args.device
    if device.type != "cuda" or trainer.optimizer.state:
        return None
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return torch.empty(OPTIMIZER_BYTES * trained, dtype=torch.uint8, device=device)


def longest_batch(trainer: Any) -> list[int]:
    """Return the rows of the batch with most tokens that an epoch may have."""
    lengths = np.asarray(row_lengths(trainer.train_dataset))
    order = np.argsort(-lengths, kind="stable")
    if trainer.speed.tokens_per_batch is None:
        return order[: trainer.args.per_device_train_batch_size].tolist()
    fitting = np.cumsum(lengths[order]) <= trainer.speed.tokens_per_batch
    return order[: max(int(fitting.sum()), 1)].tolist()


def is_out_of_memory(error: BaseException) -> bool:
    """True if an error says that memory ran out, on a GPU or a CPU."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    is_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return is_memory or any(word in str(error).lower() for word in words)


def out_of_memory(trainer: Any, error: BaseException) -> MemoryExhausted:
    """Return the error of a step that memory ran out in: it ends the run, nothing is retried."""
    shapes = [tuple(batch.ids.shape) for batch in trainer.step_batches or []]
    return MemoryExhausted(
        f"memory ran out in step {trainer.state.global_step + 1} with batches of {shapes} (rows, "
        f"tokens): {first_line(error)}: {NO_ROOM}. The same command continues from the newest "
        "checkpoint; with another batch it is another run."
    )


def first_line(error: BaseException) -> str:
    """Return how an error's message begins."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
