"""SIGTERM and SIGINT end a run after the step that it is in, with a checkpoint."""

import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medtune.common.log import logger
from medtune.training.guards.events import record_event

SECONDS_OF_ONE_CTRL_C = 2.0
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopOnSignal(TrainerCallback):
    """Saves and stops at the end of the step in which a signal came; Ctrl-C again stops at once.

    The signal only sets a flag: a save in the middle of a step could not be continued exactly. One
    Ctrl-C may come as several signals: from the terminal, the run script and torchrun.
    received: the signal's number, 0 without one, the same on all processes.
    """

    def __init__(self, folder: Path) -> None:
        """Record in `folder` that the run was interrupted."""
        self.folder = folder
        self.received = 0
        self._flag = 0
        self._noted = 0.0  # time.monotonic()
        self._before: dict[int, Any] = {}

    def on_train_begin(self, args: TrainingArguments, *_: Any, **__: Any) -> None:
        """Take the signals over."""
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}

    def close(self) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for a checkpoint and the end if any process has a signal."""
        self.received = self._agree(args)
        if self.received:
            control.should_save = control.should_training_stop = True
            if state.global_step >= state.max_steps:
                self.received = 0  # that was the last step: the run is complete
            else:
                name = signal.Signals(self.received).name
                record_event(self.folder, "interrupted", signal=name, step=state.global_step)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Stop without the evaluation of an epoch, which the trainer does of a broken one too."""
        if self.received:
            control.should_evaluate = control.should_save = control.should_log = False

    def _agree(self, args: TrainingArguments) -> int:
        """Return the signal that any process has: each may have it at another moment."""
        if args.world_size == 1:
            return self._flag
        flag = torch.tensor(self._flag, device=args.device)
        torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
        return int(flag)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._flag:
            if number == signal.SIGINT and now - self._noted > SECONDS_OF_ONE_CTRL_C:
                os._exit(128 + number)
            return
        self._flag, self._noted = number, now
        logger.info(
            "signal %s: saving at the end of this step, Ctrl-C again to stop at once", number
        )
