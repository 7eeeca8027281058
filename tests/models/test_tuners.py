"""Quantised bases and prefixes: loaded entirely or refused by name; PiSSA's equal without it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PrefixTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from medtune.arguments import AdapterArguments, MergeArguments, ModelArguments
from medtune.common.errors import CheckpointError, ConfigError
from medtune.evaluation.asking.likelihoods import Scored, log_likelihoods, one_by_one, packs_exactly
from medtune.models.adapters import count_parameters, load_adapter
from medtune.models.generation import generate_batch
from medtune.models.loading import load_model
from medtune.models.merging import merge_adapters
from medtune.models.tuners import (
    check_targets,
    freeze_all_but,
    lora_config,
    plain_lora_of,
    prefix_config,
)
from tests.training.conftest import own_base

__all__ = ["own_base"]  # a fixture

Q_PROJ = "model.layers.0.self_attn.q_proj.weight"
SIZES = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


def save_prefix(model: PreTrainedModel, folder: Path, num_tokens: int = 5) -> Path:
    """Save a prefix with random values, which is what a new one begins with."""
    torch.manual_seed(7)
    options = AdapterArguments(pre_seq_len=num_tokens)
    get_peft_model(model, prefix_config(options)).save_pretrained(folder)
    return folder


def change(folder: Path, name: str, how: Callable[[torch.Tensor], torch.Tensor]) -> None:
    path = next(folder.glob("*.safetensors"))
    tensors = load_file(path)
    tensors[name] = how(tensors[name]).contiguous()
    save_file(tensors, path, metadata={"format": "pt"})


def with_nan(tensor: torch.Tensor) -> torch.Tensor:
    tensor.view(-1)[3] = float("nan")
    return tensor


# -- what LoRA stands on


def test_targets_that_no_layer_has_are_refused_with_those_that_there_are(
    small_model_folder: Path,
) -> None:
    model = load_model(ModelArguments(str(small_model_folder)))

    for targets in (["all"], ["q_proj", "layers.1.mlp.down_proj"]):
        check_targets(model, lora_config(AdapterArguments(target_modules=targets)))
    for targets in (["q_proj", "query_key_value"], ["input_layernorm"], ["proj"]):
        with pytest.raises(ConfigError, match=r"--target_modules: .* gate_up_proj, .* found"):
            check_targets(model, lora_config(AdapterArguments(target_modules=targets)))


# -- quantised


@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_base_is_checked_as_strictly_as_a_whole_one(own_base: Path, bits: int) -> None:
    arguments = ModelArguments(str(own_base), quantization_bit=bits)
    whole = count_parameters(load_model(ModelArguments(str(own_base))))[1]
    assert count_parameters(load_model(arguments))[1] == whole
    original = load_file(own_base / "model.safetensors")[Q_PROJ]

    change(own_base, Q_PROJ, lambda tensor: tensor[:32])
    with pytest.raises(CheckpointError, match=r"q_proj.weight: \(32, 64\) in the file, \(64, 64\)"):
        load_model(arguments)
    change(own_base, Q_PROJ, lambda _: with_nan(original.clone()))
    with pytest.raises(CheckpointError, match="NaN or infinity in 1 tensors .*q_proj"):
        load_model(arguments)


def test_evaluation_changes_no_quantised_weight(small_model_folder: Path) -> None:
    model = load_model(ModelArguments(str(small_model_folder), quantization_bit=4))
    layers = [m for m in model.modules() if hasattr(m, "quant_state")]
    before = [(m.weight.clone(), m.weight.quant_state.absmax.clone()) for m in layers]
    with torch.no_grad():
        model.eval()(input_ids=torch.tensor([[1, 2, 3]]))

    assert len(layers) == 12
    for layer, (weight, scales) in zip(layers, before, strict=True):
        assert torch.equal(layer.weight, weight)
        assert torch.equal(layer.weight.quant_state.absmax, scales)


def test_quantised_answers_in_one_row_are_those_alone(small_model_folder: Path) -> None:
    model = load_model(ModelArguments(str(small_model_folder), quantization_bit=4)).eval()

    assert packs_exactly(model)


def test_integers_are_not_trained(small_model_folder: Path) -> None:
    model = load_model(ModelArguments(str(small_model_folder), quantization_bit=8))

    with pytest.raises(ConfigError, match="found quantised ones"):
        freeze_all_but(model, AdapterArguments(tuner="freeze"))


# -- freeze


@pytest.mark.parametrize(("number", "trained"), [(1, {1}), (-1, {0}), (2, {0, 1}), (3, None)])
def test_freeze_trains_the_last_or_the_first_layers(
    small_model_folder: Path, number: int, trained: set[int] | None
) -> None:
    model = load_model(ModelArguments(str(small_model_folder)))
    arguments = AdapterArguments(tuner="freeze", num_trainable_layers=number)
    if trained is None:
        with pytest.raises(ConfigError, match="at most the model's 2 layers, found 3"):
            freeze_all_but(model, arguments)
        return
    freeze_all_but(model, arguments)

    names = {name for name, p in model.named_parameters() if p.requires_grad}
    expected = {
        name
        for name, _ in model.named_parameters()
        if any(name.startswith(f"model.layers.{number}.") for number in trained)
    }
    assert names == expected


# -- prefixes


def families(small_model_folder: Path) -> dict[str, Callable[[], PreTrainedModel]]:
    return {
        "glm": lambda: load_model(ModelArguments(str(small_model_folder))),
        "gpt2": lambda: GPT2LMHeadModel(
            GPT2Config(vocab_size=300, n_embd=64, n_layer=2, n_head=4, n_positions=64)
        ),
        "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, **HEADS)),
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, **HEADS)),
    }


@pytest.mark.parametrize("family", ["glm", "gpt2", "qwen2", "llama"])
def test_replies_under_a_prefix_are_those_of_its_logits(
    small_model_folder: Path, tmp_path: Path, tokenizer: object, family: str
) -> None:
    torch.manual_seed(3)
    base = families(small_model_folder)[family]()
    weights = {name: value.clone() for name, value in base.state_dict().items()}
    folder = save_prefix(families(small_model_folder)[family](), tmp_path / "prefix")
    model = load_adapter(base, str(folder)).eval()
    prompts = [[9, 8, 7], [20, 21, 22, 23, 24, 25]]

    class Ids:
        pad_token_id = 0

        def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
            return " ".join(map(str, ids))

    replies = generate_batch(model, Ids(), prompts, 6, stop_ids=[])  # type: ignore[arg-type]
    for prompt, reply in zip(prompts, replies, strict=True):
        ids = [int(word) for word in reply.text.split()]
        scored = log_likelihoods(model, [Scored(prompt, [ids])])  # type: ignore[arg-type]
        assert scored[0][0][1], "not what greedy decoding gives"
    with torch.no_grad(), model.disable_adapter():
        untouched = model(input_ids=torch.tensor(prompts[1:])).logits
    base.load_state_dict(weights)
    assert torch.equal(base(input_ids=torch.tensor(prompts[1:])).logits, untouched)


def test_prefix_is_scored_each_answer_by_itself(small_model_folder: Path, tmp_path: Path) -> None:
    base = load_model(ModelArguments(str(small_model_folder)))
    folder = save_prefix(load_model(ModelArguments(str(small_model_folder))), tmp_path / "prefix")
    model = load_adapter(base, str(folder)).eval()
    batch = [Scored([1, 2, 3], [[4, 5, 6], [6, 5]])]

    assert not packs_exactly(model)  # type: ignore[arg-type]
    with torch.no_grad():
        log_probs = model(input_ids=torch.tensor([[1, 2, 3, 6, 5]])).logits[0].log_softmax(-1)
    expected = (log_probs[2, 6] + log_probs[3, 5]).item()
    found = one_by_one(model, batch)[0][1][0]  # type: ignore[arg-type]
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda t: t[:4], r"\(5, 128\), the adapter has \(4, 128\)"),
        (lambda t: t[:, :64], r"\(5, 128\), the adapter has \(5, 64\)"),
        (with_nan, "NaN or infinity in 1 tensors .*prompt_embeddings"),
    ],
)
def test_prefix_of_another_shape_or_with_nan_is_refused(
    small_model_folder: Path,
    tmp_path: Path,
    how: Callable[[torch.Tensor], torch.Tensor],
    message: str,
) -> None:
    base = load_model(ModelArguments(str(small_model_folder)))
    folder = save_prefix(load_model(ModelArguments(str(small_model_folder))), tmp_path / "prefix")
    change(folder, "prompt_embeddings", how)

    with pytest.raises(CheckpointError, match=message):
        load_adapter(base, str(folder))


def test_prefix_of_a_model_with_other_heads_is_refused(
    small_model_folder: Path, tmp_path: Path
) -> None:
    other = LlamaForCausalLM(
        LlamaConfig(**SIZES, num_attention_heads=8, num_key_value_heads=4)
    )  # as many values a token, in twice the heads
    folder = save_prefix(other, tmp_path / "prefix")

    with pytest.raises(CheckpointError, match="the prefix does not fit this base"):
        load_adapter(load_model(ModelArguments(str(small_model_folder))), str(folder))


def test_prefix_is_not_merged(small_model_folder: Path, tmp_path: Path) -> None:
    folder = save_prefix(load_model(ModelArguments(str(small_model_folder))), tmp_path / "prefix")

    with pytest.raises(CheckpointError, match="found a prefix of P-Tuning v2 .* cannot be merged"):
        merge_adapters(
            MergeArguments(str(small_model_folder), [str(folder)], str(tmp_path / "merged"))
        )
    assert not (tmp_path / "merged").exists()


def test_prefix_has_the_model_s_key_heads() -> None:
    model = LlamaForCausalLM(LlamaConfig(**SIZES, **HEADS))
    peft_model = get_peft_model(model, prefix_config(AdapterArguments(pre_seq_len=128)))

    assert isinstance(peft_model.peft_config["default"], PrefixTuningConfig)
    # tokens x (keys and values) x layers x 2 key heads of 16 values
    assert count_parameters(peft_model)[0] == 128 * 2 * 2 * 32


# -- PiSSA


def test_plain_lora_is_what_pissa_has_become() -> None:
    torch.manual_seed(0)
    weight, a0, b0, a, b = (
        torch.randn(*shape, dtype=torch.float64)
        for shape in ((6, 5), (2, 5), (6, 2), (2, 5), (6, 2))
    )
    names = ("x.lora_A.weight", "x.lora_B.weight")
    plain = plain_lora_of(
        dict(zip(names, (a, b), strict=True)), dict(zip(names, (a0, b0), strict=True))
    )

    trained = (weight - 1.5 * b0 @ a0) + 1.5 * b @ a
    torch.testing.assert_close(weight + 1.5 * plain[names[1]] @ plain[names[0]], trained)
