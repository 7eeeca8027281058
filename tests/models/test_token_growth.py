"""Rows for new tokens: their first values, what an adapter keeps of them, and where it loads."""

import copy
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import GlmConfig, GlmForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedModel
from transformers import PreTrainedTokenizerFast as Tokenizer
from trl.trainer.utils import add_fused_lm_head

from medtune.arguments import AdapterArguments, MergeArguments, ModelArguments
from medtune.common.errors import CheckpointError, ConfigError
from medtune.models.adapters import load_adapter, load_trainable_model
from medtune.models.loading import load_model, load_tokenizer
from medtune.models.merging import merge_adapters
from medtune.models.tiny import tokenizer_of
from medtune.models.token_growth import add_rows, check_sizes, keep_new_rows_only, train_new_rows
from medtune.training.packed.forward import install_packed_forward, why_not_packed

WORDS = ["幽门螺杆菌", "阿司匹林肠溶片", "二甲双胍"]
TEXT = "服用二甲双胍和阿司匹林肠溶片"
IS_TIED = pytest.mark.parametrize("is_tied", [False, True], ids=["untied", "tied"])


@cache
def tokenizers() -> tuple[Tokenizer, Tokenizer]:
    """A byte-level tokenizer of 266 tokens, and the same with WORDS."""
    before = tokenizer_of([], 256)
    grown = copy.deepcopy(before)
    grown.add_tokens(WORDS)
    return before, grown


def new_model(is_tied: bool, num_rows: int = 266) -> GlmForCausalLM:
    torch.manual_seed(5)
    config = GlmConfig(
        vocab_size=num_rows, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, pad_token_id=256,
        eos_token_id=256, tie_word_embeddings=is_tied, initializer_range=0.3,
    )  # fmt: skip
    return GlmForCausalLM(config).eval()


def matrices(model: PreTrainedModel) -> list[torch.Tensor]:
    return [model.get_input_embeddings().weight, model.get_output_embeddings().weight]


@IS_TIED
@pytest.mark.parametrize("num_rows", [266, 268, 300], ids=["no room", "some room", "room"])
def test_new_rows_are_the_mean_of_the_pieces_and_no_other_row_changes(
    is_tied: bool, num_rows: int
) -> None:
    before, grown = tokenizers()
    model = new_model(is_tied, num_rows)
    old = [weight.detach().clone() for weight in matrices(model)]

    ids = add_rows(model, grown, before)

    assert ids == [266, 267, 268]
    assert (matrices(model)[0] is matrices(model)[1]) == is_tied
    assert model.config.vocab_size == max(num_rows, 269)
    for weight, was in zip(matrices(model), old, strict=True):
        assert weight.shape == (max(num_rows, 269), 32)
        assert torch.equal(weight[:266], was[:266])
        assert torch.equal(weight[269:], was[269:])
        for word, token_id in zip(WORDS, ids, strict=True):
            pieces = before(word, add_special_tokens=False)["input_ids"]
            assert len(pieces) == len(word.encode())  # bytes
            torch.testing.assert_close(weight[token_id], was[pieces].mean(0))


def make_adapter(base: Path, folder: Path, **options: bool) -> PeftModel:
    """Save an adapter with random weights, its rows of new tokens included, as a stage does."""
    before, grown = tokenizers()
    model = load_model(ModelArguments(str(base)))
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear", **options)
    train_new_rows(config, model, add_rows(model, grown, before))
    torch.manual_seed(1)
    peft_model = get_peft_model(model, config)
    for name, parameter in peft_model.named_parameters():
        if "lora_" in name or "trainable_tokens_delta" in name:
            parameter.data = parameter.data + 0.1 * torch.randn(parameter.shape)
    keep_new_rows_only(peft_model)
    peft_model.save_pretrained(folder)
    grown.save_pretrained(folder)
    return peft_model.eval()


def write_base(folder: Path, is_tied: bool) -> Path:
    new_model(is_tied).save_pretrained(folder)
    tokenizers()[0].save_pretrained(folder)
    return folder


@torch.no_grad()
def logits(model: torch.nn.Module, tokenizer: Tokenizer) -> torch.Tensor:
    return model(input_ids=torch.tensor([tokenizer(TEXT)["input_ids"]])).logits


@IS_TIED
@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"use_rslora": True}], ids=str)
def test_adapter_with_new_tokens_loads_and_merges_to_the_same_logits(
    tmp_path: Path, is_tied: bool, options: dict[str, bool]
) -> None:
    base = write_base(tmp_path / "base", is_tied)
    trained = make_adapter(base, tmp_path / "adapter", **options)
    arguments = ModelArguments(str(base))
    adapter = str(tmp_path / "adapter")

    tokenizer = load_tokenizer(arguments, adapter)
    loaded = load_adapter(load_model(arguments), adapter).eval()
    check_sizes(loaded, tokenizer, adapter)
    merge_adapters(MergeArguments(str(base), [adapter], str(tmp_path / "merged")))
    merged = load_model(ModelArguments(str(tmp_path / "merged"))).eval()

    expected = logits(trained, tokenizers()[1])
    assert expected.shape == (1, 2 + 9 + 2, 269)  # [gMASK] <sop>, three characters, two words
    assert torch.equal(logits(loaded, tokenizer), expected)
    # float32: the sum W + B A is rounded once more than the two products
    torch.testing.assert_close(logits(merged, tokenizer), expected, rtol=0, atol=1e-4)
    assert merged.config.vocab_size == 269
    assert (matrices(merged)[0] is matrices(merged)[1]) == is_tied
    assert load_tokenizer(ModelArguments(str(tmp_path / "merged"))).get_vocab()["二甲双胍"] == 268


@IS_TIED
def test_adapter_folder_has_the_new_rows_and_no_others(tmp_path: Path, is_tied: bool) -> None:
    make_adapter(write_base(tmp_path / "base", is_tied), tmp_path / "adapter")

    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    rows = {name: tuple(t.shape) for name, t in tensors.items() if ".lora_" not in name}
    names = ["model.embed_tokens"] if is_tied else ["model.embed_tokens", "lm_head"]
    end = "token_adapter.trainable_tokens_delta"
    assert rows == {f"base_model.model.{name}.{end}": (3, 32) for name in names}


def test_adapter_with_new_tokens_answers_the_same_in_a_fresh_process(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", False)
    trained = make_adapter(base, tmp_path / "adapter")
    torch.save(logits(trained, tokenizers()[1]), tmp_path / "logits.pt")
    program = f"""
import torch
from medtune.arguments import ModelArguments
from medtune.models.adapters import load_adapter
from medtune.models.loading import load_model, load_tokenizer
arguments = ModelArguments({str(base)!r})
ids = load_tokenizer(arguments, {str(tmp_path / "adapter")!r})({TEXT!r})["input_ids"]
model = load_adapter(load_model(arguments), {str(tmp_path / "adapter")!r}).eval()
with torch.no_grad():
    found = model(input_ids=torch.tensor([ids])).logits
print(torch.equal(found, torch.load({str(tmp_path / "logits.pt")!r}, weights_only=True)))
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert answer.stdout.split()[-1:] == ["True"], answer.stderr


def test_without_the_adapter_new_tokens_are_what_they_were_when_it_was_loaded(
    tmp_path: Path,
) -> None:
    """What DPO's reference is made of, which TRL copies from the base, not from the adapter."""
    base = write_base(tmp_path / "base", False)
    trained = make_adapter(base, tmp_path / "adapter")
    loaded = load_adapter(load_model(ModelArguments(str(base))), str(tmp_path / "adapter"))

    delta = trained.get_base_model().lm_head.token_adapter.trainable_tokens_delta["default"]
    with loaded.disable_adapter():
        weights = matrices(loaded.get_base_model())
        assert torch.equal(weights[1][266:], delta.data)
    loaded.add_adapter("ref", loaded.peft_config["default"])
    copied = loaded.get_base_model().lm_head.token_adapter.trainable_tokens_delta["ref"]
    assert torch.equal(copied.data, delta.data)


@IS_TIED
@pytest.mark.parametrize("is_off", [False, True], ids=["adapter", "adapter off"])
def test_packed_forward_scores_and_learns_new_rows_as_the_padded_one(
    tmp_path: Path, is_tied: bool, is_off: bool
) -> None:
    base = write_base(tmp_path / "base", is_tied)
    ids = torch.tensor([tokenizers()[1](TEXT + WORDS[0])["input_ids"]])
    found = []
    for is_packed in (True, False):
        model = make_adapter(base, tmp_path / "adapter").train()
        inner = model.get_base_model()
        add_fused_lm_head(inner, outputs=("log_probs", "entropy", "is_top1", "mean_logits"))
        assert why_not_packed(inner) is None
        if is_packed:
            install_packed_forward(inner, share_prefix=False)
        if is_off:
            model.base_model.disable_adapter_layers()
        loss = model(input_ids=ids, labels=ids, fused_lm_head=True).log_probs.sum()
        if not is_off:
            loss.backward()
        grads = [p.grad for n, p in model.named_parameters() if "delta" in n]
        found.append((loss.detach(), grads))

    torch.testing.assert_close(found[0][0], found[1][0])
    assert is_off or all(float(grad.abs().max()) > 1e-3 for grad in found[0][1])
    if not is_off:
        torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-4)


def test_tokenizer_with_more_tokens_than_rows_is_refused_by_name(tmp_path: Path) -> None:
    before, grown = tokenizers()
    model = new_model(False)
    check_sizes(model, before, "base")

    with pytest.raises(CheckpointError, match=r"base: expected at most 266 tokens .* with 269"):
        check_sizes(model, grown, "base")
    base = write_base(tmp_path / "base", False)
    with pytest.raises(CheckpointError, match=r"expected at most 266 tokens"):
        load_trainable_model(ModelArguments(str(base)), AdapterArguments(), grown)


def options_for(tmp_path: Path, **options: object) -> AdapterArguments:
    (tmp_path / "words.txt").write_text("\n".join(WORDS), encoding="utf-8")
    return AdapterArguments(add_tokens=str(tmp_path / "words.txt"), **options)


@pytest.mark.parametrize("option", ["modules_to_save", "target_modules"])
def test_training_a_row_in_two_ways_is_refused(tmp_path: Path, option: str) -> None:
    arguments = options_for(tmp_path, **{option: ["embed_tokens", "q_proj"]})
    base = write_base(tmp_path / "base", False)

    with pytest.raises(ConfigError, match=r"--add_tokens: .* found embed_tokens"):
        load_trainable_model(ModelArguments(str(base)), arguments, tokenizers()[1])


def test_new_tokens_for_an_adapter_that_is_continued_are_refused(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", False)
    make_adapter(base, tmp_path / "adapter")
    arguments = options_for(tmp_path, peft_path=str(tmp_path / "adapter"))
    tokenizer = load_tokenizer(ModelArguments(str(base)), arguments.peft_path)
    load_trainable_model(ModelArguments(str(base)), arguments, tokenizer)  # nothing is new

    tokenizer.add_tokens(["胃镜检查"])
    with pytest.raises(ConfigError, match=r"--peft_path .* clash: 1 tokens are new"):
        load_trainable_model(ModelArguments(str(base)), arguments, tokenizer)


def test_prefix_and_output_layer_with_a_bias_have_no_place_for_new_rows(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--add_tokens and --tuner ptuning_v2 clash"):
        options_for(tmp_path, tuner="ptuning_v2")
    model = new_model(False)
    model.lm_head = torch.nn.Linear(32, 266)
    with pytest.raises(ConfigError, match="without a bias"):
        train_new_rows(LoraConfig(), model, [1])


def test_gpt2_grows_under_its_own_names() -> None:
    before, grown = tokenizers()
    model = GPT2LMHeadModel(GPT2Config(vocab_size=266, n_embd=32, n_layer=1, n_head=2))
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["c_attn"])
    train_new_rows(config, model, add_rows(model, grown, before))

    assert config.trainable_token_indices == {"wte": [266, 267, 268]}
    peft_model = get_peft_model(model, config)
    trained = [n for n, p in peft_model.named_parameters() if p.requires_grad and "lora" not in n]
    assert len(trained) == 1


def test_resize_emb_gives_new_tokens_the_mean_of_their_pieces(tmp_path: Path) -> None:
    """For an adapter that was trained elsewhere and brings a larger tokenizer, but no rows."""
    base = write_base(tmp_path / "base", False)
    model = load_model(ModelArguments(str(base)))
    peft_model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]))
    peft_model.save_pretrained(tmp_path / "adapter")
    tokenizers()[1].save_pretrained(tmp_path / "adapter")

    arguments = MergeArguments(str(base), [str(tmp_path / "adapter")], str(tmp_path / "merged"))
    with pytest.raises(CheckpointError, match="--resize_emb"):
        merge_adapters(arguments)
    arguments.resize_emb = True
    merge_adapters(arguments)

    before = load_file(base / "model.safetensors")["lm_head.weight"]
    after = load_file(tmp_path / "merged" / "model.safetensors")["lm_head.weight"]
    pieces = tokenizers()[0](WORDS[2], add_special_tokens=False)["input_ids"]
    torch.testing.assert_close(after[268], before[pieces].mean(0))
    assert json.loads((tmp_path / "merged/config.json").read_text())["vocab_size"] == 269
