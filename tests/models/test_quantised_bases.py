"""Merging what was trained on 4 or 8 bits: into either kind of weights, against what was trained.

Reference: the quantised model itself, loaded by bitsandbytes as in training.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer

from medtune.arguments import MergeArguments, ModelArguments
from medtune.common.errors import CheckpointError, ConfigError
from medtune.common.lineage import describe_weights
from medtune.models.adapters import load_adapter
from medtune.models.loading import load_model
from medtune.models.merging import merge_adapters

BITS = pytest.mark.parametrize("bits", [4, 8])


def make_adapter(base: Path, folder: Path, bits: int | None, **options: Any) -> str:
    """Save an adapter with random weights as a stage that trained it on `bits` leaves it."""
    model = load_model(ModelArguments(str(base), quantization_bit=bits))
    torch.manual_seed(3)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", **options)
    peft_model = get_peft_model(model, config)
    for name, parameter in peft_model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            parameter.data = torch.randn(parameter.shape) * 0.05
    peft_model.save_pretrained(folder)
    inputs = {"base": describe_weights(base), "options": {"quantization_bit": bits}}
    (folder / "lineage.json").write_text(json.dumps({"inputs": inputs}))
    (folder / "COMPLETE").write_text("{}")
    return str(folder)


def arguments_for(base: Path, adapter: str, choice: str | None, **options: Any) -> MergeArguments:
    output = f"{Path(adapter).parent}/{choice}"
    return MergeArguments(str(base), [adapter], output, quantised_base=choice, **options)


@torch.no_grad()
def logits(model: torch.nn.Module, base: Path) -> torch.Tensor:
    ids = AutoTokenizer.from_pretrained(base)("咳嗽三天，怎么办？", return_tensors="pt")[
        "input_ids"
    ]
    return model.eval()(input_ids=ids).logits.float()


def merged_logits(arguments: MergeArguments, base: Path) -> torch.Tensor:
    merge_adapters(arguments)
    return logits(load_model(ModelArguments(arguments.output_dir)), base)


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / one.abs().max())


@pytest.mark.parametrize(
    ("bits", "options"),
    [(4, {}), (8, {}), (4, {"use_dora": True}), (4, {"use_rslora": True})],
    ids=["4 bits", "8 bits", "4 bits, DoRA", "4 bits, rsLoRA"],
)
def test_dequantised_merge_is_the_model_that_was_trained(
    small_model_folder: Path, tmp_path: Path, bits: int, options: dict[str, bool]
) -> None:
    adapter = make_adapter(small_model_folder, tmp_path / "adapter", bits, **options)
    model = load_model(ModelArguments(str(small_model_folder), quantization_bit=bits))
    trained = logits(load_adapter(model, adapter), small_model_folder)

    merged = merged_logits(
        arguments_for(small_model_folder, adapter, "dequantised"), small_model_folder
    )

    # 4 bits: rounding of sums. 8 bits: bitsandbytes rounds what goes into a layer too.
    assert relative(trained, merged) < {4: 2e-6, 8: 2e-2}[bits]
    report = json.loads((tmp_path / "dequantised" / "merge_report.json").read_text())
    found = report["quantised_base"]
    assert (found["bits"], found["merged_into"]) == (bits, "dequantised")
    alone, allowed = (
        found["quantisation_alone_relative"],
        found["against_the_model_as_trained"]["tolerance"],
    )
    assert allowed == {4: 1e-4, 8: 2 * alone}[bits]


@BITS
def test_merge_into_the_original_weights_is_that_of_a_plain_adapter(
    small_model_folder: Path, tmp_path: Path, bits: int
) -> None:
    adapter = make_adapter(small_model_folder, tmp_path / "adapter", bits)
    model = load_model(ModelArguments(str(small_model_folder)))
    on_original = logits(load_adapter(model, adapter), small_model_folder)

    merged = merged_logits(
        arguments_for(small_model_folder, adapter, "original"), small_model_folder
    )

    assert relative(on_original, merged) < 2e-6
    report = json.loads((tmp_path / "original" / "merge_report.json").read_text())
    found = report["quantised_base"]
    alone, difference = (
        found["quantisation_alone_relative"],
        found["against_the_model_as_trained"],
    )
    assert 0 < difference["relative"] <= difference["tolerance"]
    assert difference["tolerance"] == 2 * alone


def test_choice_of_the_base_must_be_made_and_is_explained(
    small_model_folder: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(small_model_folder, tmp_path / "adapter", 4)

    with pytest.raises(ConfigError, match="was trained on a base in 4 bits") as refused:
        merge_adapters(arguments_for(small_model_folder, adapter, None))
    assert "--quantised_base dequantised: to what" in str(refused.value)
    assert "--quantised_base original: to the base's own weights" in str(refused.value)
    two = arguments_for(small_model_folder, adapter, "original")
    two.lora_model *= 2
    with pytest.raises(ConfigError, match="expected one adapter, found 2"):
        merge_adapters(two)


def test_choice_without_a_quantised_base_is_refused(
    small_model_folder: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(small_model_folder, tmp_path / "adapter", None)

    with pytest.raises(ConfigError, match="--quantised_base original: expected an adapter whose"):
        merge_adapters(arguments_for(small_model_folder, adapter, "original"))
    with pytest.raises(ConfigError, match="--max_logit_difference"):
        MergeArguments("b", ["a"], "o", max_logit_difference=0.1)


def test_difference_above_what_is_allowed_is_refused_with_the_number(
    small_model_folder: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(small_model_folder, tmp_path / "adapter", 4)
    strict = arguments_for(small_model_folder, adapter, "original", max_logit_difference=1e-3)

    with pytest.raises(CheckpointError, match=r"relative .* \(tolerance 1\.0e-03\)") as refused:
        merge_adapters(strict)
    assert "Take --quantised_base dequantised, or allow more" in str(refused.value)
    assert not Path(strict.output_dir).exists()


def test_base_whose_files_are_quantised_is_refused(
    small_model_folder: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(small_model_folder, tmp_path / "adapter", None)
    base = tmp_path / "base"
    model = load_model(ModelArguments(str(small_model_folder), quantization_bit=4))
    model.save_pretrained(base)
    AutoTokenizer.from_pretrained(small_model_folder).save_pretrained(base)

    with pytest.raises(CheckpointError, match="found quantization_config in its config.json"):
        merge_adapters(MergeArguments(str(base), [adapter], str(tmp_path / "out")))
