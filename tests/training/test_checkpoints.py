"""A checkpoint is whole or not there, and a run goes on from the newest whole one to the same end.

Reference: the uninterrupted run, compared byte by byte.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from medtune.common.errors import CheckpointError, ConfigError
from medtune.training.checkpoints.finding import (
    checkpoints_of,
    chosen_by_user,
    newest_committed,
    remove_old,
)
from medtune.training.checkpoints.manifest import MANIFEST_FILE, commit, find_damage
from medtune.training.progress import read_metrics
from tests.training.conftest import Stage

SAVES = ("--max_steps=6", "--save_strategy=steps", "--save_steps=2", "--save_total_limit=9")
WEIGHTS = ("adapter_model.safetensors", "model.safetensors")


def weights(folder: Path) -> bytes:
    (file,) = (folder / name for name in WEIGHTS if (folder / name).exists())
    return file.read_bytes()


def optimizer_state(folder: Path, step: int) -> list[torch.Tensor]:
    state = torch.load(folder / f"checkpoint-{step}" / "optimizer.pt", weights_only=True)["state"]
    return [torch.as_tensor(value) for entry in state.values() for value in entry.values()]


def is_same_end(one: Path, other: Path) -> bool:
    """True if weights and the optimizer's state are the same to the last bit."""
    states = zip(optimizer_state(one, 6), optimizer_state(other, 6), strict=True)
    return weights(one) == weights(other) and all(torch.equal(a, b) for a, b in states)


def interrupted_copy(whole: Path, target: Path, *lost: int) -> Path:
    """What a kill leaves: checkpoints but the lost ones, and nothing that is written at the end."""
    shutil.copytree(whole, target)
    for name in (*WEIGHTS, "COMPLETE", "eval_results.json", "train_results.json"):
        (target / name).unlink(missing_ok=True)
    for step in lost:
        shutil.rmtree(target / f"checkpoint-{step}")
    return target


def make_checkpoint(folder: Path, step: int, run_id: str = "a", is_committed: bool = True) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    (checkpoint / "sub").mkdir(parents=True)
    (checkpoint / "weights").write_bytes(b"\1\2\3" * step)
    (checkpoint / "sub" / "state").write_bytes(b"\5" * 64)
    if is_committed:
        commit(checkpoint, {"run_id": run_id, "step": step})
    return checkpoint


# -- the manifest


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "flipped": flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "deleted": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["weights", "sub/state"])
def test_damage_to_a_file_is_found_and_named(tmp_path: Path, name: str, damage: str) -> None:
    checkpoint = make_checkpoint(tmp_path, 10)
    assert find_damage(checkpoint) is None

    DAMAGES[damage](checkpoint / name)

    assert (find_damage(checkpoint) or "").startswith(name)


def test_every_file_of_a_real_checkpoint_is_guarded(run_stage: Stage) -> None:
    checkpoint = run_stage("sft", "out", "--max_steps=1", "--save_steps=1") / "checkpoint-1"
    files = [path for path in checkpoint.rglob("*") if path.is_file()]
    assert {"optimizer.pt", "rng_state.pth", "scheduler.pt", "trainer_state.json"} <= {
        path.name for path in files
    }
    for path in files:
        data = path.read_bytes()
        flip(path)
        assert find_damage(checkpoint), path.name
        path.write_bytes(data)
    assert find_damage(checkpoint) is None


def test_file_that_was_added_is_damage(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path, 1)
    (checkpoint / "more").touch()

    assert find_damage(checkpoint) == "more was added"


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"files": 3}', "null"])
def test_broken_manifest_is_no_commit(tmp_path: Path, text: str) -> None:
    checkpoint = make_checkpoint(tmp_path, 1)
    (checkpoint / MANIFEST_FILE).write_text(text)

    assert "not written to its end" in (find_damage(checkpoint) or "")


# -- which one is continued, which are kept


def test_newest_whole_one_is_found_and_newer_ones_are_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_checkpoint(tmp_path, 4)
    good = make_checkpoint(tmp_path, 10)
    flip(make_checkpoint(tmp_path, 20) / "weights")
    make_checkpoint(tmp_path, 100, is_committed=False)
    make_checkpoint(tmp_path, 30, run_id="other")
    (tmp_path / "checkpoint-20.bad").mkdir()

    assert newest_committed(tmp_path, "a") == good
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        "checkpoint-10", "checkpoint-100.bad", "checkpoint-20.bad", "checkpoint-20.bad2",
        "checkpoint-30.bad", "checkpoint-4",
    ]  # fmt: skip
    assert newest_committed(tmp_path, "b") is None


def test_rotation_keeps_the_last_good(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        make_checkpoint(tmp_path, step)
    make_checkpoint(tmp_path, 5, is_committed=False)  # being written, or cut off
    (tmp_path / "checkpoint-0.deleting").mkdir()

    remove_old(tmp_path, None)
    assert len(checkpoints_of(tmp_path)) == 5
    remove_old(tmp_path, 2)
    assert [path.name for path in checkpoints_of(tmp_path)] == [
        f"checkpoint-{step}" for step in (5, 4, 3)
    ]
    remove_old(tmp_path, 0)
    assert [path.name for path in checkpoints_of(tmp_path)] == ["checkpoint-5", "checkpoint-4"]
    assert not (tmp_path / "checkpoint-0.deleting").exists()


def test_checkpoint_that_the_user_names_must_be_whole_and_of_this_run(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    good = make_checkpoint(run, 10)
    assert chosen_by_user(str(good), run, "a") == good
    for run_id, name, words in (
        ("b", good, "another run"),
        ("a", make_checkpoint(run, 11, is_committed=False), "not written to its end"),
        ("a", make_checkpoint(elsewhere, 10), "it has checkpoint-11, checkpoint-10"),
        ("a", run / "checkpoint-9.bad", "found none there"),
        ("a", run, "found none there"),
    ):
        with pytest.raises(CheckpointError, match=words):
            chosen_by_user(str(name), run, run_id)


# -- to the same end

CASES = {
    "pt": ("pt",),
    "sft": ("sft",),
    "dpo": ("dpo",),
    "pt full": ("pt", "--use_peft=False"),
    "sft full": ("sft", "--use_peft=False", "--max_grad_norm=0.1"),
    "dpo full": ("dpo", "--use_peft=False"),
    "accumulation": ("sft", "--gradient_accumulation_steps=3", "--num_train_epochs=9"),
    "token budget": ("sft", "--tokens_per_batch=90"),
    "token budget of pairs": ("dpo", "--tokens_per_batch=200"),
    "workers": ("sft", "--dataloader_num_workers=2"),
    "dropout": ("sft", "--lora_dropout=0.3"),
    "dropout in dpo": ("dpo", "--disable_dropout=False", "--lora_dropout=0.3"),
    "stored reference": ("dpo", "--precompute_ref_log_probs=True"),
    "padded": ("dpo", "--packed_forward=off"),
    "another schedule": ("sft", "--lr_scheduler_type=cosine_with_restarts", "--warmup_steps=2"),
    "adafactor": ("sft", "--optim=adafactor"),
    "often evaluated": ("sft", "--eval_strategy=steps", "--eval_steps=1"),
}


@pytest.mark.parametrize("name", CASES)
def test_interrupted_run_ends_as_the_uninterrupted_one(
    run_stage: Stage, tmp_path: Path, name: str
) -> None:
    stage, *options = CASES[name]
    whole = run_stage(stage, "whole", *SAVES, *options)
    steps = [entry["step"] for entry in read_metrics(whole) if "loss" in entry]
    out = interrupted_copy(whole, tmp_path / "out", 6, 4)

    run_stage(stage, "out", *SAVES, *options)

    assert is_same_end(out, whole)
    metrics = read_metrics(out)
    assert [entry["step"] for entry in metrics if "loss" in entry] == steps == [1, 2, 3, 4, 5, 6]
    same = [
        {k: v for k, v in e.items() if "runtime" not in k and "second" not in k} for e in metrics
    ]
    before = [
        {k: v for k, v in e.items() if "runtime" not in k and "second" not in k}
        for e in read_metrics(whole)
    ]
    assert [e for e in same if "train_loss" not in e] == [
        e for e in before if "train_loss" not in e
    ]
    results = [json.loads((f / "train_results.json").read_text()) for f in (out, whole)]
    assert results[0]["num_tokens"] == results[1]["num_tokens"]
    assert results[0]["train_loss"] == pytest.approx(results[1]["train_loss"])


@pytest.mark.parametrize("damaged", [(6,), (6, 4), (6, 4, 2)])
def test_run_with_damaged_checkpoints_goes_on_from_the_one_before(
    run_stage: Stage, tmp_path: Path, damaged: tuple[int, ...]
) -> None:
    whole = run_stage("sft", "whole", *SAVES)
    out = interrupted_copy(whole, tmp_path / "out")
    for step in damaged:
        flip(out / f"checkpoint-{step}" / "adapter_model.safetensors")

    run_stage("sft", "out", *SAVES)

    assert is_same_end(out, whole)
    assert sorted(p.name for p in out.glob("*.bad")) == sorted(
        f"checkpoint-{s}.bad" for s in damaged
    )


@pytest.mark.parametrize("stage", ["pt", "sft", "dpo"])
def test_run_killed_after_its_last_checkpoint_is_finished_from_it(
    run_stage: Stage, tmp_path: Path, stage: str
) -> None:
    whole = run_stage(stage, "whole", *SAVES)
    out = interrupted_copy(whole, tmp_path / "out")

    run_stage(stage, "out", *SAVES)

    assert is_same_end(out, whole)
    assert [e["step"] for e in read_metrics(out) if "loss" in e] == [1, 2, 3, 4, 5, 6]
    first, second = (json.loads((f / "train_results.json").read_text()) for f in (whole, out))
    assert first["train_loss"] == second["train_loss"]


def test_resume_names_a_checkpoint_or_never(run_stage: Stage, tmp_path: Path) -> None:
    whole = run_stage("sft", "whole", *SAVES)
    out = interrupted_copy(whole, tmp_path / "out")

    with pytest.raises(ConfigError, match="--resume never: expected a new or empty folder"):
        run_stage("sft", "out", *SAVES, "--resume=never")
    run_stage("sft", "out", *SAVES, f"--resume={out / 'checkpoint-2'}")

    assert is_same_end(out, whole)
    assert {p.name for p in out.glob("*.bad")} == {"checkpoint-4.bad", "checkpoint-6.bad"}


def test_checkpoints_of_an_older_run_are_never_continued(run_stage: Stage, tmp_path: Path) -> None:
    run_stage("sft", "first", *SAVES)
    whole = run_stage("sft", "whole", *SAVES)
    out = interrupted_copy(whole, tmp_path / "out", 6, 4, 2)
    shutil.copytree(tmp_path / "first" / "checkpoint-4", out / "checkpoint-4")

    run_stage("sft", "out", *SAVES)

    assert (out / "checkpoint-4.bad").is_dir()
    assert is_same_end(out, whole)


def test_tensorboard_shows_each_step_once(run_stage: Stage, tmp_path: Path) -> None:
    options = (*SAVES, "--report_to=tensorboard")
    whole = run_stage("sft", "whole", *options)
    out = interrupted_copy(whole, tmp_path / "out", 6, 4)

    run_stage("sft", "out", *options)

    board = EventAccumulator(str(out / "runs"))
    board.Reload()
    assert [event.step for event in board.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    (folder,) = {path.parent for path in out.rglob("events.out.tfevents*")}
    assert folder == out / "runs"
