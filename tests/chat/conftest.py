"""Models to talk to: untrained, one that has learnt a conversation by heart, one that says ids."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from medtune.chat.session import ChatSession
from medtune.data.records import Conversation, Message, Source
from medtune.data.rendering import ChatRenderer

LEARNT = (
    Message("system", "你是医生。"),
    Message("user", "头痛怎么办？"),
    Message("assistant", "多休息，多喝水。"),
    Message("user", "能吃布洛芬吗？"),
    Message("assistant", "可以，饭后吃。\n不要超过三天。"),
    Message("user", "谢谢"),
    Message("assistant", "不客气😊"),
)


class ScriptedModel(torch.nn.Module):
    """Says the given ids, one a call, whatever it is asked; like a model to ChatSession."""

    def __init__(self, ids: Iterable[int], num_tokens: int) -> None:
        super().__init__()
        self.ids: Iterator[int] = iter(ids)
        self.num_tokens = num_tokens
        self.config = SimpleNamespace(max_position_embeddings=1024)
        self.generation_config = SimpleNamespace(eos_token_id=None)
        self.device = torch.device("cpu")
        self.before_each = lambda: None

    def _can_set_attn_implementation(self) -> bool:
        return True

    def set_attn_implementation(self, name: str) -> None:
        assert name == "kept"

    def forward(self, input_ids: torch.Tensor, **_: object) -> SimpleNamespace:
        self.before_each()
        logits = torch.zeros(1, 1, self.num_tokens)
        logits[0, 0, next(self.ids)] = 1
        return SimpleNamespace(logits=logits)


def scripted(tokenizer: PreTrainedTokenizerFast, *answers: str | list[int]) -> ChatSession:
    """A session whose answers are these, each ended as GLM ends one."""
    end = tokenizer.convert_tokens_to_ids("<|user|>")
    ids: list[int] = []
    for answer in answers:
        if isinstance(answer, str):
            answer = tokenizer(answer, add_special_tokens=False)["input_ids"]
        ids += [*answer, end]
    model = ScriptedModel(ids, len(tokenizer))
    return ChatSession(model, tokenizer)  # type: ignore[arg-type]


def load(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.fixture(scope="session")
def model(small_model_folder: Path) -> PreTrainedModel:
    """Untrained: what it says is noise, which most of all differs where a context differs."""
    return load(small_model_folder)


@pytest.fixture(scope="session")
def learnt_folder(
    small_model_folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with a model that knows LEARNT by heart, with the ends of its answers."""
    model = load(small_model_folder)
    renderer = ChatRenderer(tokenizer, "<|user|>")
    row = renderer.conversation(Conversation(LEARNT, Source("test", 1)))
    ids, labels = torch.tensor([row.input_ids]), torch.tensor([row.labels])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(60):
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.2
    folder = tmp_path_factory.mktemp("learnt")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def lora_on(folder: Path) -> PeftModel:
    """A LoRA adapter that changes what is said."""
    torch.manual_seed(1)
    model = get_peft_model(
        load(folder),
        LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", init_lora_weights=False),
    )
    return model.eval()


def prefix_on(folder: Path, num_virtual_tokens: int = 6) -> PeftModel:
    """A prefix adapter as it is begun, which is as loud as one token after another."""
    torch.manual_seed(2)
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=num_virtual_tokens)
    return get_peft_model(load(folder), config).eval()
