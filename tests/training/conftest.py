"""Small data sets for the stages, and a way to run a stage inside the test process."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dpo_training
import pretraining
import supervised_finetuning
from medtune.common.files import write_lines

MAINS = {
    "pt": pretraining.main,
    "sft": supervised_finetuning.main,
    "dpo": dpo_training.main,
}
TOPICS = [f"第{number}号病" for number in range(24)]
Stage = Callable[..., Path]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with pt/, sft/ and dpo/ of 24 rows each, of differing lengths."""
    return write_data(tmp_path / "data")


def write_data(folder: Path) -> Path:
    """Write pt/, sft/ and dpo/ of 24 rows each, of differing lengths."""
    texts = [f"{topic}的症状是{'发热、' * (i % 5 + 1)}应当休息。" for i, topic in enumerate(TOPICS)]
    (folder / "pt").mkdir(parents=True)
    (folder / "pt" / "book.txt").write_text("\n\n".join(texts), encoding="utf-8")
    conversations: list[dict[str, Any]] = [
        {
            "conversations": [
                {"from": "human", "value": f"{topic}怎么办？"},
                {"from": "gpt", "value": f"{topic}要多{'休息、' * (i % 4 + 1)}喝水。"},
            ]
        }
        for i, topic in enumerate(TOPICS)
    ]
    pairs = [
        {
            "question": f"{topic}能吃药吗？",
            "response_chosen": f"{topic}请先问{'医生、' * (i % 3 + 1)}再吃药。",
            "response_rejected": "随便吃。",
        }
        for i, topic in enumerate(TOPICS)
    ]
    (folder / "sft").mkdir()
    (folder / "dpo").mkdir()
    write_lines(folder / "sft" / "a.jsonl", conversations)
    write_lines(folder / "dpo" / "a.jsonl", pairs)
    return folder


@pytest.fixture
def own_base(small_model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the small model that a test may change."""
    return Path(shutil.copytree(small_model_folder, tmp_path / "base"))


@pytest.fixture
def run_stage(small_model_folder: Path, data: Path, tmp_path: Path) -> Stage:
    """Run a stage on the small model: run_stage("sft", "out", "--max_steps=3") -> its folder."""

    def run(stage: str, output: str, *options: str) -> Path:
        folder = tmp_path / output
        words = [
            f"--model_name_or_path={small_model_folder}",
            f"--train_file_dir={data / stage}",
            f"--output_dir={folder}",
            "--validation_split_percentage=20",
            "--learning_rate=1e-3",
            "--per_device_train_batch_size=4",
            "--per_device_eval_batch_size=3",
            "--report_to=none",
        ]
        words += ["--block_size=32"] if stage == "pt" else ["--max_length=64"]
        MAINS[stage]([*words, *options])
        return folder

    return run
