"""What the converter refuses, by name and without a traceback; it leaves nothing behind then."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from medtune.common.errors import CheckpointError, ConfigError, MedtuneError
from tests.conftest import REPO
from tests.models.chatglm import old_config, random_tensors, write_config, write_weights
from tests.models.conftest import WriteOld, converted

FUSED = "transformer.encoder.layers.1.self_attention.query_key_value.weight"


def refusal(folder: Path, **options: Any) -> str:
    """The message; nothing is written."""
    output = folder.with_name("refused")
    with pytest.raises(MedtuneError) as caught:
        converted(folder, output, **options)
    assert caught.value.exit_code == 2
    assert not output.exists() and not list(folder.parent.glob(".refused*"))
    return str(caught.value)


# -- configurations


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"position_encoding_2d": True}, "found position_encoding_2d: ChatGLM-6B, the first"),
        ({"inner_hidden_size": 16384}, "found inner_hidden_size: ChatGLM-6B, the first generation"),
        ({"vision_config": {}}, "found vision_config: a model that sees pictures"),
        ({"quantization_bit": 4}, "found quantization_bit: 4: a checkpoint quantised to int4"),
        ({"quantization_bit": 8}, "found quantization_bit: 8"),
        ({"add_bias_linear": True}, "expected add_bias_linear: false, .* found true"),
        ({"rmsnorm": False}, "expected rmsnorm: true, .* found false"),
        ({"apply_residual_connection_post_layernorm": True}, "post_layernorm: false, .* found tru"),
        ({"post_layer_norm": False}, "expected post_layer_norm: true"),
        ({"original_rope": False}, "expected original_rope: true"),
        ({"multi_query_attention": False}, "expected multi_query_attention: true"),
        ({"multi_query_group_num": 3}, "to be a multiple of multi_query_group_num, found 4 and 3"),
        ({"num_layers": "3"}, "expected num_layers: a number from 1, found '3'"),
        ({"rope_ratio": 16}, "expected rope_ratio 1 of ChatGLM2, found 16"),
        (
            {"padded_vocab_size": 2001},
            "expected at most 2,001 tokens .* found a tokenizer with 2,0",
        ),
        ({"model_type": "llama"}, "found 'llama'"),
        ({"model_type": "glm"}, "found a native one: it needs no conversion"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_configurations_are_refused_by_name(
    write_old: WriteOld, changes: dict[str, Any], named: str
) -> None:
    folder = write_old()
    config = {**json.loads((folder / "config.json").read_text()), **changes}
    write_config(folder, config)

    with pytest.raises(MedtuneError, match=named):
        converted(folder)
    refusal(folder)


def test_settings_without_effect_are_let_pass(write_old: WriteOld) -> None:
    passed = {"quantization_bit": 0, "pre_seq_len": None, "prefix_projection": [False]}

    converted(write_old(**passed, apply_query_key_layer_scaling=False, hidden_dropout=0.1))


# -- tensors


def test_missing_and_unknown_tensors_are_named(write_old: WriteOld) -> None:
    tensors = random_tensors(old_config("chatglm2"))
    tensors["transformer.encoder.layers.1.mlp.dense_h_to_4h.bias"] = torch.zeros(192)
    del tensors[FUSED]

    message = refusal(write_old(tensors=tensors))

    assert f"missing: 1 (first: {FUSED})" in message
    assert "unknown: 1 (first: transformer.encoder.layers.1.mlp.dense_h_to_4h.bias)" in message


def test_tensors_of_other_shapes_are_named(write_old: WriteOld) -> None:
    message = refusal(write_old(tensors=random_tensors(old_config("chatglm2", kv_channels=32))))

    assert "of another shape" in message
    assert f"{FUSED}: (256, 64), expected (128, 64)".replace("layers.1", "layers.0") in message


@pytest.mark.parametrize("kind", ["bin", "safetensors"])
def test_integers_are_refused_as_quantised(write_old: WriteOld, kind: str) -> None:
    tensors = random_tensors(old_config("chatglm2"))
    tensors[FUSED] = tensors[FUSED].to(torch.int8)
    scales = random_tensors(old_config("chatglm2"))
    scales[f"{FUSED}_scale"] = torch.ones(128)

    for values, name in ((tensors, FUSED), (scales, f"{FUSED}_scale")):
        message = refusal(write_old(kind=kind, tensors=values))
        assert f"found {name} of type" in message and "quantised to int4 or int8" in message


def test_prefix_inside_a_model_is_refused(write_old: WriteOld) -> None:
    tensors = random_tensors(old_config("chatglm2"))
    tensors["transformer.prefix_encoder.embedding.weight"] = torch.zeros(5, 192)

    assert "found both in one" in refusal(write_old(tensors=tensors, pre_seq_len=5))


# -- files


@pytest.mark.parametrize("kind", ["bin", "safetensors"])
@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.999])
def test_cut_file_is_refused_by_name(write_old: WriteOld, kind: str, kept: float) -> None:
    folder = write_old(kind=kind, num_shards=2)
    path = sorted(folder.glob(f"*.{kind}"))[1]
    data = path.read_bytes()
    path.write_bytes(data[: int(kept if kept > 1 else len(data) * kept)])

    message = refusal(folder)

    assert message.startswith(str(path)) and "damaged" in message


@pytest.mark.parametrize("kind", ["bin", "safetensors"])
def test_index_that_is_not_true_is_refused(write_old: WriteOld, kind: str) -> None:
    folder = write_old(kind=kind, num_shards=2)
    index = next(folder.glob("*.index.json"))
    content = json.loads(index.read_text())

    def with_map(changes: dict[str, Any]) -> str:
        index.write_text(json.dumps({"weight_map": {**content["weight_map"], **changes}}))
        return refusal(folder)

    assert "1 missing (first: ['not.there'])" in with_map(
        {"not.there": content["weight_map"][FUSED]}
    )
    assert "found no such file" in with_map({"not.there": f"a.{kind}"})
    assert "expected the name of a file in this folder" in with_map({"not.there": f"../x.{kind}"})
    index.write_text("{")
    assert refusal(folder).startswith(f"{index}: expected a JSON object")


def test_pickle_that_would_run_code_is_refused_before_it_runs(
    write_old: WriteOld, tmp_path: Path
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'was_run')!r}, 'w').close()",)

    folder = write_old(kind="bin")
    torch.save({FUSED: Evil()}, folder / "pytorch_model.bin")

    assert "would run code" in refusal(folder)
    assert not (tmp_path / "was_run").exists()


def test_pickle_of_other_things_is_refused(write_old: WriteOld) -> None:
    folder = write_old(kind="bin")
    for value, named in (([1], "found list"), ({"step": 3}, "found int at 'step'")):
        torch.save(value, folder / "pytorch_model.bin")
        assert named in refusal(folder)


def test_folders_that_lack_something_say_what(write_old: WriteOld, tmp_path: Path) -> None:
    folder = write_old()
    (folder / "tokenizer.model").rename(tmp_path / "tokenizer.model")
    assert "expected the tokenizer of the model (tokenizer.model), found none" in refusal(folder)
    (folder / "model.safetensors").unlink()
    assert "expected the weights of a model" in refusal(folder)
    (folder / "config.json").unlink()
    assert "expected a model (config.json) or an adapter, found neither" in refusal(folder)
    assert "expected a folder, found none" in refusal(tmp_path / "nothing")


def test_safetensors_are_read_where_both_kinds_are_there(write_old: WriteOld) -> None:
    folder = write_old(num_shards=2)
    write_weights(folder, {"damaged": torch.zeros(1)}, "bin", 1)

    converted(folder)


def test_output_folder_with_other_files_is_refused(write_old: WriteOld, tmp_path: Path) -> None:
    folder, output = write_old(), tmp_path / "mine"
    output.mkdir()
    (output / "thesis.txt").write_text("")

    with pytest.raises(ConfigError, match="an empty folder or this same conversion"):
        converted(folder, output)
    with pytest.raises(ConfigError, match="an empty folder or this same conversion"):
        converted(folder, output / "thesis.txt")
    assert [path.name for path in output.iterdir()] == ["thesis.txt"]


def test_wrong_model_type_is_refused(write_old: WriteOld) -> None:
    with pytest.raises(ConfigError, match="--model_type chatglm: expected auto, chatglm2,"):
        converted(write_old(), model_type="chatglm")


# -- the command


def test_a_mistake_on_the_command_line_has_no_traceback(write_old: WriteOld) -> None:
    native = converted(write_old())
    words = ["--model_dir", str(native), "--output_dir", str(native.with_name("again"))]

    done = subprocess.run(
        [sys.executable, str(REPO / "convert_chatglm.py"), *words], capture_output=True, text=True
    )

    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: --model_dir {native}: expected a model")
    assert "Traceback" not in done.stderr


def test_unfinished_output_is_never_taken_for_a_model(write_old: WriteOld, tmp_path: Path) -> None:
    native = converted(write_old())
    (native / "COMPLETE").unlink()

    with pytest.raises(CheckpointError, match="without COMPLETE"):
        converted(native, tmp_path / "x")
