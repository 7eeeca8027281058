"""The way out: what a merged folder has for other programs, and its upload. No network."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GlmConfig, GlmForCausalLM

from medtune.arguments import MergeArguments
from medtune.common.errors import ConfigError, MedtuneError
from medtune.common.log import logger
from medtune.models import upload
from medtune.models.merging import merge_adapters
from medtune.models.serving import find_problems
from medtune.parsing import parse_into
from tests.models.test_merging import make_adapter, merge

TOKEN = "hf_secret"


@pytest.fixture
def merged(small_model_folder: Path, tmp_path: Path) -> Path:
    adapter = make_adapter(small_model_folder, tmp_path / "adapter")
    return merge(small_model_folder, [adapter], tmp_path / "merged")


def test_merged_folder_is_what_transformers_own_class_writes(merged: Path) -> None:
    config = json.loads((merged / "config.json").read_text())
    tensors = load_file(merged / "model.safetensors")
    own = GlmForCausalLM(GlmConfig.from_pretrained(merged)).state_dict()

    assert config["architectures"] == ["GlmForCausalLM"]
    assert config["dtype"] == "float32"
    assert {n: t.shape for n, t in tensors.items()} == {n: t.shape for n, t in own.items()}
    assert {"tokenizer.json", "chat_template.jinja"} <= {path.name for path in merged.iterdir()}
    assert find_problems(merged) == []
    assert json.loads((merged / "merge_report.json").read_text())["serving_problems"] == []


def change_json(folder: Path, file: str, **values: Any) -> None:
    content = json.loads((folder / file).read_text()) | values
    content = {name: value for name, value in content.items() if value != "gone"}
    (folder / file).write_text(json.dumps(content))


def rename_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.other"] = tensors.pop("model.norm.weight")
    save_file(tensors, folder / "model.safetensors")


def reshape_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = torch.zeros(4095, 64)
    save_file(tensors, folder / "model.safetensors")


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "class": (lambda f: change_json(f, "config.json", architectures=["X"]), r"architectures \['X'"),
    "type": (lambda f: change_json(f, "config.json", dtype="gone"), "no dtype"),
    "name": (rename_tensor, r"2 tensors are not those of the class \(first: model.norm.other"),
    "shape": (reshape_tensor, r"1 tensors are not those of the class \(first: lm_head"),
    "tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer.json"),
    "template": (lambda f: (f / "chat_template.jinja").unlink(), "no chat template"),
    "stop": (
        lambda f: change_json(f, "generation_config.json", eos_token_id=[4000]),
        r"without <\|user\|>, <\|observation\|>",
    ),
    "no stop": (lambda f: (f / "generation_config.json").unlink(), r"without <\|endoftext\|>, "),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_a_server_would_miss_is_named(merged: Path, name: str) -> None:
    damage, problem = FAULTS[name]
    damage(merged)

    assert re.search(problem, "; ".join(find_problems(merged)))


# -- the hub


class Hub:
    """Stands for HfApi: remembers what it was asked, and fails where told."""

    fails_at = ""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, token: str | None) -> "Hub":
        self.token = token
        return self

    def create_repo(self, name: str, **options: Any) -> Any:
        self.calls.append(("create", {"name": name, **options}))
        if self.fails_at == "create":
            raise OSError(f"401 for token {TOKEN}")
        return type("Repo", (), {"repo_id": f"someone/{name}"})()

    def upload_folder(self, **options: Any) -> None:
        files = sorted(path.name for path in Path(options["folder_path"]).iterdir())
        self.calls.append(("upload", {**options, "files": files}))
        if self.fails_at == "upload":
            raise RuntimeError("connection lost")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub()
    monkeypatch.setattr(upload, "HfApi", hub)
    return hub


@pytest.fixture
def arguments(small_model_folder: Path, tmp_path: Path) -> MergeArguments:
    adapter = make_adapter(small_model_folder, tmp_path / "adapter")
    return MergeArguments(
        str(small_model_folder), [str(adapter)], f"{tmp_path}/merged/", push_to_hub="glm4-medical"
    )


def test_complete_folder_is_uploaded_to_a_private_repository(
    arguments: MergeArguments, hub: Hub
) -> None:
    merge_adapters(arguments)

    (_, created), (_, uploaded) = hub.calls
    assert created == {"name": "glm4-medical", "private": True, "exist_ok": True}
    assert uploaded["repo_id"] == "someone/glm4-medical"
    assert {"COMPLETE", "model.safetensors", "tokenizer.json"} <= set(uploaded["files"])
    assert hub.token is None  # that of HF_TOKEN or of `hf auth login`


@pytest.mark.parametrize("fails_at", ["create", "upload"])
def test_failed_upload_keeps_the_folder_and_the_same_command_only_uploads(
    arguments: MergeArguments, hub: Hub, fails_at: str, caplog: pytest.LogCaptureFixture
) -> None:
    hub.fails_at, arguments.hf_hub_token = fails_at, TOKEN
    with pytest.raises(MedtuneError) as failed:
        merge_adapters(arguments)
    output = Path(arguments.output_dir)
    assert f"hf upload glm4-medical {output}" in str(failed.value)
    assert TOKEN not in str(failed.value)
    written = (output / "COMPLETE").stat().st_mtime_ns

    hub.fails_at = ""
    merge_adapters(arguments)

    assert hub.calls[-1][0] == "upload"
    assert (output / "COMPLETE").stat().st_mtime_ns == written


def test_token_is_written_nowhere(
    arguments: MergeArguments,
    hub: Hub,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logger, "propagate", True)
    caplog.set_level(logging.DEBUG)
    arguments.hf_hub_token = TOKEN
    merge_adapters(arguments)

    assert hub.token == TOKEN
    assert TOKEN not in caplog.text
    for path in Path(arguments.output_dir).iterdir():
        assert TOKEN.encode() not in path.read_bytes()


def test_name_that_the_hub_would_not_take_is_refused_before_the_merge(
    arguments: MergeArguments, hub: Hub
) -> None:
    arguments.push_to_hub = "a/b/c"
    with pytest.raises(ConfigError, match="--push_to_hub a/b/c: expected NAME or OWNER/NAME"):
        merge_adapters(arguments)
    assert not Path(arguments.output_dir).exists()
    assert not hub.calls


def test_command_of_the_book_and_the_options_of_medicalgpt_are_read() -> None:
    words = [
        "--model_type",
        "chatglm",
        "--base_model",
        "base",
        "--lora_model",
        "glm4-pt-v1",
        "--output_dir",
        "glm4-pt-merged/",
    ]
    (book,) = parse_into(words, [MergeArguments], {})
    assert (book.model_type, book.lora_model, book.push_to_hub) == ("chatglm", ["glm4-pt-v1"], None)

    more = ["--tokenizer_path", "t", "--resize_emb", "--hf_hub_model_id=me/x", "--hf_hub_token=y"]
    (older,) = parse_into(words + more, [MergeArguments], {})
    assert (older.tokenizer_path, older.resize_emb) == ("t", True)
    assert (older.push_to_hub, older.hf_hub_token, older.hub_private_repo) == ("me/x", "y", True)
