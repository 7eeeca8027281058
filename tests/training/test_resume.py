"""What may differ when a run is continued: nothing that it learns from, or it is refused by name.

The fingerprint is `inputs` of lineage.json; each key is changed here by itself.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

from medtune.common.errors import CheckpointError, ConfigError
from medtune.training.progress import read_metrics
from medtune.training.ready_rows import ReadyRows
from medtune.training.run_folder import LOCK_FILE
from tests.training.conftest import Stage
from tests.training.test_checkpoints import SAVES, interrupted_copy, is_same_end


def change_data(base: Path, data: Path) -> None:
    path = data / "sft" / "a.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("喝水", "睡觉", 1), encoding="utf-8")


def change_template(base: Path, data: Path) -> None:
    path = base / "chat_template.jinja"
    path.write_text(path.read_text(encoding="utf-8") + "{# changed #}", encoding="utf-8")


def change_tokenizer(base: Path, data: Path) -> None:
    path = base / "tokenizer_config.json"
    values = json.loads(path.read_text(encoding="utf-8")) | {"model_max_length": 77}
    path.write_text(json.dumps(values), encoding="utf-8")


def change_base(base: Path, data: Path) -> None:
    tensors = load_file(base / "model.safetensors")
    next(iter(tensors.values())).add_(1e-3)
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})


def change_nothing(base: Path, data: Path) -> None:
    """The options differ, not the files."""


KEYS: dict[str, tuple[Callable[[Path, Path], None], list[str]]] = {
    r"data\..*a.jsonl": (change_data, []),
    "tokenizer.chat_template": (change_template, []),
    "tokenizer.files": (change_tokenizer, []),
    "base.sha256": (change_base, []),
    "options.lora_rank: 8 -> 4": (change_nothing, ["--lora_rank=4"]),
    "options.lora_alpha: 16.0 -> 8.0": (change_nothing, ["--lora_alpha=8"]),
    "options.seed: 42 -> 1": (change_nothing, ["--seed=1"]),
    "options.per_device_train_batch_size: 4 -> 2": (
        change_nothing,
        ["--per_device_train_batch_size=2"],
    ),
    "options.gradient_accumulation_steps: 1 -> 2": (
        change_nothing,
        ["--gradient_accumulation_steps=2"],
    ),
    "options.learning_rate: 0.001 -> 0.01": (change_nothing, ["--learning_rate=0.01"]),
    "options.lr_scheduler_type": (change_nothing, ["--lr_scheduler_type=linear"]),
    "options.max_length: 64 -> 32": (change_nothing, ["--max_length=32"]),
    "options.max_steps: 1 -> 7": (change_nothing, ["--max_steps=7"]),
    "options.tokens_per_batch: None -> 90": (change_nothing, ["--tokens_per_batch=90"]),
    "options.optim": (change_nothing, ["--optim=adafactor"]),
    "options.dtype: auto -> bfloat16": (change_nothing, ["--dtype=bfloat16"]),
}


@pytest.mark.parametrize("key", KEYS)
def test_whatever_a_run_learns_from_is_refused_by_name(
    run_stage: Stage, own_base: Path, data: Path, tmp_path: Path, key: str
) -> None:
    base = f"--model_name_or_path={own_base}"
    run_stage("sft", "out", *SAVES, base, "--max_steps=1")
    (tmp_path / "out" / "COMPLETE").unlink()
    change, options = KEYS[key]
    change(own_base, data)

    with pytest.raises(ConfigError, match=key) as refused:
        run_stage("sft", "out", *SAVES, base, "--max_steps=1", *options)
    assert refused.value.exit_code == 2


def test_another_number_of_processes_is_refused_with_the_way_out(
    run_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_stage("sft", "out", "--max_steps=1")
    (folder / "COMPLETE").unlink()
    lineage = json.loads((folder / "lineage.json").read_text())
    lineage["inputs"]["options"]["num_processes"] = 2
    (folder / "lineage.json").write_text(json.dumps(lineage))

    with pytest.raises(ConfigError, match=r"num_processes: 2 -> 1") as refused:
        run_stage("sft", "out", "--max_steps=1")
    assert "start as many as before" in str(refused.value)
    assert "--peft_path" in str(refused.value)


def test_allowed_change_takes_effect_and_is_remembered(run_stage: Stage, tmp_path: Path) -> None:
    constant = (*SAVES, "--lr_scheduler_type=constant")
    whole = run_stage("sft", "whole", *constant)
    out = interrupted_copy(whole, tmp_path / "out", 6, 4)
    options = [*constant, "--learning_rate=1e-4", "--max_steps=8"]

    with pytest.raises(ConfigError, match="To go on with them: --allow_change learning_rate"):
        run_stage("sft", "out", *options)
    run_stage("sft", "out", *options, "--allow_change", "learning_rate", "max_steps")

    rates = {e["step"]: e["learning_rate"] for e in read_metrics(out) if "loss" in e}
    assert rates == dict.fromkeys((1, 2), 1e-3) | dict.fromkeys(range(3, 9), 1e-4)
    changes = json.loads((out / "lineage.json").read_text())["changes"]
    assert changes == ["options.learning_rate: 0.001 -> 0.0001", "options.max_steps: 6 -> 8"]


def test_allowed_change_holds_if_it_is_interrupted_before_a_checkpoint(
    run_stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constant = (*SAVES, "--lr_scheduler_type=constant")
    whole = run_stage("sft", "whole", *constant)
    out = interrupted_copy(whole, tmp_path / "out", 6, 4)
    options = [*constant, "--learning_rate=1e-4", "--allow_change=learning_rate"]
    with monkeypatch.context() as patch:
        patch.setattr(ReadyRows, "training_step", None)  # as a kill: the change is written already
        with pytest.raises(TypeError):
            run_stage("sft", "out", *options)

    run_stage("sft", "out", *options)

    rates = {e["step"]: e["learning_rate"] for e in read_metrics(out) if "loss" in e}
    assert rates == dict.fromkeys((1, 2), 1e-3) | dict.fromkeys(range(3, 7), 1e-4)


def test_allowed_change_back_to_the_same_is_the_same_run(run_stage: Stage, tmp_path: Path) -> None:
    whole = run_stage("sft", "whole", *SAVES)
    out = interrupted_copy(whole, tmp_path / "out", 6, 4)

    run_stage("sft", "out", *SAVES, "--allow_change", "learning_rate")

    assert is_same_end(out, whole)
    assert json.loads((out / "lineage.json").read_text())["changes"] == []


def test_how_often_a_run_saves_and_evaluates_may_change(run_stage: Stage, tmp_path: Path) -> None:
    whole = run_stage("sft", "whole", *SAVES)
    out = interrupted_copy(whole, tmp_path / "out", 6, 4)

    run_stage(
        "sft", "out", *SAVES, "--save_steps=3", "--eval_strategy=steps", "--eval_steps=1",
        "--per_device_eval_batch_size=2",
    )  # fmt: skip

    assert is_same_end(out, whole)
    assert {path.name for path in out.glob("checkpoint-*")} == {
        "checkpoint-2", "checkpoint-3", "checkpoint-6",
    }  # fmt: skip
    assert [e["step"] for e in read_metrics(out) if "eval_loss" in e] == [0, 3, 4, 5, 6]


def test_allowed_weight_decay_takes_effect(run_stage: Stage, tmp_path: Path) -> None:
    whole = run_stage("sft", "whole", *SAVES)
    out = interrupted_copy(whole, tmp_path / "out", 6, 4)

    run_stage("sft", "out", *SAVES, "--weight_decay=0.1", "--allow_change=weight_decay")

    state = torch.load(out / "checkpoint-6" / "optimizer.pt", weights_only=True)
    assert {group["weight_decay"] for group in state["param_groups"]} == {0.1, 0.0}
    assert not is_same_end(out, whole)


def test_complete_run_is_not_changed(run_stage: Stage) -> None:
    run_stage("sft", "out", *SAVES)

    with pytest.raises(ConfigError, match="expected an unfinished run, found .* complete"):
        run_stage("sft", "out", *SAVES, "--max_steps=9", "--allow_change=max_steps")


def test_folder_is_written_by_one_process_at_a_time(run_stage: Stage, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with (
        FileLock(folder / LOCK_FILE),
        pytest.raises(ConfigError, match="found another process that writes it"),
    ):
        run_stage("sft", "out", *SAVES)

    run_stage("sft", "out", *SAVES)
    assert (folder / "COMPLETE").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_damaged_lineage_is_refused_by_name(run_stage: Stage, tmp_path: Path, text: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "lineage.json").write_text(text)

    with pytest.raises(
        CheckpointError, match="out/lineage.json: expected a JSON object"
    ) as refused:
        run_stage("sft", "out", *SAVES)
    assert "name another --output_dir" in str(refused.value)
    assert refused.value.exit_code == 2


def test_output_folder_that_is_a_file_is_refused(run_stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")

    with pytest.raises(ConfigError, match="expected a folder, found a file"):
        run_stage("sft", "out", *SAVES)


@pytest.mark.parametrize(
    ("stage", "option"),
    [
        ("sft", "--train_sampling_strategy=group_by_length"),
        ("sft", "--ignore_data_skip=True"),
        ("sft", "--save_only_model=True"),
        ("dpo", "--sync_ref_model=True"),
        ("sft", "--auto_find_batch_size=True"),
        ("sft", "--enable_jit_checkpoint=True"),
        ("sft", '--accelerator_config={"use_seedable_sampler": false}'),
        ("sft", "--push_to_hub=True"),
        ("sft", "--load_best_model_at_end=True"),
        ("sft", "--lr_scheduler_type=reduce_lr_on_plateau"),
        ("sft", "--resume_from_checkpoint=x"),
        ("sft", "--allow_change=seed"),
        ("sft", "--allow_change=nothing"),
    ],
)
def test_option_that_makes_continuing_inexact_is_refused(
    run_stage: Stage, tmp_path: Path, stage: str, option: str
) -> None:
    name = option.partition("=")[0]
    with pytest.raises(ConfigError, match=f"{name}.*: expected ") as refused:
        run_stage(stage, "out", "--max_steps=1", option)
    assert refused.value.exit_code == 2
    assert not (tmp_path / "out").exists()
