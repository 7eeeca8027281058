"""Adapters for the old format: the same sums as on the fused layers, and every byte back."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from medtune.common.errors import CheckpointError, ConfigError, MedtuneError
from medtune.models.adapters import load_adapter
from tests.models.chatglm import Tensors, forward, old_config, random_tensors, write_config
from tests.models.conftest import WriteOld, converted
from tests.models.test_conversion import IDS

RANK, ALPHA, LAYERS = 4, 8, 3
FUSED, DENSE = "self_attention.query_key_value", "self_attention.dense"
MODULES = {  # rows and columns at the size of the tests
    FUSED: (128, 64),
    DENSE: (64, 64),
    "mlp.dense_h_to_4h": (192, 64),
    "mlp.dense_4h_to_h": (64, 96),
}
PREFIX = "transformer.prefix_encoder"


def adapter_tensors(modules: tuple[str, ...], layers: int = LAYERS, dora: bool = False) -> Tensors:
    """Random factors by the names that PEFT gives them."""
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for number in range(layers):
        for module in modules:
            rows, columns = MODULES[module]
            name = f"base_model.model.transformer.encoder.layers.{number}.{module}"
            shapes = {"lora_A.weight": (RANK, columns), "lora_B.weight": (rows, RANK)}
            for kind, shape in shapes.items():
                tensors[f"{name}.{kind}"] = 0.2 * torch.randn(shape, generator=generator)
            if dora:
                tensors[f"{name}.lora_magnitude_vector"] = 1 + torch.rand(rows, generator=generator)
    return tensors


def write_adapter(folder: Path, tensors: Tensors, kind: str = "bin", **settings: Any) -> Path:
    """An adapter as PEFT of that time saved it."""
    folder.mkdir()
    if kind == "bin":
        torch.save(tensors, folder / "adapter_model.bin")
    else:
        save_file(tensors, folder / "adapter_model.safetensors")
    modules = sorted({name.split(".lora_")[0].rpartition(".")[2] for name in tensors})
    values = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA,
        "lora_dropout": 0.1, "bias": "none", "target_modules": modules, "modules_to_save": None,
        "base_model_name_or_path": "THUDM/chatglm2-6b", "inference_mode": True, **settings,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(values))
    return folder


def deltas(tensors: Tensors, weights: Tensors, scale: float) -> Tensors:
    """What the adapter adds to each fused weight; with magnitudes, as DoRA defines it."""
    changes = {}
    for name in tensors:
        if name.endswith(".lora_A.weight"):
            stem = name.removesuffix(".lora_A.weight")
            module = stem.removeprefix("base_model.model.")
            change = scale * tensors[f"{stem}.lora_B.weight"] @ tensors[name]
            magnitude = tensors.get(f"{stem}.lora_magnitude_vector")
            if magnitude is not None:
                whole = weights[f"{module}.weight"] + change
                scaled = magnitude[:, None] * whole / whole.norm(dim=1, keepdim=True)
                change = scaled - weights[f"{module}.weight"]
            changes[module] = change
    return changes


def logits_with(adapter: Path, base: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager")
    with torch.no_grad():
        return load_adapter(model, str(adapter)).eval()(input_ids=IDS[None]).logits[0]


def files_of(folder: Path) -> tuple[Tensors, dict[str, Any]]:
    settings = json.loads((folder / "adapter_config.json").read_text())
    return load_file(folder / "adapter_model.safetensors"), settings


def assert_same(found: Tensors, expected: Tensors) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize(
    ("modules", "settings", "scale"),
    [
        ((FUSED,), {}, ALPHA / RANK),
        (tuple(MODULES), {}, ALPHA / RANK),
        (tuple(MODULES), {"use_rslora": True}, ALPHA / RANK**0.5),
        ((FUSED, DENSE), {"use_dora": True}, ALPHA / RANK),
    ],
    ids=["fused", "all", "rslora", "dora"],
)
def test_logits_with_the_adapter_are_those_of_the_fused_layers(
    write_old: WriteOld, tmp_path: Path, modules: Any, settings: dict, scale: float
) -> None:
    weights = random_tensors(old_config("chatglm2"))
    base = converted(write_old(tensors=weights))
    tensors = adapter_tensors(modules, dora="use_dora" in settings)
    old = write_adapter(tmp_path / "adapter", tensors, **settings)

    native = converted(old, tmp_path / "native-adapter", base_model=str(base))

    found = logits_with(native, base)
    expected = forward(IDS, weights, old_config("chatglm2"), deltas(tensors, weights, scale))
    plain = forward(IDS, weights, old_config("chatglm2"))
    # PEFT adds B(Ax) to Wx, the reference (W + BA) to x: the same sums in another order, of logits
    # up to 10 with seven digits.
    assert (plain - expected).abs().max() > 1
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize("kind", ["bin", "safetensors"])
@pytest.mark.parametrize("dora", [False, True])
def test_the_way_back_gives_every_byte(
    write_old: WriteOld, tmp_path: Path, kind: str, dora: bool
) -> None:
    base = converted(write_old())
    tensors = adapter_tensors(tuple(MODULES), dora=dora)
    old = write_adapter(tmp_path / "adapter", tensors, kind, use_dora=dora)

    native = converted(old, tmp_path / "there", base_model=str(base))
    back = converted(native, tmp_path / "back", base_model=str(base), reverse=True)

    found, settings = files_of(back)
    assert_same(found, tensors)
    before = json.loads((old / "adapter_config.json").read_text())
    assert settings["target_modules"] == before["target_modules"]
    for name in ("r", "lora_alpha", "lora_dropout", "use_dora", "peft_type", "task_type"):
        assert settings[name] == before[name]
    assert "rank_pattern" not in settings


def test_native_adapter_names_the_native_modules_and_base(
    write_old: WriteOld, tmp_path: Path
) -> None:
    base = converted(write_old())
    old = write_adapter(tmp_path / "adapter", adapter_tensors(tuple(MODULES)))

    tensors, settings = files_of(converted(old, tmp_path / "new", base_model=str(base)))

    assert settings["target_modules"] == [
        "down_proj", "gate_up_proj", "k_proj", "o_proj", "q_proj", "v_proj"
    ]  # fmt: skip
    assert settings["base_model_name_or_path"] == str(base)
    fused = f"base_model.model.transformer.encoder.layers.1.{FUSED}.lora_"
    before = adapter_tensors(tuple(MODULES))
    rows = dict(zip("qkv", before[f"{fused}B.weight"].split([64, 32, 32]), strict=True))
    for part in "qkv":
        name = f"base_model.model.model.layers.1.self_attn.{part}_proj.lora_"
        assert torch.equal(tensors[f"{name}A.weight"], before[f"{fused}A.weight"])
        assert torch.equal(tensors[f"{name}B.weight"], rows[part])


def test_adapter_of_some_layers_names_each_module(write_old: WriteOld, tmp_path: Path) -> None:
    base = converted(write_old())
    tensors = adapter_tensors((DENSE,), layers=2)
    old = write_adapter(tmp_path / "adapter", tensors, layers_to_transform=[0, 1])

    native = converted(old, tmp_path / "new", base_model=str(base))

    settings = files_of(native)[1]
    assert settings["target_modules"] == [
        "model.layers.0.self_attn.o_proj", "model.layers.1.self_attn.o_proj"
    ]  # fmt: skip
    logits_with(native, base)  # loads: no tensor missing, none too many


def test_sizes_may_come_from_the_old_base(write_old: WriteOld, tmp_path: Path) -> None:
    base = write_old()
    named = write_adapter(
        tmp_path / "named", adapter_tensors((FUSED,)), base_model_name_or_path=str(base)
    )

    settings = files_of(converted(named, tmp_path / "new"))[1]

    assert settings["base_model_name_or_path"] is None  # that one is not for the native adapter


def native_tensors(parts: str) -> Tensors:
    """Factors of a native adapter as training makes them: each module has its own A."""
    generator = torch.Generator().manual_seed(2)
    rows = {"q": 64, "k": 32, "v": 32}
    tensors = {}
    for number in range(LAYERS):
        for part in parts:
            name = f"base_model.model.model.layers.{number}.self_attn.{part}_proj.lora_"
            tensors[f"{name}A.weight"] = torch.randn((RANK, 64), generator=generator)
            tensors[f"{name}B.weight"] = 0.2 * torch.randn((rows[part], RANK), generator=generator)
    return tensors


@pytest.mark.parametrize("parts", ["qkv", "qv", "q"])
@pytest.mark.parametrize("rslora", [False, True])
def test_trained_native_adapter_becomes_the_same_product_at_a_higher_rank(
    write_old: WriteOld, tmp_path: Path, parts: str, rslora: bool
) -> None:
    base = converted(write_old())
    tensors = native_tensors(parts)
    native = write_adapter(tmp_path / "native-adapter", tensors, "safetensors", use_rslora=rslora)

    found, settings = files_of(
        converted(native, tmp_path / "old-adapter", base_model=str(base), reverse=True)
    )

    rank = settings.get("rank_pattern", {}).get("query_key_value", RANK)
    alpha = settings.get("alpha_pattern", {}).get("query_key_value", ALPHA)
    assert settings["target_modules"] == ["query_key_value"] and rank == RANK * len(parts)
    scale, old_scale = (a / (r**0.5 if rslora else r) for a, r in ((ALPHA, RANK), (alpha, rank)))
    assert scale == pytest.approx(old_scale, rel=1e-12)
    for number in range(LAYERS):
        stem = f"base_model.model.transformer.encoder.layers.{number}.{FUSED}.lora_"
        rows = {"q": slice(0, 64), "k": slice(64, 96), "v": slice(96, 128)}
        product = found[f"{stem}B.weight"] @ found[f"{stem}A.weight"]
        for part in "qkv":
            name = f"base_model.model.model.layers.{number}.self_attn.{part}_proj.lora_"
            if part in parts:
                expected = tensors[f"{name}B.weight"] @ tensors[f"{name}A.weight"]
            else:
                expected = torch.zeros(32, 64)
            torch.testing.assert_close(product[rows[part]], expected, rtol=0, atol=1e-5)


# -- P-Tuning v2


def write_prefix(folder: Path, tensors: Tensors, **changes: Any) -> Path:
    """A checkpoint of ChatGLM2's own P-Tuning code: configuration, and the prefix alone."""
    write_config(folder, old_config("chatglm2", pre_seq_len=5, **changes))
    torch.save(tensors, folder / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize("with_projection", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_prefix_gives_the_logits_that_it_gave_in_the_old_model(
    write_old: WriteOld, tmp_path: Path, with_projection: bool, groups: int
) -> None:
    config = old_config("chatglm2", multi_query_group_num=groups)
    weights = random_tensors(config)
    base = converted(write_old(tensors=weights, multi_query_group_num=groups))
    width = LAYERS * 2 * groups * 16
    generator = torch.Generator().manual_seed(3)
    shapes = {"embedding.weight": (5, width)}
    if with_projection:
        shapes |= {"trans.0.weight": (64, width), "trans.0.bias": (64,)}
        shapes |= {"trans.2.weight": (width, 64), "trans.2.bias": (width,)}
    prefix = {f"{PREFIX}.{k}": torch.randn(s, generator=generator) for k, s in shapes.items()}
    old = write_prefix(tmp_path / "checkpoint-3000", prefix, multi_query_group_num=groups)

    native = converted(old, tmp_path / "prefix", base_model=str(base))

    learnt = prefix[f"{PREFIX}.embedding.weight"]
    if with_projection:
        first, first_bias, second, second_bias = list(prefix.values())[1:]
        learnt = torch.tanh(learnt @ first.T + first_bias) @ second.T + second_bias
    expected = forward(IDS, weights | {f"{PREFIX}.embedding.weight": learnt}, config)
    model = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager")
    with torch.no_grad():
        found = PeftModel.from_pretrained(model, native)(input_ids=IDS[None]).logits[0]
    # The keys are turned, queries at other positions too: one rounding more, of logits up to 10.
    assert (expected - forward(IDS, weights, config)).abs().max() > 1
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-5)
    assert files_of(native)[1]["base_model_name_or_path"] == str(base)


def test_prefix_of_another_base_is_refused(write_old: WriteOld, tmp_path: Path) -> None:
    base = converted(write_old())
    old = write_prefix(tmp_path / "p", {f"{PREFIX}.embedding.weight": torch.zeros(5, 90)})

    with pytest.raises(CheckpointError, match="expected 192 values for each virtual token .* 90"):
        converted(old, tmp_path / "new", base_model=str(base))


# -- refused


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"modules_to_save": ["output_layer"]}, 'modules_to_save: \\["output_layer"\\]'),
        ({"bias": "lora_only"}, 'bias: "lora_only"'),
        ({"rank_pattern": {"dense": 2}}, "rank_pattern"),
        ({"peft_type": "ADALORA"}, "found peft_type 'ADALORA'"),
        ({"r": 8}, "of rank 8 for each adapted module"),
        ({"use_dora": True}, "a and b and magnitude of rank 4"),
    ],
)
def test_adapters_that_cannot_be_converted_are_refused_by_name(
    write_old: WriteOld, tmp_path: Path, settings: dict, named: str
) -> None:
    old = write_adapter(tmp_path / "adapter", adapter_tensors((FUSED,)), **settings)

    with pytest.raises(CheckpointError, match=named):
        converted(old, tmp_path / "new", base_model=str(write_old()))
    assert not (tmp_path / "new").exists()


def change_tensors(name: str) -> Tensors:
    stem = f"base_model.model.transformer.encoder.layers.0.{FUSED}.lora_"
    tensors = adapter_tensors((FUSED,))
    if name == "missing":
        del tensors[f"{stem}B.weight"]
    elif name == "unknown":
        tensors["base_model.model.transformer.output_layer.lora_A.weight"] = torch.zeros(RANK, 64)
    elif name == "rows":
        tensors[f"{stem}B.weight"] = torch.zeros(96, RANK)
    else:
        return {}
    return tensors


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("missing", "layer 0, self_attention.query_key_value"),
        ("unknown", "found base_model.model.transformer.output_layer.lora_A.weight"),
        ("rows", "expected factors for 128 rows in layer 0, self_attention.query_key_value .* 96"),
        ("empty", "no tensors at all"),
    ],
)
def test_wrong_tensors_of_an_adapter_are_named(
    write_old: WriteOld, tmp_path: Path, change: str, named: str
) -> None:
    old = write_adapter(tmp_path / "adapter", change_tensors(change))

    with pytest.raises(CheckpointError, match=named):
        converted(old, tmp_path / "new", base_model=str(write_old()))


def test_direction_and_base_are_checked(write_old: WriteOld, tmp_path: Path) -> None:
    old = write_adapter(tmp_path / "adapter", adapter_tensors((FUSED,)))
    base = write_old()

    cases: list[tuple[dict[str, Any], type[MedtuneError], str]] = [
        ({"base_model": str(base), "reverse": True}, CheckpointError, "of model.layers.N, found"),
        ({}, ConfigError, "found none at 'THUDM/chatglm2-6b'; give it as --base_model"),
        ({"base_model": str(tmp_path)}, ConfigError, "give it as --base_model"),
    ]
    for options, kind, named in cases:
        with pytest.raises(kind, match=named):
            converted(old, tmp_path / "new", **options)
    with pytest.raises(ConfigError, match="--reverse: expected a native LoRA adapter"):
        converted(base, tmp_path / "new", reverse=True)


def test_adapter_without_weights_or_damaged_is_refused(write_old: WriteOld, tmp_path: Path) -> None:
    old = write_adapter(tmp_path / "adapter", adapter_tensors((FUSED,)))
    weights = old / "adapter_model.bin"
    weights.write_bytes(weights.read_bytes()[:-500])
    base = str(write_old())

    with pytest.raises(CheckpointError, match="adapter_model.bin: expected tensors as torch.save"):
        converted(old, tmp_path / "new", base_model=base)
    weights.unlink()
    with pytest.raises(CheckpointError, match="or adapter_model.bin, found neither"):
        converted(old, tmp_path / "new", base_model=base)
