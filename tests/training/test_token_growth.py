"""--add_tokens in the stages: what is saved, continued, resumed, compared and refused."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from medtune.arguments import MergeArguments, ModelArguments
from medtune.common.errors import ConfigError
from medtune.models.adapters import load_adapter
from medtune.models.loading import load_model, load_tokenizer
from medtune.models.merging import merge_adapters
from medtune.training.progress import read_metrics
from tests.training.conftest import TOPICS, Stage
from tests.training.test_checkpoints import SAVES, interrupted_copy, is_same_end

FILLERS = [f"词汇之{number}" for number in range(90)]  # more than the small model has spare rows


@pytest.fixture
def words(tmp_path: Path) -> str:
    """A file with words of the data, and with as many as make the embedding grow."""
    (tmp_path / "words.txt").write_text("\n".join(TOPICS + FILLERS), encoding="utf-8")
    return f"--add_tokens={tmp_path / 'words.txt'}"


def first_eval(folder: Path) -> dict[str, float]:
    return next(entry for entry in read_metrics(folder) if "eval_loss" in entry)


def test_stages_hand_new_tokens_on_to_dpo_and_to_a_merge(
    run_stage: Stage, words: str, small_model_folder: Path, tmp_path: Path
) -> None:
    sft = run_stage("sft", "sft", "--max_steps=3", "--learning_rate=1e-2", words)
    losses = [entry["loss"] for entry in read_metrics(sft) if "loss" in entry]
    assert losses[-1] < losses[0]

    # The policy is its own reference before the first step, new tokens included.
    dpo = run_stage("dpo", "dpo", "--max_steps=2", f"--peft_path={sft}")
    assert first_eval(dpo)["eval_loss"] == pytest.approx(math.log(2), abs=1e-6)
    base = json.loads((dpo / "lineage.json").read_text())["inputs"]["tokenizer"]
    assert base["path"] == str(sft)

    out = tmp_path / "merged"
    merge_adapters(MergeArguments(str(small_model_folder), [str(dpo)], str(out), model_type="glm"))
    arguments = ModelArguments(str(small_model_folder))
    tokenizer = load_tokenizer(arguments, str(dpo))
    ids = torch.tensor([tokenizer("第3号病要多休息")["input_ids"]])
    assert 4013 in ids[0]
    with torch.no_grad():
        as_trained = load_adapter(load_model(arguments), str(dpo)).eval()(input_ids=ids).logits
        merged = load_model(ModelArguments(str(out))).eval()(input_ids=ids).logits
    torch.testing.assert_close(merged, as_trained, rtol=0, atol=1e-4)


def test_adapter_stays_small_in_checkpoints_too(run_stage: Stage, words: str) -> None:
    folder = run_stage("sft", "out", *SAVES, words)

    for place in (folder, folder / "checkpoint-2"):
        tensors = load_file(place / "adapter_model.safetensors")
        rows = {name: len(t) for name, t in tensors.items() if "lora_" not in name}
        assert len(rows) == 2
        assert set(rows.values()) == {len(TOPICS) + len(FILLERS)}


def test_run_with_new_tokens_resumes_bit_exactly(
    run_stage: Stage, words: str, tmp_path: Path
) -> None:
    whole = run_stage("sft", "whole", *SAVES, words)
    out = interrupted_copy(whole, tmp_path / "out", 6, 4)

    run_stage("sft", "out", *SAVES, words)

    assert is_same_end(out, whole)


def test_other_words_are_another_run(run_stage: Stage, words: str, tmp_path: Path) -> None:
    folder = run_stage("sft", "out", "--max_steps=1", words)
    (folder / "COMPLETE").unlink()
    (tmp_path / "words.txt").write_text("\n".join(FILLERS), encoding="utf-8")

    with pytest.raises(ConfigError, match=r"tokenizer\.added_tokens"):
        run_stage("sft", "out", "--max_steps=1", words)


def test_all_weights_keep_the_grown_model_and_its_reference(
    run_stage: Stage, words: str, tmp_path: Path
) -> None:
    folder = run_stage("dpo", "out", "--max_steps=1", "--use_peft=False", words)

    assert first_eval(folder)["eval_loss"] == pytest.approx(math.log(2), abs=1e-6)
    num_rows = json.loads((folder / "config.json").read_text())["vocab_size"]
    assert num_rows == 4010 + len(TOPICS) + len(FILLERS)
    assert len(load_file(folder / "model.safetensors")["lm_head.weight"]) == num_rows
    assert len(load_tokenizer(ModelArguments(str(folder)))) == num_rows
