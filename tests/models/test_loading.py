"""Models that must not be loaded: incomplete, in the old format, unfinished, of another family."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from medtune.arguments import ModelArguments
from medtune.common.errors import CheckpointError, ConfigError
from medtune.models.loading import load_model, load_tokenizer


@pytest.fixture
def folder(small_model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_model_folder, tmp_path / "model"))


def test_missing_weights_are_refused_not_filled_by_chance(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.0.mlp.down_proj.weight"]
    save_file(tensors, path, metadata={"format": "pt"})

    with pytest.raises(CheckpointError, match=r"1 missing \(first: \['model.layers.0.mlp.down"):
        load_model(ModelArguments(str(folder)))


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    with pytest.raises(CheckpointError, match="safetensors"):
        load_model(ModelArguments(str(folder)))


def test_old_chatglm_format_is_named(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "chatglm"}))

    with pytest.raises((ConfigError, CheckpointError)) as error:
        load_model(ModelArguments(str(folder)))
    assert "chatglm" in str(error.value)


def test_model_type_is_checked_and_chatglm_means_glm(folder: Path) -> None:
    load_model(ModelArguments(str(folder), model_type="chatglm"))
    with pytest.raises(ConfigError, match="--model_type llama: .* found 'glm'"):
        load_model(ModelArguments(str(folder), model_type="llama"))


def test_unfinished_folder_is_refused(folder: Path) -> None:
    (folder / "lineage.json").write_text("{}")

    with pytest.raises(CheckpointError, match="without COMPLETE"):
        load_model(ModelArguments(str(folder)))


def test_missing_folder_says_what_writes_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="run the stage or the merge"):
        load_tokenizer(ModelArguments(str(tmp_path / "nothing")))


def test_remote_code_is_never_run(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "was_run"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass C: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "unheard_of"
    config["auto_map"] = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.C"}
    (folder / "config.json").write_text(json.dumps(config))

    with pytest.raises((ConfigError, CheckpointError)):
        load_model(ModelArguments(str(folder)))
    assert not marker.exists()
