"""Recomputing some of the layers: every plan gives the same numbers, and holds to the end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import GlmConfig, GlmForCausalLM, GPT2Config, GPT2LMHeadModel
from transformers.modeling_layers import GradientCheckpointingLayer
from trl import SFTConfig
from trl.models.utils import disable_gradient_checkpointing

from medtune.arguments import AUTO
from medtune.common.errors import ConfigError
from medtune.common.log import logger
from medtune.models.adapters import TrainableModel
from medtune.parsing import parse_arguments
from medtune.training import trainers
from medtune.training.memory import recompute
from medtune.training.memory.workload import longest_row
from medtune.training.run_folder import NOT_COMPARED

NUM_LAYERS = 4
REQUIRED = ["--model_name_or_path=m", "--train_file_dir=d", "--output_dir=o", "--use_cpu=True"]
SMALL = GlmConfig(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=NUM_LAYERS,
    num_attention_heads=4, num_key_value_heads=2, head_dim=8, pad_token_id=0,
)  # fmt: skip


def build(is_lora: bool) -> torch.nn.Module:
    torch.manual_seed(0)
    model = GlmForCausalLM(SMALL)
    if is_lora:
        adapter = LoraConfig(
            task_type="CAUSAL_LM", target_modules="all-linear", lora_dropout=0.1,
            init_lora_weights=False,
        )  # fmt: skip
        model = get_peft_model(model, adapter)
        model.enable_input_require_grads()
    return model.train()


def flags(model: torch.nn.Module) -> list[bool]:
    """Which decoder layers are recomputed."""
    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
    return [layer.gradient_checkpointing for layer in layers]


def loss_and_gradients(is_lora: bool, num_recomputed: int) -> list[torch.Tensor]:
    model = build(is_lora)
    recompute.recompute_layers(model, num_recomputed)
    model.activation_checkpointing_enable()
    assert flags(model) == [n < num_recomputed for n in range(NUM_LAYERS)]
    ids = torch.randint(1, 64, (2, 24), generator=torch.Generator().manual_seed(1))
    torch.manual_seed(2)  # of the dropout
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("is_lora", [True, False], ids=["lora with dropout", "full"])
def test_every_plan_gives_the_same_loss_and_gradients(is_lora: bool) -> None:
    expected = loss_and_gradients(is_lora, 0)

    for num_recomputed in range(1, NUM_LAYERS + 1):
        found = loss_and_gradients(is_lora, num_recomputed)
        assert len(found) == len(expected) > 20
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("is_lora", [True, False], ids=["lora", "full"])
def test_plan_survives_every_way_to_turn_checkpointing_off_and_on(is_lora: bool) -> None:
    model = build(is_lora)
    recompute.recompute_layers(model, 3)
    planned = [True, True, True, False]

    model.gradient_checkpointing_enable()
    assert flags(model) == planned
    with disable_gradient_checkpointing(model, {"use_reentrant": False}):  # TRL's reference pass
        assert flags(model) == [False] * NUM_LAYERS
    assert flags(model) == planned
    model.activation_checkpointing_disable()
    model.activation_checkpointing_enable({"use_reentrant": True})
    assert flags(model) == planned
    recompute.recompute_layers(model, 1)
    model.activation_checkpointing_enable()
    assert flags(model) == [True, False, False, False]


# -- the option


def checkpointing(*words: str) -> Any:
    return parse_arguments([*REQUIRED, *words], SFTConfig).training.gradient_checkpointing


@pytest.mark.skipif(torch.cuda.is_available(), reason="the default of a machine without a GPU")
def test_nothing_is_recomputed_on_a_cpu_unless_asked() -> None:
    assert checkpointing() is False


@pytest.mark.parametrize("name", ["gradient_checkpointing", "activation_checkpointing"])
@pytest.mark.parametrize(
    ("word", "meaning"), [("auto", AUTO), ("Auto", AUTO), ("true", True), ("no", False)]
)
def test_checkpointing_may_be_auto(name: str, word: str, meaning: Any, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"{name}: {word}\n")

    for words in ([f"--{name}", word], [f"--{name}={word}"], [f"--config={config}"]):
        training = parse_arguments([*REQUIRED, *words], SFTConfig).training
        assert training.gradient_checkpointing == training.activation_checkpointing == meaning


def test_another_word_is_refused_with_those_that_may_be() -> None:
    with pytest.raises(ConfigError, match="expected true, false or auto, found 'some'"):
        checkpointing("--gradient_checkpointing=some")


def test_a_run_may_be_continued_with_another_plan() -> None:
    assert {"gradient_checkpointing", "activation_checkpointing"} <= NOT_COMPARED


# -- runs


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[list[bool]]:
    """The flags of the layers at the end of each training step."""
    found: list[list[bool]] = []
    step = trainers.ReadyRows.training_step

    def record(self: Any, model: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = step(self, model, *args, **kwargs)
        found.append(flags(model))
        return loss

    monkeypatch.setattr(trainers.ReadyRows, "training_step", record)
    return found


@pytest.fixture
def log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> pytest.LogCaptureFixture:
    """The lines of medtune, whose logger passes nothing on once a script has set it up."""
    monkeypatch.setattr(logger, "propagate", True)
    caplog.set_level("INFO", logger="medtune")
    return caplog


def memory_for(num_recomputed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the memory at hand be what this many recomputed layers need."""
    plan = recompute.plan_recompute

    def pretend(work: Any, memory_bytes: int) -> Any:
        chosen = recompute.estimate_memory(work, num_recomputed)
        assert plan(work, memory_bytes).num_recomputed == 0  # there is plenty on this machine
        return chosen

    monkeypatch.setattr(recompute, "plan_recompute", pretend)


@pytest.mark.parametrize(
    "words", [("pt",), ("sft",), ("dpo",), ("sft", "--use_peft=no"), ("dpo", "--use_peft=no")]
)
def test_run_keeps_to_its_plan_and_learns_the_same(
    words: tuple[str, ...],
    run_stage: Callable[..., Path],
    seen: list[list[bool]],
    log: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage, *words = *words, "--max_steps=2", "--eval_strategy=no", "--eval_on_start=no"
    plain = run_stage(stage, "plain", *words)
    assert seen == [[False, False]] * 2
    seen.clear()
    memory_for(1, monkeypatch)
    planned = run_stage(stage, "planned", *words, "--gradient_checkpointing=auto")

    assert seen == [[True, False]] * 2
    assert [m for m in log.messages if m.startswith("recomputing 1 of 2 layers: ")]
    one, other = (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()][:2]
        for folder in (plain, planned)
    )
    for name in ("loss", "grad_norm"):
        assert [entry[name] for entry in one] == [entry[name] for entry in other]
    assert "gradient_checkpointing: auto" in (planned / "arguments.yaml").read_text()


def test_run_with_plenty_of_memory_recomputes_nothing(
    run_stage: Callable[..., Path], seen: list[list[bool]], log: pytest.LogCaptureFixture
) -> None:
    run_stage(
        "sft", "out", "--max_steps=1", "--eval_strategy=no", "--activation_checkpointing=auto"
    )

    assert seen == [[False, False]]
    assert [m for m in log.messages if m.startswith("recomputing 0 of 2 layers: ")]


def test_run_without_room_says_what_to_change(
    run_stage: Callable[..., Path],
    seen: list[list[bool]],
    log: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recompute, "memory_at_hand", lambda on_gpu: 1 << 20)
    run_stage("sft", "out", "--max_steps=1", "--eval_strategy=no", "--gradient_checkpointing=auto")

    assert [m for m in log.messages if "--per_device_train_batch_size" in m]
    assert seen[0][0]


def test_family_that_cannot_be_computed_has_all_layers_recomputed(
    log: pytest.LogCaptureFixture,
) -> None:
    arguments = parse_arguments([*REQUIRED, "--gradient_checkpointing=auto"], SFTConfig)
    model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=64))
    rows = Dataset.from_list([{"input_ids": [1, 2], "labels": [1, 2]}])

    recompute.settle_recompute(arguments, TrainableModel(model, None), rows)

    assert arguments.training.gradient_checkpointing is True
    assert arguments.training.activation_checkpointing is True
    assert "found model_type 'gpt2'" in log.messages[-1]


def test_longest_row_counts_a_pair_by_its_longer_answer() -> None:
    rows = Dataset.from_list([{"input_ids": [1] * n} for n in (3, 7, 5)])
    pairs = Dataset.from_list(
        [
            {"prompt_ids": [1] * p, "chosen_ids": [1] * c, "rejected_ids": [1] * r}
            for p, c, r in ((5, 1, 2), (1, 3, 8), (4, 4, 1))
        ]
    )

    assert longest_row(rows) == 7
    assert longest_row(rows.select([0, 2])) == 5
    assert longest_row(pairs) == 9


def test_memory_at_hand_on_a_cpu_is_shared_by_the_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = recompute.psutil.Process().memory_info().rss
    alone = recompute.memory_at_hand(on_gpu=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")

    assert recompute.memory_at_hand(on_gpu=False) - own == pytest.approx((alone - own) / 2, rel=0.1)
