"""Two processes, plain and under ZeRO: continued to the same bytes, and no update from a NaN.

Reference: the uninterrupted run.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.conftest import REPO

SHARDED = {
    "ddp": [],
    "zero2": [f"--deepspeed={REPO}/configs/deepspeed/zero2.json"],
    "zero3": [f"--deepspeed={REPO}/configs/deepspeed/zero3.json"],
}
NAN_AT_STEP_3 = """
import sys
import supervised_finetuning
from medtune.common.errors import run_script
from medtune.training.trainers import LanguageModelTrainer as Trainer

original = Trainer.compute_loss

def compute_loss(self, *args, **kwargs):
    loss = original(self, *args, **kwargs)
    is_bad = self.state.global_step in {steps} and self.accelerator.process_index == 1
    return loss * float("nan") if is_bad and self.step_losses is not None else loss

Trainer.compute_loss = compute_loss
run_script(supervised_finetuning.main)
"""


def start(
    script: Path, base: Path, folder: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    """Run a stage in two processes; returns how they ended."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
        str(script), f"--model_name_or_path={base}",
        f"--train_file_dir={REPO / 'data/finetune/drugs.jsonl'}", f"--output_dir={folder}",
        "--report_to=none", "--max_steps=4", "--save_strategy=steps", "--save_steps=2",
        "--learning_rate=1e-3", "--max_eval_samples=4", "--eval_strategy=no", "--max_length=96",
        "--per_device_train_batch_size=2", "--lora_dropout=0.1", *options,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)}
    return subprocess.run(
        command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=400
    )


@pytest.mark.parametrize("name", SHARDED)
def test_two_processes_continue_to_the_same_bytes(
    small_model_folder: Path, tmp_path: Path, name: str
) -> None:
    arguments = (REPO / "supervised_finetuning.py", small_model_folder)
    whole, out = tmp_path / "whole", tmp_path / "out"
    answer = start(*arguments, whole, *SHARDED[name])
    assert answer.returncode == 0, answer.stderr[-3000:]
    shutil.copytree(whole, out)
    for file in ("adapter_model.safetensors", "COMPLETE"):
        (out / file).unlink()
    manifest = json.loads((out / "checkpoint-4" / "MANIFEST.json").read_text())["files"]
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= set(manifest)
    if name != "ddp":
        assert sum("optim_states" in file for file in manifest) == 2  # of both processes
    damaged = max(manifest, key=lambda file: manifest[file]["bytes"])
    data = bytearray((out / "checkpoint-4" / damaged).read_bytes())
    data[len(data) // 2] ^= 1
    (out / "checkpoint-4" / damaged).write_bytes(data)

    answer = start(*arguments, out, *SHARDED[name])

    assert answer.returncode == 0, answer.stderr[-3000:]
    assert "checkpoint-4 is set aside as checkpoint-4.bad" in answer.stderr
    assert f"continuing from {out}/checkpoint-2" in answer.stderr
    weights = "adapter_model.safetensors"
    assert (out / weights).read_bytes() == (whole / weights).read_bytes()
    counts = [
        json.loads((f / "train_results.json").read_text())["num_tokens"] for f in (out, whole)
    ]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("name", SHARDED)
def test_nan_of_one_process_is_no_update_on_any(
    small_model_folder: Path, tmp_path: Path, name: str
) -> None:
    script = tmp_path / "spoiled.py"
    script.write_text(NAN_AT_STEP_3.replace("{steps}", "{2}"))

    answer = start(script, small_model_folder, tmp_path / "out", "--save_steps=1", *SHARDED[name])

    assert answer.returncode == 0, answer.stderr[-3000:]
    lines = (tmp_path / "out" / "events.jsonl").read_text().splitlines()
    (event,) = map(json.loads, lines)
    assert (event["event"], event["step"], event["num_rows"]) == ("step skipped: not finite", 3, 4)
    assert all("drugs.jsonl:" in row for row in event["rows"])
    weights = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())


@pytest.mark.parametrize("name", ["ddp", "zero2"])
def test_nan_without_end_ends_all_processes(
    small_model_folder: Path, tmp_path: Path, name: str
) -> None:
    script = tmp_path / "spoiled.py"
    script.write_text(NAN_AT_STEP_3.replace("{steps}", "range(2, 99)"))

    answer = start(script, small_model_folder, tmp_path / "out", "--max_steps=9", *SHARDED[name])

    assert answer.returncode != 0
    assert "3 steps in a row" in answer.stderr
    # Saved between two skipped steps: its weights are those of step 2.
    assert f"last good checkpoint: {tmp_path / 'out'}/checkpoint-4" in answer.stderr
