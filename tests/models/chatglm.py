"""Small random checkpoints in the old `chatglm` format, and what such a model computes.

The forward pass is written from the published equations, with nothing of the code under test: RMS
norm, rotary positions on the first half of a head in neighbouring pairs, attention with keys
shared by groups of heads, SwiGLU with the gate in the first rows.
"""

import base64
import io
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from safetensors.torch import save_file
from torch.nn.functional import silu
from transformers import PreTrainedTokenizerFast

from medtune.models.tiny import data_files, texts_of

Tensors = dict[str, torch.Tensor]
SPECIAL_TOKENS = ["[MASK]", "[gMASK]", "[sMASK]", "sop", "eop"]
ROLE_TOKENS = ["<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]
GENERATIONS = {  # what tells them apart in the files
    "chatglm2": {"_name_or_path": "THUDM/chatglm2-6b", "add_qkv_bias": True},
    "chatglm3": {"_name_or_path": "THUDM/chatglm3-6b", "add_qkv_bias": True},
    "glm4": {"_name_or_path": "THUDM/glm-4-9b-chat", "rope_ratio": 500, "add_qkv_bias": True},
}


def old_config(generation: str, **changes: Any) -> dict[str, Any]:
    """A published config.json at the size of a test."""
    return {
        "model_type": "chatglm",
        "architectures": ["ChatGLMModel"],
        "auto_map": {"AutoModel": "modeling_chatglm.ChatGLMForConditionalGeneration"},
        "add_bias_linear": False,
        "apply_query_key_layer_scaling": True,
        "apply_residual_connection_post_layernorm": False,
        "attention_softmax_in_fp32": True,
        "ffn_hidden_size": 96,
        "hidden_size": 64,
        "kv_channels": 16,
        "layernorm_epsilon": 1.5625e-07,
        "multi_query_attention": True,
        "multi_query_group_num": 2,
        "num_attention_heads": 4,
        "num_layers": 3,
        "original_rope": True,
        "padded_vocab_size": 2048,
        "post_layer_norm": True,
        "rmsnorm": True,
        "seq_length": 512,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        **GENERATIONS[generation],
        **changes,
    }


def shapes_of(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The tensors of an old model, from the published module definitions."""
    hidden, mlp = config["hidden_size"], config["ffn_hidden_size"]
    heads, dim = config["num_attention_heads"], config["kv_channels"]
    fused = (heads + 2 * config["multi_query_group_num"]) * dim
    vocabulary = (config["padded_vocab_size"], hidden)
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.embedding.word_embeddings.weight": vocabulary,
        "transformer.rotary_pos_emb.inv_freq": (dim // 4,),
    }
    for number in range(config["num_layers"]):
        layer = f"transformer.encoder.layers.{number}"
        shapes |= {
            f"{layer}.input_layernorm.weight": (hidden,),
            f"{layer}.self_attention.query_key_value.weight": (fused, hidden),
            f"{layer}.self_attention.dense.weight": (hidden, heads * dim),
            f"{layer}.post_attention_layernorm.weight": (hidden,),
            f"{layer}.mlp.dense_h_to_4h.weight": (2 * mlp, hidden),
            f"{layer}.mlp.dense_4h_to_h.weight": (hidden, mlp),
        }
        if config["add_qkv_bias"]:
            shapes[f"{layer}.self_attention.query_key_value.bias"] = (fused,)
    shapes["transformer.encoder.final_layernorm.weight"] = (hidden,)
    shapes["transformer.output_layer.weight"] = vocabulary
    return shapes


def random_tensors(config: dict[str, Any], seed: int = 0) -> Tensors:
    """Random weights; norms around one, so that they count."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator) * (0.2 if len(shape) > 1 else 0.5)
        + ("layernorm" in name)
        for name, shape in shapes_of(config).items()
    }


def rotate(x: torch.Tensor, base: float) -> torch.Tensor:
    """Rotary positions 0, 1, … on the first half of each head; x: (tokens, heads, dim)."""
    width = x.size(-1) // 2
    frequencies = 1.0 / base ** (torch.arange(0, width, 2).float() / width)
    angles = torch.outer(torch.arange(len(x)).float(), frequencies)[:, None]
    cos, sin = angles.cos(), angles.sin()
    even, odd = x[..., 0:width:2], x[..., 1:width:2]
    turned = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1)
    return torch.cat([turned.flatten(-2), x[..., width:]], dim=-1)


def norm(x: torch.Tensor, weight: torch.Tensor, config: dict[str, Any]) -> torch.Tensor:
    """The published RMS norm."""
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + config["layernorm_epsilon"]))


def linear(x: torch.Tensor, name: str, tensors: Tensors, delta: Tensors) -> torch.Tensor:
    """A linear layer; `delta` has what an adapter adds to weights."""
    weight = tensors[f"{name}.weight"] + delta.get(name, 0)
    return torch.nn.functional.linear(x, weight, tensors.get(f"{name}.bias"))


def attend(
    x: torch.Tensor, layer: int, tensors: Tensors, config: dict[str, Any], delta: Tensors
) -> torch.Tensor:
    """Causal attention of one layer; a prefix encoder's keys and values stand before all others."""
    heads, groups = config["num_attention_heads"], config["multi_query_group_num"]
    dim, tokens = config["kv_channels"], len(x)
    name = f"transformer.encoder.layers.{layer}.self_attention"
    fused = linear(x, f"{name}.query_key_value", tensors, delta)
    query, key, value = fused.split([heads * dim, groups * dim, groups * dim], dim=-1)
    base = 10000.0 * config.get("rope_ratio", 1)
    query = rotate(query.view(tokens, heads, dim), base)
    key = rotate(key.view(tokens, groups, dim), base)
    value = value.view(tokens, groups, dim)
    mask = torch.full((tokens, tokens), -math.inf).triu(1)
    prefix = tensors.get("transformer.prefix_encoder.embedding.weight")
    if prefix is not None:
        learnt = prefix.view(len(prefix), 2 * config["num_layers"], groups, dim)
        key = torch.cat([learnt[:, 2 * layer], key])
        value = torch.cat([learnt[:, 2 * layer + 1], value])
        mask = torch.cat([torch.zeros(tokens, len(prefix)), mask], dim=1)
    key, value = (t.repeat_interleave(heads // groups, dim=1).transpose(0, 1) for t in (key, value))
    scores = torch.matmul(query.transpose(0, 1), key.transpose(1, 2)) * dim**-0.5 + mask
    mixed = torch.matmul(scores.softmax(-1), value).transpose(0, 1).reshape(tokens, heads * dim)
    return linear(mixed, f"{name}.dense", tensors, delta)


@torch.no_grad()
def forward(
    ids: torch.Tensor, tensors: Tensors, config: dict[str, Any], delta: Tensors | None = None
) -> torch.Tensor:
    """Logits (tokens, vocabulary) of one sequence of ids."""
    delta = delta or {}
    x = tensors["transformer.embedding.word_embeddings.weight"][ids]
    for number in range(config["num_layers"]):
        layer = f"transformer.encoder.layers.{number}"
        x = x + attend(
            norm(x, tensors[f"{layer}.input_layernorm.weight"], config),
            number, tensors, config, delta,
        )  # fmt: skip
        inner = norm(x, tensors[f"{layer}.post_attention_layernorm.weight"], config)
        gate, up = linear(inner, f"{layer}.mlp.dense_h_to_4h", tensors, delta).chunk(2, dim=-1)
        x = x + linear(up * silu(gate), f"{layer}.mlp.dense_4h_to_h", tensors, delta)
    x = norm(x, tensors["transformer.encoder.final_layernorm.weight"], config)
    head = tensors.get("transformer.output_layer.weight")
    if head is None:
        head = tensors["transformer.embedding.word_embeddings.weight"]
    return torch.nn.functional.linear(x, head)


def write_config(folder: Path, config: dict[str, Any]) -> Path:
    """Write config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_weights(folder: Path, tensors: Tensors, kind: str, num_shards: int = 1) -> None:
    """Write the weights as shards of `kind` (bin or safetensors), with an index if several."""
    names = list(tensors)
    stem = {"bin": "pytorch_model", "safetensors": "model"}[kind]
    weight_map = {}
    for number in range(num_shards):
        suffix = "" if num_shards == 1 else f"-{number + 1:05}-of-{num_shards:05}"
        part = {name: tensors[name] for name in names[number::num_shards]}
        path = folder / f"{stem}{suffix}.{kind}"
        if kind == "bin":
            torch.save(part, path)
        else:
            save_file(part, path)
        weight_map |= dict.fromkeys(part, path.name)
    if num_shards > 1:
        (folder / f"{stem}.{kind}.index.json").write_text(json.dumps({"weight_map": weight_map}))


def train_sentencepiece(texts: Iterable[str], **options: Any) -> bytes:
    """A model as ChatGLM2's: byte pairs, bytes for what is unknown, no normalisation."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        **{
            "sentence_iterator": iter(texts),
            "model_writer": model,
            "model_type": "bpe",
            "vocab_size": 2000,
            "byte_fallback": True,
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
            "character_coverage": 0.98,
            "num_threads": 1,
            "minloglevel": 2,
            **options,
        }
    )
    return model.getvalue()


def sample_texts() -> list[str]:
    """The texts that a test's tokenizer learns from."""
    return [text for path in data_files() for text in texts_of(path)]


def tiktoken_lines(tokenizer: PreTrainedTokenizerFast) -> tuple[bytes, dict[bytes, int]]:
    """A tokenizer.model with the byte pairs of a byte-level tokenizer, and the rank of each."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    letters = bytes_of_letters()
    ranks = {bytes([value]): value for value in range(256)}
    for left, right in model["merges"]:
        ranks.setdefault(bytes(letters[sign] for sign in left + right), len(ranks))
    lines = [base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items()]
    return b"".join(lines), ranks


def bytes_of_letters() -> dict[str, int]:
    """GPT-2's letters for bytes, as its paper's code numbers them."""
    letters, number = {}, 0
    for value in range(256):
        if 33 <= value <= 126 or 161 <= value <= 172 or 174 <= value <= 255:
            letters[chr(value)] = value
        else:
            letters[chr(256 + number)] = value
            number += 1
    return letters
