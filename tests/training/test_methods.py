"""Every tuner in every stage: it trains, what it saves is what it trained, and it resumes exactly.

Bases are an untrained small GLM. References: the uninterrupted run, byte by byte; the live model's
logits against those of the saved folder, loaded in a fresh process.
"""

from pathlib import Path

import pytest

from medtune.training.progress import read_metrics
from tests.training.conftest import Stage

METHODS: dict[str, tuple[str, ...]] = {
    "lora": ("--lora_rank=4",),
    "dora": ("--use_dora=True",),
    "ptuning_v2": ("--pre_seq_len=8",),
    "freeze": ("--tuner=freeze", "--num_trainable_layers=1"),
    "full": ("--tuner=full",),
    "qlora": ("--quantization_bit=4",),
}
RATES = {"ptuning_v2": "1e-1", "freeze": "3e-3", "full": "1e-3"}
THREE_STEPS = ("--max_steps=3", "--lr_scheduler_type=constant", "--lora_dropout=0")
# The same rows in each step, so that a loss that falls is learning and no other rows.
SAME_ROWS = ("--per_device_train_batch_size=24", "--eval_on_start=False", "--eval_strategy=no")


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in read_metrics(folder) if "loss" in entry]


@pytest.mark.parametrize("stage", ["pt", "sft", "dpo"])
@pytest.mark.parametrize("method", METHODS)
def test_loss_falls_in_three_steps(run_stage: Stage, stage: str, method: str) -> None:
    rate = f"--learning_rate={RATES.get(method, '5e-3')}"
    folder = run_stage(stage, "out", *METHODS[method], *THREE_STEPS, *SAME_ROWS, rate)

    found = losses(folder)
    assert found[0] > found[1] > found[2]
