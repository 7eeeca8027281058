"""Every tuner in every stage: it trains, what it saves is what it trained, and it resumes exactly.

Bases are an untrained small GLM. References: the uninterrupted run, byte by byte; the live model's
logits against those of the saved folder, loaded in a fresh process.
"""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from medtune.common.errors import ConfigError
from medtune.common.lineage import hash_weights
from medtune.training import runner
from medtune.training.progress import read_metrics
from tests.conftest import REPO
from tests.training.conftest import Stage
from tests.training.test_checkpoints import SAVES, interrupted_copy, is_same_end

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


EXACT: dict[str, tuple[str, ...]] = {
    "ptuning_v2": METHODS["ptuning_v2"],
    "ptuning_v2 with a network": ("--pre_seq_len=8", "--prefix_projection=True"),
    "qlora": METHODS["qlora"],
    "pissa": ("--init_lora_weights=pissa", "--loraplus_lr_ratio=4"),
}


@pytest.mark.parametrize("method", EXACT)
def test_interrupted_run_ends_in_the_same_bytes(
    run_stage: Stage, tmp_path: Path, method: str
) -> None:
    whole = run_stage("sft", "whole", *SAVES, *EXACT[method], "--eval_on_start=False")
    out = interrupted_copy(whole, tmp_path / "out", 6, 4)
    # It evaluates twice as often: what an evaluation leaves behind would show.
    often = ("--eval_strategy=steps", "--eval_steps=3")
    run_stage("sft", "out", *SAVES, *EXACT[method], "--eval_on_start=False", *often)

    assert is_same_end(out, whole)


RELOADED = """
import json, sys
import torch
from medtune.arguments import ModelArguments
from medtune.models.adapters import load_adapter
from medtune.models.loading import load_model

base, ids = sys.argv[1], torch.tensor([json.loads(sys.argv[2])])
logits = {}
for folder, bits in json.loads(sys.argv[3]):
    model = load_model(ModelArguments(base, quantization_bit=bits))
    model = load_adapter(model, folder).eval()
    with torch.no_grad():
        logits[folder] = model(input_ids=ids).logits
torch.save(logits, sys.argv[4])
"""
PROBE_IDS = [5, 77, 900, 12, 345, 678, 9]


def test_fresh_process_has_the_logits_of_the_trained_model(
    run_stage: Stage, small_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def keep_logits(trainer: Any, folder: Path) -> None:
        live[str(folder)] = trainer.model.eval()(input_ids=torch.tensor([PROBE_IDS])).logits

    monkeypatch.setattr(runner, "check_final_room", keep_logits)
    before = hash_weights(small_model_folder)
    told = []
    for method, options in EXACT.items():
        folder = run_stage("sft", method.replace(" ", "-"), *options, *THREE_STEPS)
        told.append((str(folder), 4 if method == "qlora" else None))
    words = [str(small_model_folder), json.dumps(PROBE_IDS), json.dumps(told)]
    command = [sys.executable, "-c", RELOADED, *words, str(tmp_path / "logits.pt")]
    subprocess.run(command, check=True, cwd=REPO, capture_output=True)

    found = torch.load(tmp_path / "logits.pt")
    for folder, _ in told:
        # PiSSA comes back as W - B0 A0 + B A in another order of sums: float32 of logits below 2
        torch.testing.assert_close(found[folder], live[folder], rtol=0, atol=2e-6)
    assert hash_weights(small_model_folder) == before


@pytest.mark.parametrize(("stage", "method"), [("sft", "qlora"), ("dpo", "dora")])
def test_packed_forward_gives_the_padded_loss(run_stage: Stage, stage: str, method: str) -> None:
    options = (*METHODS[method], *THREE_STEPS)
    packed = run_stage(stage, "packed", *options)
    padded = run_stage(stage, "padded", *options, "--packed_forward=off")

    assert losses(packed) == pytest.approx(losses(padded), abs=1e-5)


def test_prefix_is_continued_from_where_it_was(run_stage: Stage) -> None:
    first = run_stage("dpo", "first", "--pre_seq_len=8", "--max_steps=2")
    path = f"--peft_path={first}"
    second = run_stage(
        "dpo", "second", path, "--tuner=ptuning_v2", "--learning_rate=0", "--max_steps=1"
    )

    before, after = (load_file(f / "adapter_model.safetensors") for f in (first, second))
    assert torch.equal(before["prompt_embeddings"], after["prompt_embeddings"])
    # the reference is the prefix as it was: both answers are as likely
    assert losses(second) == pytest.approx([math.log(2)], abs=1e-6)
    with pytest.raises(ConfigError, match="found one of ptuning_v2; give --tuner ptuning_v2"):
        run_stage("dpo", "third", path)
    with pytest.raises(ConfigError, match="expected --pre_seq_len 9, found a prefix of 8 tokens"):
        run_stage("dpo", "third", path, "--pre_seq_len=9")


@pytest.mark.parametrize(
    ("tuner", "option", "name"),
    [
        ("ptuning_v2", "--prefix_projection=True", ""),
        ("lora", "--init_lora_weights=pissa", "checkpoint-1"),
    ],
)
def test_what_cannot_be_continued_is_refused_by_name(
    run_stage: Stage, tuner: str, option: str, name: str
) -> None:
    options = (f"--tuner={tuner}", "--max_steps=1", "--save_steps=1")
    folder = run_stage("sft", "out", *options, option) / name

    with pytest.raises(ConfigError, match="expected an adapter that can be trained on, found"):
        run_stage("sft", "next", *options, f"--peft_path={folder}")


def test_frozen_layers_keep_every_bit(run_stage: Stage, small_model_folder: Path) -> None:
    folder = run_stage("sft", "out", *METHODS["freeze"], *THREE_STEPS)

    before, after = (load_file(f / "model.safetensors") for f in (small_model_folder, folder))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith("model.layers.1.")}


def test_loraplus_gives_b_its_own_rate_and_follows_an_allowed_change(
    run_stage: Stage, tmp_path: Path
) -> None:
    options = (*SAVES, "--loraplus_lr_ratio=16", "--lr_scheduler_type=constant")
    whole = run_stage("sft", "whole", *options)
    out = interrupted_copy(whole, tmp_path / "out", 6, 4)
    run_stage("sft", "out", *options, "--learning_rate=1e-4", "--allow_change=learning_rate")

    def rates(folder: Path) -> list[float]:
        state = torch.load(folder / "checkpoint-6" / "optimizer.pt", weights_only=True)
        return [group["lr"] for group in state["param_groups"] if group["params"]]

    assert rates(whole) == pytest.approx([1e-3, 1.6e-2])
    assert rates(out) == pytest.approx([1e-4, 1.6e-3])


def test_recomputing_as_planned_works_with_every_tuner(run_stage: Stage) -> None:
    for method in ("ptuning_v2", "freeze", "qlora"):
        options = (*METHODS[method], "--max_steps=1", "--gradient_checkpointing=auto")
        assert len(losses(run_stage("sft", method, *options))) == 1


def test_prefix_that_the_padded_forward_would_lose_is_refused(run_stage: Stage) -> None:
    padded = ("--pre_seq_len=8", "--packed_forward=off", "--max_steps=1")
    with pytest.raises(ConfigError, match="--gradient_checkpointing clash here"):
        run_stage("sft", "out", *padded, "--gradient_checkpointing=True")
    with pytest.raises(ConfigError, match="documents of a block see each other"):
        run_stage("pt", "out", *padded)
