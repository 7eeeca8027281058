"""Signals, numbers that are none, full disks, hangs and too little memory: each ends as promised.

Reference: the uninterrupted run, compared byte by byte; and what the test itself put in the way.
"""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from medtune.common import disk as common_disk
from medtune.common.errors import (
    BatchTooLarge,
    DiskError,
    Interrupted,
    MemoryExhausted,
    NonFiniteError,
)
from medtune.training import runner, starting
from medtune.training.checkpoints import saving
from medtune.training.checkpoints.finding import checkpoints_of
from medtune.training.guards import disk
from medtune.training.guards.events import EVENTS_FILE
from medtune.training.guards.memory import LongestBatch
from medtune.training.progress import read_metrics
from medtune.training.ready_rows import ReadyRows
from tests.training.conftest import Stage
from tests.training.test_checkpoints import SAVES, is_same_end, weights

STAGES = ("pt", "sft", "dpo")


def events(folder: Path) -> list[dict[str, Any]]:
    path = folder / EVENTS_FILE
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, action: Callable[[], Any]) -> None:
    """Do something in the middle of a step, once."""
    done = []

    class Actor(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step + 1 == step and not done:
                done.append(step)
                action()

    prepare = runner.prepare_callbacks

    def prepare_with_actor(run: Any, trainer: Any, rows: Any) -> Any:
        trainer.add_callback(Actor())
        return prepare(run, trainer, rows)

    monkeypatch.setattr(runner, "prepare_callbacks", prepare_with_actor)


# -- signals


@pytest.mark.parametrize(
    ("stage", "number"), [("pt", signal.SIGTERM), ("sft", signal.SIGINT), ("dpo", signal.SIGTERM)]
)
def test_signal_saves_at_the_end_of_the_step_and_the_run_goes_on(
    run_stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, number: int
) -> None:
    whole = run_stage(stage, "whole", *SAVES)
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        at_step(patch, 3, lambda: os.kill(os.getpid(), number))
        with pytest.raises(Interrupted, match="after step 3, with a checkpoint") as stopped:
            run_stage(stage, "out", *SAVES)
    out = tmp_path / "out"

    assert stopped.value.exit_code == 128 + number
    assert signal.getsignal(number) == before
    assert [path.name for path in checkpoints_of(out)] == ["checkpoint-3", "checkpoint-2"]
    assert not (out / "COMPLETE").exists()
    assert [(e["event"], e["step"]) for e in events(out)] == [("interrupted", 3)]
    assert not [e for e in read_metrics(out) if "eval_loss" in e and e["step"]]  # it did not wait
    run_stage(stage, "out", *SAVES)
    assert is_same_end(out, whole)


def test_signal_in_the_last_step_ends_a_complete_run(
    run_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(monkeypatch, 6, lambda: os.kill(os.getpid(), signal.SIGTERM))

    folder = run_stage("sft", "out", *SAVES)

    assert (folder / "COMPLETE").exists()


def test_program_leaves_with_143_and_torchrun_passes_a_signal_on(
    small_model_folder: Path, data: Path, tmp_path: Path
) -> None:
    """Also a second process: both save one checkpoint and leave."""
    words = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
        "supervised_finetuning.py", f"--model_name_or_path={small_model_folder}",
        f"--train_file_dir={data / 'sft'}", f"--output_dir={tmp_path / 'out'}",
        "--num_train_epochs=5000", "--report_to=none", "--eval_strategy=no",
        "--per_device_train_batch_size=1", "--save_strategy=no",
    ]  # fmt: skip
    process = subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if re.search(r"step 3/", line):
            process.send_signal(signal.SIGTERM)
            break
    rest = process.stderr.read()
    assert process.wait(120) != 0, "".join(lines[-20:])
    assert "signal 15" in rest
    (checkpoint,) = checkpoints_of(tmp_path / "out")
    assert {"rng_state_0.pth", "rng_state_1.pth", "MANIFEST.json"} <= {
        path.name for path in checkpoint.iterdir()
    }


# -- loss and gradient


def spoil(
    monkeypatch: pytest.MonkeyPatch, steps: set[int], make: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    """Change the loss of some steps before its gradient is taken."""
    original = {}
    for kind in (runner.LanguageModelTrainer, runner.PreferenceTrainer):
        original[kind] = kind.compute_loss

        def compute_loss(self: Any, *args: Any, kind: type = kind, **kwargs: Any) -> Any:
            result = original[kind](self, *args, **kwargs)
            is_training = self.model.training and self.state.global_step + 1 in steps
            return make(result) if is_training and self.step_losses is not None else result

        monkeypatch.setattr(kind, "compute_loss", compute_loss)


BAD = {
    "nan": lambda loss: loss * torch.tensor(float("nan")),
    "inf": lambda loss: loss * torch.tensor(float("inf")),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("bad", BAD)
def test_step_without_a_finite_gradient_is_left_out_and_recorded(
    run_stage: Stage, monkeypatch: pytest.MonkeyPatch, data: Path, stage: str, bad: str
) -> None:
    spoil(monkeypatch, {3}, BAD[bad])

    folder = run_stage(stage, "out", *SAVES, "--lora_dropout=0")

    (event,) = events(folder)
    assert (event["event"], event["step"]) == ("step skipped: not finite", 3)
    assert event["num_rows"] == len(event["rows"]) == 4 or stage == "pt"
    name = "book.txt" if stage == "pt" else "a.jsonl"
    assert all(f"{data / stage / name}:" in row for row in event["rows"])
    assert (folder / "COMPLETE").exists()
    tensors = load_file(folder / "adapter_model.safetensors").values()
    assert all(tensor.isfinite().all() for tensor in tensors)
    logged = {e["step"]: e.get("loss") for e in read_metrics(folder) if "learning_rate" in e}
    assert logged[3] is None
    assert all(loss is not None for step, loss in logged.items() if step != 3)
    assert "NaN" not in (folder / "metrics.jsonl").read_text()


def test_rows_of_a_skipped_step_are_those_of_its_batch(
    run_stage: Stage, monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    """Two rows of a batch, found again in the file by what they say."""
    seen = []
    original = ReadyRows.training_step

    def training_step(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 1:
            seen.extend(self.processing_class.batch_decode(inputs["input_ids"]))
        return original(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(ReadyRows, "training_step", training_step)
    spoil(monkeypatch, {2}, BAD["nan"])

    folder = run_stage("sft", "out", "--max_steps=2", "--per_device_train_batch_size=2")

    lines = (data / "sft" / "a.jsonl").read_text(encoding="utf-8").splitlines()
    numbers = [int(row.rpartition(":")[2]) for row in events(folder)[0]["rows"]]
    questions = [json.loads(lines[n - 1])["conversations"][0]["value"] for n in numbers]
    assert len(questions) == 2
    assert all(any(question in text for text in seen) for question in questions)


def test_weights_and_optimizer_are_not_touched_by_a_skipped_step(
    run_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, {3}, BAD["nan"])

    folder = run_stage("sft", "out", *SAVES, "--save_steps=1", "--max_steps=3")

    assert weights(folder / "checkpoint-3") == weights(folder / "checkpoint-2")


def test_steps_that_stay_without_end_the_run_with_the_last_good_checkpoint(
    run_stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spoil(monkeypatch, set(range(4, 99)), BAD["nan"])

    with pytest.raises(NonFiniteError, match=r"3 steps in a row .*up to step 6") as stopped:
        run_stage("sft", "out", *SAVES, "--max_steps=20", "--save_steps=3")

    assert stopped.value.exit_code == 3
    assert f"{tmp_path / 'out'}/checkpoint-3" in str(stopped.value)
    assert [path.name for path in checkpoints_of(tmp_path / "out")] == ["checkpoint-3"]
    assert [e["in_a_row"] for e in events(tmp_path / "out")] == [1, 2, 3]


def test_sudden_rise_of_the_loss_is_recorded(
    run_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, {25}, lambda loss: loss * 100)

    folder = run_stage("sft", "out", "--max_steps=26", "--save_strategy=no", "--eval_strategy=no")

    (event,) = events(folder)
    assert (event["event"], event["step"]) == ("loss spike", 25)
    assert event["loss"] > event["mean"] + 6 * event["sigma"]


# -- disk


def test_run_that_will_not_fit_is_refused_before_it_starts(
    run_stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(common_disk, "free_bytes", lambda folder: 50 << 20)

    with pytest.raises(DiskError, match=r"need \d.* MiB, have 50\.0 MiB") as stopped:
        run_stage("sft", "out", *SAVES)

    assert stopped.value.exit_code == 4
    assert not checkpoints_of(tmp_path / "out")


@pytest.mark.parametrize(
    "full",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
    ],
)
def test_disk_that_fills_during_a_save_costs_nothing(
    run_stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, full: Exception
) -> None:
    whole = run_stage("sft", "whole", *SAVES)
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        save = torch.save

        def save_some(value: Any, path: Any, *args: Any, **kwargs: Any) -> None:
            if "checkpoint-4" in str(path) and "optimizer" in str(path):
                Path(path).write_bytes(b"half of it")
                patch.setattr(common_disk, "free_bytes", lambda folder: 0)
                raise full
            save(value, path, *args, **kwargs)

        patch.setattr(torch, "save", save_some)
        with pytest.raises(DiskError, match="need about .* have .*") as stopped:
            run_stage("sft", "out", *SAVES)

    assert stopped.value.exit_code == 4
    assert [path.name for path in checkpoints_of(out)] == ["checkpoint-2"]
    run_stage("sft", "out", *SAVES)
    assert is_same_end(out, whole)


def test_other_errors_of_a_save_are_not_called_a_full_disk(
    run_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(saving, "commit", fail)

    with pytest.raises(RuntimeError, match="something else"):
        run_stage("sft", "out", *SAVES)


def test_room_is_asked_for_before_each_save(
    run_stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fill() -> None:
        monkeypatch.setattr(common_disk, "free_bytes", lambda folder: 1000)

    at_step(monkeypatch, 3, fill)

    with pytest.raises(DiskError, match=r"checkpoint-4: need .* have 1\.0 KiB"):
        run_stage("sft", "out", *SAVES)
    assert [path.name for path in checkpoints_of(tmp_path / "out")] == ["checkpoint-2"]


def test_checkpoint_that_is_committed_is_not_removed_by_a_failed_rotation(
    run_stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*args: Any) -> None:
        monkeypatch.setattr(common_disk, "free_bytes", lambda folder: 0)
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    monkeypatch.setattr(saving, "remove_old", fail)

    with pytest.raises(OSError, match="not empty"):
        run_stage("sft", "out", *SAVES)
    assert [path.name for path in checkpoints_of(tmp_path / "out")] == ["checkpoint-2"]


def test_need_is_near_what_is_written(run_stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = []
    monkeypatch.setattr(saving, "check_room", lambda folder, need, what: needs.append(need))
    monkeypatch.setattr(starting, "check_room", lambda folder, need, what: needs.append(need))

    folder = run_stage("sft", "out", "--max_steps=1", "--save_steps=1", "--use_peft=False")

    written = sum(f.stat().st_size for f in (folder / "checkpoint-1").rglob("*") if f.is_file())
    assert written <= needs[-1] <= written + disk.SMALL_FILES_BYTES


# -- hangs


def test_run_that_hangs_shows_its_stacks_and_ends(
    small_model_folder: Path, data: Path, tmp_path: Path
) -> None:
    program = (
        "import sys, time\n"
        "from medtune.common.errors import run_script\n"
        "from medtune.training.trainers import LanguageModelTrainer as T\n"
        "import supervised_finetuning\n"
        "step = T.training_step\n"
        "def hang_in_here(self, *a, **k):\n"
        "    if self.state.global_step == 2: time.sleep(600)\n"
        "    return step(self, *a, **k)\n"
        "T.training_step = hang_in_here\n"
        "run_script(supervised_finetuning.main)\n"
    )
    answer = subprocess.run(
        [
            sys.executable, "-c", program, f"--model_name_or_path={small_model_folder}",
            f"--train_file_dir={data / 'sft'}", f"--output_dir={tmp_path / 'out'}",
            "--max_steps=5", "--report_to=none", "--hang_timeout_s=8", "--eval_strategy=no",
        ],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip

    assert answer.returncode == 1
    assert "process 0 has ended no step for 8 s" in answer.stderr
    assert "hang_in_here" in answer.stderr


# -- memory


@pytest.mark.parametrize("stage", STAGES)
def test_trying_the_longest_batch_changes_nothing(
    run_stage: Stage, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    tried = run_stage(stage, "tried", *SAVES, "--lora_dropout=0.2")
    monkeypatch.setattr(LongestBatch, "on_train_begin", lambda self, *_, **__: None)
    plain = run_stage(stage, "plain", *SAVES, "--lora_dropout=0.2")

    assert is_same_end(tried, plain)
    ended = [
        [{k: v for k, v in e.items() if "runtime" not in k and "second" not in k} for e in rows]
        for rows in map(read_metrics, (tried, plain))
    ]
    assert ended[0] == ended[1]


@pytest.mark.parametrize("budget", [[], ["--tokens_per_batch=100"]])
def test_batch_that_does_not_fit_is_found_before_the_first_step(
    run_stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, budget: list[str]
) -> None:
    def fail(self: Any, model: Any, batch: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(ReadyRows, "loss_of_rows", fail)

    with pytest.raises(
        BatchTooLarge, match=r"the longest batch \(\d rows, \d+ tokens\)"
    ) as refused:
        run_stage("sft", "out", *SAVES, *budget)
    assert "--per_device_train_batch_size" in str(refused.value)
    assert not checkpoints_of(tmp_path / "out")


def test_memory_that_runs_out_later_ends_the_run_and_is_never_retried(
    run_stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(loss: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    spoil(monkeypatch, {3}, fail)

    with pytest.raises(MemoryExhausted, match=r"memory ran out in step 3 with batches of \[\(4, "):
        run_stage("sft", "out", *SAVES)
    assert [path.name for path in checkpoints_of(tmp_path / "out")] == ["checkpoint-2"]
    shutil.rmtree(tmp_path / "out")
