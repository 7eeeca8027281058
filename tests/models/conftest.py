"""Old checkpoints for the tests of conversion: a tokenizer of each kind, folders to convert."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from medtune.arguments import ConversionArguments
from medtune.models.conversion.run import convert
from tests.models.chatglm import (
    Tensors,
    old_config,
    random_tensors,
    sample_texts,
    tiktoken_lines,
    train_sentencepiece,
    write_config,
    write_weights,
)

WriteOld = Callable[..., Path]


@pytest.fixture(scope="session")
def sentencepiece_model() -> bytes:
    """A tokenizer.model as ChatGLM2 and ChatGLM3 have it."""
    return train_sentencepiece(sample_texts())


@pytest.fixture(scope="session")
def tiktoken_model(tokenizer: PreTrainedTokenizerFast) -> bytes:
    """A tokenizer.model as GLM-4 has it."""
    return tiktoken_lines(tokenizer)[0]


@pytest.fixture
def write_old(tmp_path: Path, sentencepiece_model: bytes, tiktoken_model: bytes) -> WriteOld:
    """A function (generation, kind, num_shards, tensors, **config) -> folder of an old model."""

    def write(
        generation: str = "chatglm2",
        kind: str = "safetensors",
        num_shards: int = 1,
        tensors: Tensors | None = None,
        **changes: Any,
    ) -> Path:
        if generation == "glm4":
            changes.setdefault("padded_vocab_size", 4096)
        config = old_config(generation, **changes)
        folder = write_config(tmp_path / "old", config)
        write_weights(folder, tensors or random_tensors(config), kind, num_shards)
        is_glm4 = generation == "glm4"
        model = tiktoken_model if is_glm4 else sentencepiece_model
        (folder / "tokenizer.model").write_bytes(model)
        return folder

    return write


def converted(folder: Path, output: Path | None = None, **options: Any) -> Path:
    """The folder that conversion writes."""
    output = output or folder.with_name("native")
    convert(ConversionArguments(str(folder), str(output), **options))
    return output
