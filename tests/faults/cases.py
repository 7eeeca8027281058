"""Which runs there are to be interrupted: stage, processes, options; on a small model and rows."""

import random
from dataclasses import dataclass, field
from pathlib import Path

STAGES = ("pt", "sft", "dpo")
NUM_STEPS, SAVE_STEPS, NUM_KEPT = 14, 2, 2


@dataclass(frozen=True)
class Case:
    """A run: the command's options without the folders."""

    stage: str = "sft"
    num_processes: int = 1
    options: tuple[str, ...] = field(default=())

    def argv(self, model: Path, data: Path, output: Path) -> list[str]:
        """Return the command's words."""
        length = "--block_size=32" if self.stage == "pt" else "--max_length=64"
        return [
            f"--model_name_or_path={model}", f"--train_file_dir={data / self.stage}",
            f"--output_dir={output}", "--validation_split_percentage=20", "--learning_rate=1e-3",
            "--per_device_eval_batch_size=3", "--report_to=none", f"--max_steps={NUM_STEPS}",
            "--save_strategy=steps", f"--save_steps={SAVE_STEPS}", "--use_cpu=True",
            f"--save_total_limit={NUM_KEPT}", "--eval_strategy=steps", "--eval_steps=5", length,
            *self.options,
        ]  # fmt: skip


def draw_case(stage: str, num_processes: int, seed: str) -> Case:
    """Return a run with drawn options, the same for the same seed."""
    draw = random.Random(f"{stage} {num_processes} {seed}")
    options = [
        f"--use_peft={draw.choice((True, False))}",
        f"--gradient_accumulation_steps={draw.choice((1, 2))}",
        f"--dataloader_num_workers={draw.choice((0, 1))}",
        draw.choice(("--tokens_per_batch=130", "--per_device_train_batch_size=3")),
    ]
    return Case(stage, num_processes, tuple(options))
