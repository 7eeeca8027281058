"""The stand-in for ChatGLM2: built in the old format, and converted by its name."""

import json
from pathlib import Path

import pytest
import torch
from sentencepiece import SentencePieceProcessor

from medtune.arguments import ModelArguments
from medtune.models import tiny
from medtune.models.loading import load_model, load_tokenizer
from medtune.models.tiny_chatglm2 import tiny_chatglm2_folder
from tests.models.chatglm import forward
from tests.models.conftest import converted


def test_stand_in_is_an_old_checkpoint_that_converts_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tiny, "NUM_STEPS", 4)  # of 1600: what is tested is no model's skill

    native = converted(Path("tiny-chatglm2"), tmp_path / "native")

    old = tiny_chatglm2_folder()
    assert sorted(path.name for path in old.iterdir()) == [
        "config.json", "pytorch_model.bin", "tokenizer.model", "tokenizer_config.json"
    ]  # fmt: skip
    config = json.loads((old / "config.json").read_text())
    assert config["model_type"] == "chatglm" and config["padded_vocab_size"] == 4096
    tokenizer = load_tokenizer(ModelArguments(str(native)))
    ids = tokenizer("发热伴咳嗽三天").input_ids
    original = SentencePieceProcessor(model_file=str(old / "tokenizer.model"))
    assert ids == [4001, 4003, *original.encode("发热伴咳嗽三天")]
    model = load_model(ModelArguments(str(native), dtype="float32"))
    tensors = torch.load(old / "pytorch_model.bin", weights_only=True)
    with torch.no_grad():
        found = model(input_ids=torch.tensor([ids])).logits[0]
    # Fused attention adds up in another order than the equations: logits of about 1, six digits.
    torch.testing.assert_close(
        found, forward(torch.tensor(ids), tensors, config), rtol=0, atol=1e-5
    )
