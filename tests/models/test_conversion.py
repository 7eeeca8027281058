"""Old `chatglm` models as native ones: the same logits as the published equations, bit by bit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GenerationConfig, GlmConfig, GlmForCausalLM

from medtune.arguments import ModelArguments
from medtune.models.conversion.layout import to_old
from medtune.models.loading import load_model, load_tokenizer
from tests.conftest import REPO
from tests.models.chatglm import (
    Tensors,
    forward,
    old_config,
    random_tensors,
    shapes_of,
    write_config,
    write_weights,
)
from tests.models.conftest import WriteOld, converted

IDS = torch.tensor([7, 1999, 4, 4, 820, 13, 0, 555, 31, 2, 1000, 64])
HEAD = "transformer.output_layer.weight"
EMBEDDING = "transformer.embedding.word_embeddings.weight"


def logits(folder: Path) -> torch.Tensor:
    """Of IDS. Eager attention computes in the order of the equations; fused kernels round apart."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", trust_remote_code=False
    )
    with torch.no_grad():
        return model(input_ids=IDS[None]).logits[0]


def stored(folder: Path) -> Tensors:
    return {k: v for path in folder.glob("*.safetensors") for k, v in load_file(path).items()}


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("generation", ["chatglm2", "chatglm3", "glm4"])
def test_logits_are_those_of_the_published_equations(
    write_old: WriteOld, generation: str, groups: int
) -> None:
    config = old_config(generation, multi_query_group_num=groups)
    if generation == "glm4":
        config["padded_vocab_size"] = 4096
    tensors = random_tensors(config, seed=groups)
    folder = write_old(generation, "bin", 2, tensors, multi_query_group_num=groups)

    native = converted(folder)

    expected = forward(IDS, tensors, config)
    assert expected.abs().max() > 1
    assert (logits(native) - expected).abs().max().item() == 0.0


@pytest.mark.parametrize(
    "changes",
    [{"rope_ratio": 1}, {"add_qkv_bias": False}, {"kv_channels": 24}, {"rope_ratio": 10000}],
    ids=lambda changes: "-".join(map(str, *changes.items())),
)
def test_settings_that_change_the_function_are_kept(write_old: WriteOld, changes: dict) -> None:
    config = old_config("glm4", padded_vocab_size=4096, **changes)
    tensors = random_tensors(config)

    native = converted(write_old("glm4", tensors=tensors, **changes))

    assert (logits(native) - forward(IDS, tensors, config)).abs().max().item() == 0.0


def test_missing_keys_have_the_published_defaults(write_old: WriteOld) -> None:
    gone = ("rope_ratio", "layernorm_epsilon", "tie_word_embeddings", "rmsnorm", "add_bias_linear",
            "post_layer_norm", "original_rope", "add_qkv_bias", "seq_length")  # fmt: skip
    config = old_config("chatglm3", add_qkv_bias=False, layernorm_epsilon=1e-5)
    tensors = random_tensors(config)
    folder = write_old("chatglm3", tensors=tensors, add_qkv_bias=False)
    written = json.loads((folder / "config.json").read_text())
    write_config(folder, {key: value for key, value in written.items() if key not in gone})

    native = converted(folder)

    assert GlmConfig.from_pretrained(native).max_position_embeddings == 2048
    assert (logits(native) - forward(IDS, tensors, config)).abs().max().item() == 0.0


@pytest.mark.parametrize("kind", ["bin", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_way_back_gives_every_byte(write_old: WriteOld, kind: str, dtype: torch.dtype) -> None:
    config = old_config("chatglm2")
    tensors = {name: t.to(dtype) for name, t in random_tensors(config).items()}

    native = converted(write_old(kind=kind, num_shards=3, tensors=tensors))

    assert GlmConfig.from_pretrained(native).dtype == dtype
    back = to_old(stored(native), GlmConfig.from_pretrained(native))
    del tensors["transformer.rotary_pos_emb.inv_freq"]
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == dtype
        assert torch.equal(back[name].view(torch.int16), tensor.view(torch.int16)), name


def test_files_are_those_that_the_library_writes(write_old: WriteOld, tmp_path: Path) -> None:
    native = converted(write_old(num_shards=2))
    GlmForCausalLM.from_pretrained(native).save_pretrained(tmp_path / "saved")

    assert sorted(path.name for path in native.iterdir()) == [
        "COMPLETE", "chat_template.jinja", "config.json", "generation_config.json", "lineage.json",
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
        "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    saved = load_file(tmp_path / "saved/model.safetensors")
    assert stored(native).keys() == saved.keys()
    ours, theirs = (
        json.loads((f / "config.json").read_text()) for f in (native, tmp_path / "saved")
    )
    assert ours == theirs and ours["architectures"] == ["GlmForCausalLM"]
    index = json.loads((native / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in saved.values())


def test_medtune_loads_what_it_converted(write_old: WriteOld) -> None:
    native = converted(write_old("chatglm3", "bin"))

    arguments = ModelArguments(str(native), dtype="float32")
    assert load_model(arguments).generation_config.eos_token_id == [2, 2006, 2008]
    assert load_tokenizer(arguments).model_max_length == 512


@pytest.mark.parametrize(
    ("generation", "stops"),
    [("chatglm2", [2]), ("chatglm3", [2, 2006, 2008]), ("glm4", [4000, 4007, 4009])],
)
def test_generation_stops_at_all_tokens_and_keeps_the_sampling(
    write_old: WriteOld, generation: str, stops: list[int]
) -> None:
    folder = write_old(generation)
    (folder / "generation_config.json").write_text(
        json.dumps({"temperature": 0.8, "top_p": 0.7, "do_sample": True, "eos_token_id": 1})
    )

    written = GenerationConfig.from_pretrained(converted(folder))

    assert written.eos_token_id == stops
    assert (written.temperature, written.top_p, written.do_sample) == (0.8, 0.7, True)


@pytest.mark.parametrize("kind", ["bin", "safetensors"])
def test_tied_head_is_stored_once(write_old: WriteOld, kind: str) -> None:
    config = old_config("chatglm3", tie_word_embeddings=True)
    tensors = random_tensors(config)
    tensors[HEAD] = tensors[EMBEDDING].clone()
    both = converted(write_old("chatglm3", kind, 2, tensors, tie_word_embeddings=True))
    del tensors[HEAD]
    one = converted(
        write_old("chatglm3", kind, 2, tensors, tie_word_embeddings=True), both.with_name("one")
    )

    expected = forward(IDS, tensors, config)
    for native in (both, one):
        assert GlmConfig.from_pretrained(native).tie_word_embeddings
        assert "lm_head.weight" not in stored(native)
        assert (logits(native) - expected).abs().max().item() == 0.0


def test_head_of_its_own_is_kept_whatever_the_config_says(write_old: WriteOld) -> None:
    config = old_config("chatglm3")
    tensors = random_tensors(config)

    native = converted(write_old("chatglm3", tensors=tensors, tie_word_embeddings=True))

    assert not GlmConfig.from_pretrained(native).tie_word_embeddings
    assert (logits(native) - forward(IDS, tensors, config)).abs().max().item() == 0.0


def test_code_of_the_checkpoint_is_never_run(write_old: WriteOld, tmp_path: Path) -> None:
    folder, marker = write_old("chatglm3"), tmp_path / "was_run"
    for name in ("modeling_chatglm", "tokenization_chatglm", "configuration_chatglm"):
        text = f"open({str(marker)!r}, 'w').close()  # <|assistant|>\n"
        (folder / f"{name}.py").write_text(text)

    native = converted(folder)

    assert not marker.exists() and not list(native.glob("*.py"))
    assert "auto_map" not in (native / "config.json").read_text()


def test_same_command_again_does_nothing_and_another_is_refused(write_old: WriteOld) -> None:
    folder = write_old()
    native = converted(folder)
    before = {path: path.stat().st_mtime_ns for path in native.iterdir()}

    converted(folder)

    assert {path: path.stat().st_mtime_ns for path in native.iterdir()} == before
    lineage = json.loads((native / "lineage.json").read_text())
    assert lineage["inputs"]["stage"] == "conversion"
    assert lineage["inputs"]["generation"] == "chatglm2"


# -- memory

BIG_LAYERS, NUM_SHARDS, GB = 9, 5, 10**9


def write_big(folder: Path, sentencepiece_model: bytes) -> int:
    """A checkpoint of 1 GB in several files; return the bytes of the largest."""
    config = old_config(
        "chatglm2", num_layers=BIG_LAYERS, hidden_size=2048, ffn_hidden_size=6912,
        kv_channels=128, num_attention_heads=16, padded_vocab_size=8192, torch_dtype="bfloat16",
    )  # fmt: skip
    write_config(folder, config)
    (folder / "tokenizer.model").write_bytes(sentencepiece_model)
    shapes = shapes_of(config)
    longest = max(torch.Size(shape).numel() for shape in shapes.values())
    values = torch.arange(longest, dtype=torch.int32).view(torch.bfloat16)  # all sorts of bits
    tensors = {name: values[: torch.Size(s).numel()].view(s).clone() for name, s in shapes.items()}
    write_weights(folder, tensors, "bin", NUM_SHARDS)
    sizes = [path.stat().st_size for path in folder.glob("*.bin")]
    assert len(sizes) == NUM_SHARDS and sum(sizes) > GB
    return max(sizes)


MEASURE = """
import re, sys
from pathlib import Path
sys.path.insert(0, {repo!r})
from convert_chatglm import main
main(["--model_dir", {model!r}, "--output_dir", {output!r}])
# Not getrusage: that counts what the parent had in memory when it started this process.
print(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def test_a_gigabyte_converts_in_the_memory_of_one_file(
    tmp_path: Path, sentencepiece_model: bytes
) -> None:
    largest = write_big(tmp_path / "old", sentencepiece_model)
    program = MEASURE.format(
        repo=str(REPO), model=str(tmp_path / "old"), output=str(tmp_path / "native")
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.split()[-1]) * 1024
    assert peak <= largest + GB
    written = sum(path.stat().st_size for path in (tmp_path / "native").glob("*.safetensors"))
    assert written > GB
