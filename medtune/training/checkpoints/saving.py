"""How a trainer saves: room first, then everybody writes, then one commits and rotates."""

import shutil
import time
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medtune.common.disk import check_room, is_disk_full, size
from medtune.common.errors import DiskError
from medtune.common.log import is_main_process
from medtune.models.token_growth import keep_new_rows_only
from medtune.training.checkpoints.finding import remove_old
from medtune.training.checkpoints.manifest import commit, read_manifest
from medtune.training.guards.disk import checkpoint_bytes


class Cadence(TrainerCallback):
    """Logs, evaluates and saves as often as the options of now say, not those of a checkpoint.

    A continued run does not evaluate where it starts, unless the evaluation of an epoch was lost:
    a checkpoint of an epoch's last step is older than that.
    """

    first_step = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Set what the checkpoint's state has brought back."""
        state.compute_steps(args, state.max_steps)
        self.first_step = state.global_step
        if state.global_step:
            is_epoch_end = bool(state.epoch) and state.epoch == int(state.epoch)
            args.eval_on_start = (
                args.eval_strategy == "epoch" and is_epoch_end and not is_evaluated(state)
            )

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Evaluate no second time where a run was continued after its last step."""
        if state.global_step == self.first_step and is_evaluated(state):
            control.should_evaluate = False


def is_evaluated(state: TrainerState) -> bool:
    """True if the present step was evaluated."""
    entries = (entry for entry in state.log_history if entry["step"] == state.global_step)
    return any("eval_loss" in entry for entry in entries)


class CommittedSaves:
    """Makes the checkpoints of a trainer whole or not there. Comes before the trainer's class.

    run_id: written into each manifest.   num_kept: checkpoints, None for all.
    commit_seconds, commit_bytes: what committing has taken so far, on the main process.
    """

    run_id = ""
    num_kept: int | None = None
    commit_seconds = 0.0
    commit_bytes = 0

    def _save(self, *args: Any, **kwargs: Any) -> None:
        """Save the model as the trainer does; of its tokens an adapter keeps the new ones only."""
        keep_new_rows_only(self.model)  # type: ignore[attr-defined]
        super()._save(*args, **kwargs)  # type: ignore[misc]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save as the trainer does, then commit. Raises DiskError, with the partial files gone."""
        state, accelerator = self.state, self.accelerator  # type: ignore[attr-defined]
        folder = Path(self.args.output_dir)  # type: ignore[attr-defined]
        checkpoint = folder / f"checkpoint-{state.global_step}"
        if read_manifest(checkpoint) is not None:
            return  # of this very step: a run that was continued after its last one
        num_bytes = checkpoint_bytes(self.model)  # type: ignore[attr-defined]
        if is_main_process():
            check_room(folder, num_bytes, f"checkpoint-{state.global_step}")
        totals = self.totals()  # type: ignore[attr-defined] # of every process
        try:
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
            accelerator.wait_for_everyone()
            if is_main_process():
                started = time.monotonic()
                facts = {"run_id": self.run_id, "step": state.global_step, **totals}
                self.commit_bytes += commit(checkpoint, facts)
                self.commit_seconds += time.monotonic() - started
        except (OSError, RuntimeError, SafetensorError) as error:
            written = sum(f.stat().st_size for f in checkpoint.rglob("*") if f.is_file())
            if not is_disk_full(error, folder, num_bytes - written):
                raise
            shutil.rmtree(checkpoint, ignore_errors=True)
            raise DiskError(
                f"{checkpoint}: expected room for it, found the disk full while it was written "
                f"({error}): need about {size(num_bytes)}, have "
                f"{size(shutil.disk_usage(folder).free)}. What there was of it is removed, the "
                "checkpoint before it is kept. Make room and run the same command again."
            ) from error
        if is_main_process():
            remove_old(folder, self.num_kept)
