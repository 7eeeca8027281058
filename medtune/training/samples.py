"""Where the answers to the fixed questions go: `samples.jsonl` and lines of the log."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medtune.common.files import write_lines
from medtune.common.log import logger
from medtune.common.text import printable
from medtune.training.replies import Sample

SAMPLES_FILE = "samples.jsonl"
NUM_SHOWN = 3
SHOWN_CHARACTERS = 160


class SampleFile(TrainerCallback):
    """Appends the samples of each evaluation to samples.jsonl, and logs the first of them."""

    def __init__(self, folder: Path) -> None:
        """Write below `folder`."""
        self.path = folder / SAMPLES_FILE

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Keep the lines of the evaluations that the run has behind it; others come again."""
        if not state.is_world_process_zero or not self.path.exists():
            return
        steps = {entry["step"] for entry in state.log_history if "eval_loss" in entry}
        write_lines(self.path, [line for line in read_samples(self.path) if line["step"] in steps])

    def add(self, step: int, samples: list[Sample]) -> None:
        """Append the samples of a step; they are on the disk before its checkpoint is."""
        lines = [json.dumps({"step": step, **asdict(s)}, ensure_ascii=False) for s in samples]
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        for sample in samples[:NUM_SHOWN]:
            cut = "" if sample.stopped else " [cut]"
            logger.info(
                "step %s  %s -> %s%s", step, shown(sample.question), shown(sample.reply), cut
            )


def read_samples(path: Path) -> list[dict[str, Any]]:
    """Return the lines of samples.jsonl; without the last one if a kill has torn it."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [json.loads(line) for line in lines[:-1]]


def shown(text: str) -> str:
    """Return the beginning of a text as one line that a terminal can show."""
    short = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
    return printable(short)
