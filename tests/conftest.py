"""What several tests need: the tiny tokenizer, an untrained small GLM on disk, a JSON lines writer.

Nothing here needs a network or a GPU, and everything is seeded.
"""

import json
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before transformers reads it: tests stay offline
os.environ.pop("MEDTUNE_TOKEN", None)  # the servers under test would ask for the developer's token
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"  # a proxy does not reach 127.0.0.1 here

import pytest
import torch
from transformers import GenerationConfig, GlmConfig, GlmForCausalLM, PreTrainedTokenizerFast

from medtune.models.tiny import STOP_TOKENS, train_tokenizer

REPO = Path(__file__).parents[1]

WriteJsonl = Callable[[Path, Iterable[Any]], Path]


def pytest_configure() -> None:
    """Hear Ctrl-C even in the background, where a shell starts programs deaf to it.

    Being deaf is inherited: bash cannot take it back, so the programs under test would not stop.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


LONGEST = ("tests/stages/test_chain.py", "tests/recipes/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take minutes, so that none of them is left alone at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))  # else the order stays


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """The built-in model's tokenizer. Tests that change it work on a copy."""
    return train_tokenizer()


@pytest.fixture(scope="session")
def small_model_folder(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast
) -> Path:
    """A folder with an untrained GLM of two narrow layers, its tokenizer and generation config."""
    return write_small_model(tmp_path_factory.mktemp("small-glm"), tokenizer)


def write_small_model(folder: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Write an untrained GLM of two narrow layers, its tokenizer and generation config."""
    stop_ids = tokenizer.convert_tokens_to_ids(list(STOP_TOKENS))
    config = GlmConfig(
        vocab_size=4096,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=1024,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=stop_ids,
    )
    torch.manual_seed(42)
    model = GlmForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=stop_ids, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def take_chat_format(folder: Path) -> None:
    """Take the chat template from a folder, and a token by which its family would be known."""
    (folder / "chat_template.jinja").unlink()
    for path in folder.glob("tokenizer*.json"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("<|observation|>", "<|other|>"), encoding="utf-8")


@pytest.fixture(scope="session")
def write_jsonl() -> WriteJsonl:
    """A function (path, rows) -> path: one JSON row a line; a row that is text is written as is."""

    def write(path: Path, rows: Iterable[Any]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows
        ]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return write
