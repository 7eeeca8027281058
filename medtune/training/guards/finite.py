"""No update from a gradient that is no number; a sudden rise of the loss is written down.

The gradients are looked at after they are summed over processes and clipped, before the update:
every process sees the same and decides the same, so nothing is sent. Under DeepSpeed the gradients
are spread over the processes; its optimizers test their norm, which is that of all, and leave the
step out by themselves: here that is read off.
"""

import math
from collections import deque
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medtune.common.errors import NonFiniteError
from medtune.data.rows import Rows
from medtune.training.checkpoints.finding import checkpoints_of
from medtune.training.checkpoints.manifest import read_manifest
from medtune.training.guards.events import record_event

SPIKE_SIGMA = 6.0
SPIKE_STEPS = 128  # the window of its mean and deviation, as in OLMo's optimizers
MIN_SPIKE_STEPS = 20
MAX_ROWS_NAMED = 64


class FiniteGuard(TrainerCallback):
    """Leaves a step out whose gradient is not finite, and ends the run after some in a row.

    trainer: says which rows a step has (`rows_of_step`) and what their losses are (`step_losses`).
    """

    def __init__(self, folder: Path, trainer: Any, rows: Rows, max_skipped: int) -> None:
        """Raise NonFiniteError after `max_skipped` steps in a row.   rows: know their sources."""
        self.folder = folder
        self.trainer = trainer
        self.rows = rows
        self.max_skipped = max_skipped
        self.num_in_a_row = 0
        self.is_skipped = False  # the present step
        self.losses: deque[float] = deque(maxlen=SPIKE_STEPS)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Begin a step without losses."""
        self.is_skipped = False
        self.trainer.step_losses, self.trainer.step_batches = [], []

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Take the gradients away if one of them is not finite: then there is no update."""
        if self.trainer.is_deepspeed_enabled:
            return  # it has made or left out the update already
        parameters = [p for p in more["model"].parameters() if p.grad is not None]
        gradients = [p.grad for p in parameters]
        if gradients and not torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
            self.is_skipped = True
            for parameter in parameters:
                parameter.grad = None

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Count skipped steps, and record them and sudden rises of the loss."""
        if self.trainer.is_deepspeed_enabled:
            self.is_skipped = bool(getattr(self.trainer.model_wrapped.optimizer, "overflow", False))
        if not self.is_skipped:
            self.num_in_a_row = 0
            self.trainer.num_finite_steps += 1
            self._watch_for_spikes(state.global_step)
            return
        self.num_in_a_row += 1
        rows = self.trainer.rows_of_step()  # on every process: they are gathered
        record_event(
            self.folder, "step skipped: not finite", step=state.global_step,
            in_a_row=self.num_in_a_row, num_rows=len(rows),
            rows=[self.rows.source_of(row) for row in rows[:MAX_ROWS_NAMED]],
        )  # fmt: skip
        if self.num_in_a_row >= self.max_skipped:
            committed = [p for p in checkpoints_of(self.folder) if read_manifest(p)]
            good = committed[0] if committed else "none yet"
            raise NonFiniteError(
                f"{self.folder}: expected a finite loss and gradient, found "
                f"{self.num_in_a_row} steps in a row without (up to step {state.global_step}); no "
                f"weight was changed by them. The last good checkpoint: {good}. events.jsonl names "
                "the rows; lower --learning_rate or look at them, then start a new --output_dir."
            )

    def _watch_for_spikes(self, step: int) -> None:
        loss = float(torch.stack(self.trainer.step_losses).sum())
        if len(self.losses) >= MIN_SPIKE_STEPS:
            mean = math.fsum(self.losses) / len(self.losses)
            variance = math.fsum((x - mean) ** 2 for x in self.losses) / (len(self.losses) - 1)
            if loss > mean + SPIKE_SIGMA * math.sqrt(variance):
                record_event(
                    self.folder, "loss spike", step=step, loss=round(loss, 4),
                    mean=round(mean, 4), sigma=round(math.sqrt(variance), 4),
                )  # fmt: skip
        if math.isfinite(loss):
            self.losses.append(loss)
