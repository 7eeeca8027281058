"""Merging: W + (alpha / r) B A worked out by hand, refusals, and a folder that stands alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from medtune.arguments import MergeArguments
from medtune.common.errors import CheckpointError, ConfigError, DiskError
from medtune.models.merging import merge_adapters

RANK, ALPHA = 4, 8
LAYER = "model.layers.1.mlp.down_proj"


def make_adapter(base: Path, folder: Path, seed: int = 0, scale: float = 0.05) -> Path:
    """Save a LoRA adapter with random weights (both factors non-zero) for `base`."""
    model = AutoModelForCausalLM.from_pretrained(base)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, target_modules="all-linear"
    )
    peft_model = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in peft_model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * scale
    peft_model.save_pretrained(folder)
    return folder


def merge(base: Path, adapters: list[Path], output: Path, **options: bool) -> Path:
    names = [str(adapter) for adapter in adapters]
    merge_adapters(MergeArguments(str(base), names, str(output), **options))
    return output


def weight(folder: Path, name: str = LAYER) -> torch.Tensor:
    return load_file(folder / "model.safetensors")[f"{name}.weight"]


def delta(adapter: Path, name: str = LAYER) -> torch.Tensor:
    """(alpha / r) B A in float64, from the adapter file itself."""
    tensors = load_file(adapter / "adapter_model.safetensors")
    a, b = (tensors[f"base_model.model.{name}.lora_{x}.weight"].double() for x in "AB")
    return ALPHA / RANK * (b @ a)


def test_merged_weight_is_base_plus_scaled_product(
    small_model_folder: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(small_model_folder, tmp_path / "adapter")

    merged = merge(small_model_folder, [adapter], tmp_path / "merged")

    expected = weight(small_model_folder).double() + delta(adapter)
    assert delta(adapter).abs().max() > 1e-3  # there is something to merge
    # one float32 rounding of a sum of about 0.1: half a unit in the last place is 4e-9
    torch.testing.assert_close(weight(merged).double(), expected, rtol=0, atol=2e-8)


def test_bfloat16_base_is_rounded_once(small_model_folder: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    model = AutoModelForCausalLM.from_pretrained(small_model_folder, dtype=torch.bfloat16)
    model.save_pretrained(base)
    AutoTokenizer.from_pretrained(small_model_folder).save_pretrained(base)
    adapter = make_adapter(base, tmp_path / "adapter", scale=0.02)

    merged = merge(base, [adapter], tmp_path / "merged")

    # The sum in double, rounded once, is what float32 addition and one rounding must give, but for
    # ties broken by float32's own rounding: none here.
    expected = (weight(base).double() + delta(adapter)).to(torch.bfloat16)
    assert weight(merged).dtype == torch.bfloat16
    assert torch.equal(weight(merged), expected)


def test_several_adapters_are_merged_in_order(small_model_folder: Path, tmp_path: Path) -> None:
    first = make_adapter(small_model_folder, tmp_path / "first", seed=1)
    second = make_adapter(small_model_folder, tmp_path / "second", seed=2)

    merged = merge(small_model_folder, [first, second], tmp_path / "merged")

    expected = weight(small_model_folder).double() + delta(first) + delta(second)
    torch.testing.assert_close(weight(merged).double(), expected, rtol=0, atol=4e-8)


def test_merged_folder_loads_and_answers_without_medtune(
    small_model_folder: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(small_model_folder, tmp_path / "adapter")
    merged = merge(small_model_folder, [adapter], tmp_path / "merged")
    program = f"""
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
model = AutoModelForCausalLM.from_pretrained({str(merged)!r}, trust_remote_code=False)
tokenizer = AutoTokenizer.from_pretrained({str(merged)!r}, trust_remote_code=False)
ids = tokenizer.apply_chat_template([{{"role": "user", "content": "发热怎么办？"}}],
    add_generation_prompt=True, return_tensors="pt", return_dict=True)
output = model.generate(**ids, max_new_tokens=3, do_sample=False)
assert "medtune" not in sys.modules
print(output.shape[1] - ids["input_ids"].shape[1], model.generation_config.eos_token_id)
"""
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    tokenizer = AutoTokenizer.from_pretrained(small_model_folder)
    stops = ["<|endoftext|>", "<|user|>", "<|observation|>"]
    expected_stops = [tokenizer.convert_tokens_to_ids(name) for name in stops]
    assert answer.stdout.strip().endswith(str(expected_stops))


def test_report_and_marks_are_written(small_model_folder: Path, tmp_path: Path) -> None:
    adapter = make_adapter(small_model_folder, tmp_path / "adapter")

    merged = merge(small_model_folder, [adapter], tmp_path / "merged")

    report = json.loads((merged / "merge_report.json").read_text())
    assert 0 < report["adapters"][0]["max_absolute"] < 1e-3
    assert report["reloaded"]["max_absolute"] == 0.0
    assert (merged / "COMPLETE").exists()
    assert (merged / "lineage.json").exists()
    assert not list(tmp_path.glob(".merged*"))


def test_embedding_rows_beyond_the_tokenizer_stay(small_model_folder: Path, tmp_path: Path) -> None:
    adapter = make_adapter(small_model_folder, tmp_path / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(small_model_folder)

    merged = merge(small_model_folder, [adapter], tmp_path / "merged", resize_emb=True)

    rows = weight(merged, "model.embed_tokens").size(0)
    assert rows == weight(small_model_folder, "model.embed_tokens").size(0) > len(tokenizer)


def test_larger_tokenizer_needs_resize_emb(small_model_folder: Path, tmp_path: Path) -> None:
    adapter = make_adapter(small_model_folder, tmp_path / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(small_model_folder)
    tokenizer.add_tokens([f"词{number}号" for number in range(200)])
    tokenizer.save_pretrained(adapter)

    with pytest.raises(CheckpointError, match=r"4,096 tokens .* found a tokenizer with 4,210"):
        merge(small_model_folder, [adapter], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()

    merged = merge(small_model_folder, [adapter], tmp_path / "merged", resize_emb=True)
    assert weight(merged, "model.embed_tokens").size(0) == 4210


def test_adapter_of_another_shape_is_refused_tensor_by_tensor(
    small_model_folder: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(small_model_folder, tmp_path / "adapter")
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    name = f"base_model.model.{LAYER}.lora_A.weight"
    tensors[name] = torch.zeros(RANK, 97)
    tensors.pop(f"base_model.model.{LAYER}.lora_B.weight")
    save_file(tensors, path)

    with pytest.raises(CheckpointError) as error:
        merge(small_model_folder, [adapter], tmp_path / "merged")

    assert "does not fit this base in 2 tensors" in str(error.value)
    assert "the model needs (4, 96), the adapter has (4, 97)" in str(error.value)
    assert not (tmp_path / "merged").exists()


def test_nan_in_an_adapter_is_refused(small_model_folder: Path, tmp_path: Path) -> None:
    adapter = make_adapter(small_model_folder, tmp_path / "adapter", scale=float("nan"))

    with pytest.raises(CheckpointError):
        merge(small_model_folder, [adapter], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_whole_model_in_place_of_an_adapter_is_explained(
    small_model_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="whole model: it needs no merge"):
        merge(small_model_folder, [small_model_folder], tmp_path / "merged")


def test_unfinished_adapter_folder_is_refused(small_model_folder: Path, tmp_path: Path) -> None:
    adapter = make_adapter(small_model_folder, tmp_path / "adapter")
    (adapter / "lineage.json").write_text("{}")

    with pytest.raises(CheckpointError, match="without COMPLETE"):
        merge(small_model_folder, [adapter], tmp_path / "merged")


def test_base_with_other_weights_than_trained_on_is_refused(
    small_model_folder: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(small_model_folder, tmp_path / "adapter")
    lineage = {"inputs": {"base": {"path": "elsewhere", "sha256": "0" * 64}}}
    (adapter / "lineage.json").write_text(json.dumps(lineage))
    (adapter / "COMPLETE").write_text("{}")

    with pytest.raises(CheckpointError, match="trained on"):
        merge(small_model_folder, [adapter], tmp_path / "merged")
    merge(small_model_folder, [adapter], tmp_path / "merged", ignore_lineage=True)


def test_output_folder_with_other_files_is_refused_and_same_merge_is_reused(
    small_model_folder: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(small_model_folder, tmp_path / "adapter")
    merged = merge(small_model_folder, [adapter], tmp_path / "merged")
    before = (merged / "model.safetensors").stat().st_mtime_ns

    merge(small_model_folder, [adapter], merged)
    assert (merged / "model.safetensors").stat().st_mtime_ns == before

    other = make_adapter(small_model_folder, tmp_path / "other", seed=9)
    with pytest.raises(ConfigError, match="found other files"):
        merge(small_model_folder, [other], merged)


def test_merge_without_room_is_refused_before_it_begins(
    small_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make_adapter(small_model_folder, tmp_path / "adapter")
    monkeypatch.setattr("medtune.common.disk.free_bytes", lambda folder: 1 << 20)

    with pytest.raises(DiskError, match=r"room for the merged model: need .* have 1\.0 MiB"):
        merge(small_model_folder, [adapter], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_merge_that_is_killed_leaves_nothing_and_is_done_anew(
    small_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make_adapter(small_model_folder, tmp_path / "adapter")
    with monkeypatch.context() as patch:

        def save_some(self: object, folder: Path, **_: object) -> None:
            (folder / "model-00001-of-00002.safetensors").write_bytes(b"half of it")
            raise KeyboardInterrupt

        patch.setattr(PreTrainedModel, "save_pretrained", save_some)
        with pytest.raises(KeyboardInterrupt):
            merge(small_model_folder, [adapter], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    left = tmp_path / ".merged.staging"  # by a kill, which nothing cleans up after
    left.mkdir()
    (left / "model-00001-of-00002.safetensors").write_bytes(b"half of it")

    merged = merge(small_model_folder, [adapter], tmp_path / "merged")

    assert (merged / "COMPLETE").exists()
    assert not list(merged.glob("model-*"))
    assert not left.exists()
