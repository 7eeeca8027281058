"""TensorBoard's events of a run in one folder, each step once, however often it was continued."""

from collections.abc import Sequence
from pathlib import Path
from string import punctuation
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from transformers import TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

from medtune.common.text import printable
from medtune.training.replies import Sample

EVENTS_FOLDER = "runs"


class Board(TensorBoardCallback):
    """Writes below `runs/`; a continued run takes back what came after its checkpoint."""

    def __init__(self, folder: Path) -> None:
        """Write below `folder`."""
        super().__init__()
        self.folder = folder / EVENTS_FOLDER
        self.logging_dir = str(self.folder)  # of the evaluation after the last step

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: Any, **more: Any
    ) -> None:
        """Open the folder at the step that is next."""
        if state.is_world_process_zero:
            step = state.global_step
            # The first start says so too: TensorBoard takes only a second one for a restart.
            self.tb_writer = SummaryWriter(
                log_dir=str(self.folder), purge_step=step + 1 if step else 0
            )
        super().on_train_begin(args, state, control, **more)

    def add_samples(self, step: int, samples: Sequence[Sample]) -> None:
        """Show the answers to the fixed questions in the text tab, each question with its own."""
        if self.tb_writer is None:
            self._init_summary_writer(None)
        for number, sample in enumerate(samples, start=1):
            self.tb_writer.add_text(f"samples/{number}", markdown_of(sample), step)
        self.tb_writer.flush()


def markdown_of(sample: Sample) -> str:
    """Return a question and its answer as Markdown that shows both letter by letter."""
    cut = "" if sample.stopped else "\n\n*(cut)*"
    parts = ["**question**", as_written(sample.question), "**reply**", as_written(sample.reply)]
    return "\n\n".join(parts) + cut


def as_written(text: str) -> str:
    """Return Markdown that is shown as this text: no markup of it works, no picture is fetched.

    Every sign that may mean something to Markdown or HTML is written as its number.
    Example: "*a*" -> "&#42;a&#42;".
    """
    lines = [printable(line) for line in text.split("\n")]
    signs = str.maketrans({sign: f"&#{ord(sign)};" for sign in punctuation})
    # A space at the beginning would be lost, four would be code.
    return "  \n".join(
        "&nbsp;" * (len(line) - len(line.lstrip(" "))) + line.lstrip(" ").translate(signs)
        for line in lines
    )
