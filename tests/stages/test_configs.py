"""Every shipped configuration trains: two steps of each on a small model, with its own settings.

The 9B configurations run as they are (bfloat16, recomputation, accumulation, LoRA on all linear
layers), on a shrunken copy of the same architecture.
"""

import json
from pathlib import Path

import pytest
import yaml

import dpo_training
import pretraining
import supervised_finetuning
from tests.conftest import REPO

MAINS = {"pt": pretraining.main, "sft": supervised_finetuning.main, "dpo": dpo_training.main}
CONFIGS = sorted(path for path in (REPO / "configs").glob("*/*.yaml"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: str(path.relative_to(REPO)))
def test_configuration_trains(
    config: Path, small_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPO)  # the data folders in a configuration are relative to the project
    output = tmp_path / "out"

    MAINS[config.stem](
        [
            f"--config={config}", f"--model_name_or_path={small_model_folder}",
            f"--output_dir={output}", "--max_steps=2", "--max_train_samples=40",
            "--max_eval_samples=4", "--save_strategy=no", "--eval_strategy=no",
            "--gradient_accumulation_steps=2", "--use_cpu=True", "--report_to=none",
        ]
    )  # fmt: skip

    wanted = yaml.safe_load(config.read_text(encoding="utf-8"))
    adapter = json.loads((output / "adapter_config.json").read_text())
    assert (adapter["r"], adapter["lora_alpha"]) == (wanted["lora_rank"], wanted["lora_alpha"])
    results = json.loads((output / "eval_results.json").read_text())
    assert 0 < results["eval_loss"] < 20
    assert (output / "COMPLETE").exists()
