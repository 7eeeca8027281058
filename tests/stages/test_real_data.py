"""The three scripts on real data, a small part of it: skipped where `../shared/data` is not."""

import json
from pathlib import Path

import pytest

import dpo_training
import pretraining
import supervised_finetuning
from medtune.training.progress import read_metrics
from tests.conftest import REPO

SHARED = REPO.parent / "shared" / "data"
CASES = [
    (pretraining.main, "pretrain/tcm_伤寒论.txt", "--block_size=128"),
    (supervised_finetuning.main, "finetune/cmtmedqa_multiturn.jsonl", "--max_length=256"),
    (supervised_finetuning.main, "finetune/medicalgpt_medical_sft.jsonl", "--max_length=256"),
    (dpo_training.main, "reward/parkinson_dpo.jsonl", "--max_length=384"),
    (dpo_training.main, "reward/medicalgpt_dpo_zh_500.jsonl", "--max_length=256"),
    (dpo_training.main, "reward/derived_cmtmedqa_history_pairs.jsonl", "--max_length=512"),
    (dpo_training.main, "reward/llamafactory_dpo_zh_sharegpt.jsonl", "--max_length=512"),
]

# Answers paired at random, or sixty rows: read and trained on, but not learnt in twelve steps.
SHAPES_ONLY = {CASES[-1][1], CASES[-2][1]}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data are not on this machine")
@pytest.mark.parametrize(("main", "file", "length"), CASES, ids=[case[1] for case in CASES])
def test_loss_falls_on_real_data(
    main: object, file: str, length: str, small_model_folder: Path, tmp_path: Path
) -> None:
    assert callable(main)
    main(
        [
            f"--model_name_or_path={small_model_folder}", f"--train_file_dir={SHARED / file}",
            f"--output_dir={tmp_path / 'out'}", length, "--max_steps=12", "--learning_rate=2e-3",
            "--max_train_samples=100", "--max_eval_samples=8", "--report_to=none",
            "--validation_split_percentage=10", "--use_peft=False",
            "--per_device_train_batch_size=4",
        ]
    )  # fmt: skip

    metrics = read_metrics(tmp_path / "out")
    # A few steps of DPO teach an untrained model its training pairs; the other stages show on
    # validation text at once.
    name = "loss" if main is dpo_training.main else "eval_loss"
    losses = [entry[name] for entry in metrics if name in entry]
    assert losses[-1] < losses[0] or file in SHAPES_ONLY
    rows = json.loads((tmp_path / "out" / "ledger.json").read_text())["rows"]
    assert rows["read"] == len(
        [line for line in (SHARED / file).read_text(encoding="utf-8").splitlines() if line.strip()]
    ) or file.endswith(".txt")
