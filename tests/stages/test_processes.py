"""Many processes, for real: torchrun over gloo, DeepSpeed ZeRO-2 and ZeRO-3, on the CPU.

The same sixteen rows a step must give the same losses however they are divided.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.conftest import REPO

STEPS = 3
# Sums of float32 in another order: measured differences are below 1e-6 on losses near 8.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def base(small_model_folder: Path) -> Path:
    return small_model_folder


def run(script: str, folder: Path, base: Path, data: str, *options: str, nproc: int = 1) -> Path:
    """Run a stage in its own processes; returns its folder."""
    answer = start(script, folder, base, data, *options, nproc=nproc)
    assert answer.returncode == 0, answer.stderr[-3000:]
    return folder


def start(
    script: str, folder: Path, base: Path, data: str, *options: str, nproc: int = 1
) -> subprocess.CompletedProcess[str]:
    """Run a stage in its own processes; returns how they ended."""
    launcher = [sys.executable]
    if nproc > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={nproc}"]
    command = [
        *launcher, script, f"--model_name_or_path={base}", f"--train_file_dir={REPO / data}",
        f"--output_dir={folder}", "--report_to=none", f"--max_steps={STEPS}", "--lora_dropout=0",
        "--learning_rate=1e-3", "--max_eval_samples=5", "--eval_strategy=no", "--seed=7",
        "--save_strategy=no", *options,
    ]  # fmt: skip
    return subprocess.run(
        command, cwd=REPO, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True,
        text=True, timeout=400,
    )  # fmt: skip


def losses(folder: Path) -> list[float]:
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [entry["loss"] for entry in entries if "loss" in entry]


def batch(rows: int, accumulation: int) -> tuple[str, str]:
    return (
        f"--per_device_train_batch_size={rows}",
        f"--gradient_accumulation_steps={accumulation}",
    )


@pytest.mark.parametrize(
    ("script", "data", "length"),
    [
        ("pretraining.py", "data/pretrain/jianyan.txt", "--block_size=48"),
        ("supervised_finetuning.py", "data/finetune/drugs.jsonl", "--max_length=128"),
        ("dpo_training.py", "data/reward/medicines.jsonl", "--max_length=128"),
    ],
)
def test_how_a_step_is_divided_does_not_change_the_losses(
    base: Path, tmp_path: Path, script: str, data: str, length: str
) -> None:
    common = (script, base, data, length)

    def of(name: str, division: tuple[str, str], nproc: int = 1) -> list[float]:
        script, base, data, length = common
        return losses(run(script, tmp_path / name, base, data, length, *division, nproc=nproc))

    whole = of("whole", batch(4, 1))
    assert len(whole) == STEPS and whole[0] != whole[-1]
    assert of("accumulated", batch(1, 4)) == pytest.approx(whole, abs=TOLERANCE)
    assert of("two_processes", batch(2, 1), nproc=2) == pytest.approx(whole, abs=TOLERANCE)


def test_processes_may_have_unequal_numbers_of_pairs_in_batches_of_tokens(
    base: Path, tmp_path: Path
) -> None:
    common = ("dpo_training.py", base, "data/reward/medicines.jsonl", "--max_length=128")
    # Each step is the whole epoch, so that the same pairs are in it however they are cut.
    options = ("--tokens_per_batch=700", "--gradient_accumulation_steps=1000")
    script, base, data, length = common
    one = run(script, tmp_path / "one", base, data, length, *options)
    two = run(script, tmp_path / "two", base, data, length, *options, nproc=2)

    assert len(losses(one)) == STEPS
    assert losses(two) == pytest.approx(losses(one), abs=TOLERANCE)


@pytest.mark.parametrize("stage", (2, 3))
def test_zero_gives_the_same_losses_and_saves_full_size_tensors(
    base: Path, tmp_path: Path, stage: int
) -> None:
    script, data, length = (
        "supervised_finetuning.py",
        "data/finetune/drugs.jsonl",
        "--max_length=128",
    )
    plain = run(script, tmp_path / "plain", base, data, length, *batch(4, 1))

    configuration = f"--deepspeed={REPO}/configs/deepspeed/zero{stage}.json"
    sharded = run(
        script, tmp_path / "sharded", base, data, length, configuration, *batch(2, 1), nproc=2
    )

    # DeepSpeed's schedule is one step ahead when it is logged, not when it is used.
    assert losses(sharded) == pytest.approx(losses(plain), abs=TOLERANCE)
    expected, found = (load_file(f / "adapter_model.safetensors") for f in (plain, sharded))
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in expected.items()}
    assert all(tensor.numel() > 0 for tensor in found.values())


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("nan", "found NaN or infinity in 1 tensors (first: {name})"),
        ("turned", "size mismatch for {name}"),
        ("renamed", "1 missing (first: ['{name}']), 1 too many (first: ['{name}_old'])"),
    ],
)
def test_zero_3_refuses_a_damaged_tensor_by_name(
    base: Path, tmp_path: Path, damage: str, words: str
) -> None:
    """The last value of a matrix is in the second process's part; the first one tells of it."""
    folder = Path(shutil.copytree(base, tmp_path / "base"))
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    if damage == "nan":
        tensors[name][-1, -1] = float("nan")
    elif damage == "turned":
        tensors[name] = tensors[name].T.contiguous()
    else:
        tensors[f"{name}_old"] = tensors.pop(name)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    answer = start(
        "supervised_finetuning.py", tmp_path / "out", folder, "data/finetune/drugs.jsonl",
        "--max_length=128", f"--deepspeed={REPO}/configs/deepspeed/zero3.json", nproc=2,
    )  # fmt: skip

    assert answer.returncode != 0
    assert f"error: {folder}: expected" in answer.stderr
    assert words.format(name=name) in answer.stderr


def test_zero_3_saves_a_whole_model_without_an_adapter(base: Path, tmp_path: Path) -> None:
    folder = run(
        "supervised_finetuning.py", tmp_path / "full", base, "data/finetune/drugs.jsonl",
        "--max_length=128", "--use_peft=False", f"--deepspeed={REPO}/configs/deepspeed/zero3.json",
        *batch(2, 1), nproc=2,
    )  # fmt: skip

    expected = load_file(base / "model.safetensors")
    found = load_file(folder / "model.safetensors")
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in expected.items()}


def test_one_process_prepares_the_rows_for_both(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDTUNE_CACHE", str(tmp_path / "cache"))
    common = ("supervised_finetuning.py", tmp_path / "out", base, "data/finetune/drugs.jsonl")

    answer = start(*common, "--max_length=128", *batch(2, 1), nproc=2)

    assert answer.returncode == 0, answer.stderr[-3000:]
    assert answer.stderr.count("tokenised rows: built in") == 1
    entries = [path for path in (tmp_path / "cache" / "rows").iterdir() if path.is_dir()]
    assert len(entries) == 1


def test_bad_rows_end_the_processes_that_wait(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDTUNE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.jsonl").write_text("[1\n", encoding="utf-8")

    answer = start(
        "supervised_finetuning.py", tmp_path / "out", base, str(tmp_path / "a.jsonl"), nproc=2
    )

    assert answer.returncode != 0
    assert f"error: {tmp_path / 'a.jsonl'}:1: expected " in answer.stderr
    assert not (tmp_path / "out").exists()
