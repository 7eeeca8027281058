"""TensorBoard's events of a run in one folder, each step once, however often it was continued."""

from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from transformers import TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

EVENTS_FOLDER = "runs"


class Board(TensorBoardCallback):
    """Writes below `runs/`; a continued run takes back what came after its checkpoint."""

    def __init__(self, folder: Path) -> None:
        """Write below `folder`."""
        super().__init__()
        self.folder = folder / EVENTS_FOLDER

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: Any, **more: Any
    ) -> None:
        """Open the folder at the step that is next."""
        if state.is_world_process_zero:
            step = state.global_step
            self.tb_writer = SummaryWriter(
                log_dir=str(self.folder), purge_step=step + 1 if step else None
            )
        super().on_train_begin(args, state, control, **more)
