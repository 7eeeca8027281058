"""The built-in tiny GLM: the 9B model's class, tokens, template and layers, at laptop size.

It is built on first use from `data/` (under two minutes on two cores) and kept in a cache: a
byte-level BPE tokenizer with GLM-4's pattern and special tokens, and a GlmForCausalLM that has read
everyday text (`data/general`) and no sentence of medicine. What the stages add is therefore theirs.
"""

import json
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import GenerationConfig, GlmConfig, GlmForCausalLM, PreTrainedTokenizerFast

from medtune.common.cache import ROOT, cache_root, read_or_build
from medtune.common.files import sha256_of_file, sha256_of_json
from medtune.common.log import logger

TINY_GLM = "tiny-glm"
DATA = ROOT / "data"

# GLM-4's own, in its order; the first is also the padding token.
SPECIAL_TOKENS = (
    "<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>",
    "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>",
)  # fmt: skip
STOP_TOKENS = ("<|endoftext|>", "<|user|>", "<|observation|>")
# How GLM-4 splits text before byte pairs are merged.
SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "[gMASK]<sop>{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
NUM_BYTE_PAIRS = 4000
# As in GLM-4, the embedding has more rows than the tokenizer has tokens: nothing may shrink it.
NUM_EMBEDDING_ROWS = 4096
CLAUSES_READ_TWICE = 8
CLAUSE = re.compile(r"[^。；，：？\n]+[。；，：？]?")
# Many small steps: at this size they teach far more per second than few large ones.
BLOCK_TOKENS, BATCH_BLOCKS, NUM_STEPS, LEARNING_RATE, SEED = 128, 4, 1600, 2e-3, 42


def tiny_glm_folder() -> Path:
    """Return the folder of the built-in model; the first call on a machine builds it.

    Its key in the cache covers the data and this file, so a change of either builds anew.
    """
    folder = cache_root() / f"{TINY_GLM}-{cache_key()}"
    return read_or_build(folder, lambda path: path if path.is_dir() else None, build)[0]


def cache_key() -> str:
    """Return twelve hexadecimal digits that change with the data or with how it is built."""
    files = [*data_files(), Path(__file__)]
    return sha256_of_json([sha256_of_file(file) for file in files])[:12]


def data_files() -> list[Path]:
    """Return the files that the tokenizer learns from; evaluation data are not among them."""
    return sorted(
        path
        for folder in ("general", "pretrain", "finetune", "reward")
        for path in (DATA / folder).iterdir()
        if path.suffix in (".txt", ".jsonl")
    )


def build(folder: Path) -> None:
    """Train the tokenizer and the model and put them into `folder`."""
    logger.info("building the built-in model %s (once, about a minute)", TINY_GLM)
    tokenizer = train_tokenizer()
    model = new_model(tokenizer)
    loss = pretrain(model, first_reading(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    num_parameters = sum(p.numel() for p in model.parameters())
    logger.info("built %s: %s parameters, loss %.2f", TINY_GLM, f"{num_parameters:,}", loss)


def texts_of(path: Path) -> Iterator[str]:
    """Yield the documents of a .txt file, or every text in the rows of a .jsonl file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".txt":
        yield from (document.strip() for document in text.split("\n\n"))
    else:
        for line in text.splitlines():
            yield from strings_in(json.loads(line))


def strings_in(value: Any) -> Iterator[str]:
    """Yield the strings of a JSON value, in order; the names of speakers are no text."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        items = value if isinstance(value, list) else [v for k, v in value.items() if k != "from"]
        for item in items:
            yield from strings_in(item)


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Return the built-in model's tokenizer."""
    return tokenizer_of((t for path in data_files() for t in texts_of(path)), NUM_BYTE_PAIRS)


def tokenizer_of(texts: Iterable[str], num_byte_pairs: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer that splits text and renders chats as GLM-4 does.

    texts: what its byte pairs are learnt from; without any it knows bytes only.
    """
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=num_byte_pairs,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL_TOKENS])
    ids = [(name, backend.token_to_id(name)) for name in ("[gMASK]", "<sop>")]
    backend.post_processor = processors.TemplateProcessing(
        single="[gMASK] <sop> $A", special_tokens=ids
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=list(SPECIAL_TOKENS[1:]),
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )


def new_model(tokenizer: PreTrainedTokenizerFast) -> GlmForCausalLM:
    """Return the untrained model: GLM-4-9B's proportions in few and narrow layers."""
    stop_ids = tokenizer.convert_tokens_to_ids(list(STOP_TOKENS))
    config = GlmConfig(
        vocab_size=NUM_EMBEDDING_ROWS,
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=1024,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=stop_ids,
    )
    torch.manual_seed(SEED)
    model = GlmForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=stop_ids, pad_token_id=tokenizer.pad_token_id
    )
    return model


def first_reading(tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Return what the model reads, as token ids (blocks, BLOCK_TOKENS).

    Everyday text, and the clauses of the medical data, torn from their sentences and thrown
    together: like a large model, this one knows the field's language before it has read its books.
    Each group of clauses comes twice, in two orders, which teaches it to refer back.
    """
    everyday: list[str] = []
    clauses: list[str] = []
    for path in data_files():
        for text in texts_of(path):
            if path.parent.name == "general":
                everyday.append(text)
            else:
                clauses += CLAUSE.findall(text)
    generator = random.Random(SEED)
    clauses = list(dict.fromkeys(clauses))  # each once: the stages' own rows repeat theirs
    generator.shuffle(clauses)
    texts = everyday
    for start in range(0, len(clauses), CLAUSES_READ_TWICE):
        group = clauses[start : start + CLAUSES_READ_TWICE]
        texts.append("".join(group + generator.sample(group, len(group))))
    generator.shuffle(texts)
    stream = [
        token for text in texts for token in [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    ]
    num_blocks = len(stream) // BLOCK_TOKENS
    return torch.tensor(stream[: num_blocks * BLOCK_TOKENS]).view(num_blocks, BLOCK_TOKENS)


def pretrain(model: GlmForCausalLM, blocks: torch.Tensor) -> float:
    """Train all weights on the blocks for NUM_STEPS steps; return the last loss (nats a token)."""
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=NUM_STEPS, pct_start=0.1
    )
    model.train()
    for _ in range(NUM_STEPS):
        batch = blocks[torch.randint(len(blocks), (BATCH_BLOCKS,), generator=generator)]
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    model.eval()
    return loss.item()
