"""What a training step computes, in tokens and in operations: deterministic, unlike seconds.

Reference: the rows' own lengths, by the formulas of bench/flops.py, and what torch counts while
TRL's padded forward does the same step.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.cases import Case
from bench.flops import count_work, useful_flops
from bench.models import build_config
from bench.rows import build_tokenizer, synthetic_rows
from bench.systems import LORA_RANK, SYSTEMS, Job

NUM_ROWS = 6
CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
CASES = {
    "sft": Case("sft", "sft", "tiny", NUM_ROWS, NUM_ROWS, max_length_tokens=256),
    "dpo": Case("dpo", "dpo", "tiny", NUM_ROWS, NUM_ROWS, max_length_tokens=256),
    "pt": Case("pt", "pt", "tiny", NUM_ROWS, NUM_ROWS, max_length_tokens=64),
}


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer(512, None).save_pretrained(folder)
    return folder


@dataclass
class Step:
    """What one step did: tokens of each pass through the body, operations of its products."""

    tokens: list[int]
    flops: int
    attention_flops: int  # forward


def attention_flops(query: Any, key: Any, *args: Any, **kwargs: Any) -> int:
    """Operations of one attention on the CPU, which torch does not count by itself."""
    rows, heads, queries, width = query
    return 4 * rows * heads * queries * key[2] * width


@pytest.fixture
def first_step(tokenizer_folder: Path, tmp_path: Path) -> Callable[[str, str], Step]:
    """Run the first step of a system on a case: (system, case) -> Step."""

    def run(system: str, name: str) -> Step:
        case = CASES[name]
        job = Job(case, synthetic_rows(case), tokenizer_folder, tmp_path)
        trainer: Any = SYSTEMS[system](job)
        tokens: list[int] = []
        trainer.model.get_input_embeddings().register_forward_hook(
            lambda _, inputs, __: tokens.append(inputs[0].numel())
        )
        trainer.model.train()
        batch = next(iter(trainer.get_train_dataloader()))
        batch.pop("num_tokens", None)
        counted = {CPU_ATTENTION: attention_flops}
        with FlopCounterMode(display=False, custom_mapping=counted) as counter:
            trainer.compute_loss(trainer.model, batch).backward()
        counts = counter.get_flop_counts()["Global"]
        attention = counts.get(CPU_ATTENTION, 0)
        return Step(tokens, sum(counts.values()) - attention, attention)

    return run


def padded_tokens(name: str) -> int:
    """Tokens of the case's one batch with every row as long as the longest."""
    rows = synthetic_rows(CASES[name])
    if name != "dpo":
        return NUM_ROWS * max(len(row["input_ids"]) for row in rows)
    answers = [
        (row["prompt_ids"], row[key]) for row in rows for key in ("chosen_ids", "rejected_ids")
    ]
    return 2 * NUM_ROWS * max(len(prompt) + len(answer) for prompt, answer in answers)


def useful(name: str, is_attention_counted: bool) -> float:
    """Operations of the formulas for one step of a case."""
    case = CASES[name]
    work = count_work(synthetic_rows(case))
    work = work if is_attention_counted else replace(work, num_attended=0)
    return useful_flops(build_config("tiny"), work, LORA_RANK, 1, int(name == "dpo"))


@pytest.mark.parametrize("name", ["sft", "dpo"])
def test_with_the_packed_forward_off_a_step_is_that_of_trl(
    first_step: Callable[[str, str], Step], name: str
) -> None:
    padded = first_step("ours_padded", name)

    assert padded == first_step("trl", name)
    assert set(padded.tokens) == {padded_tokens(name)}


@pytest.mark.parametrize("name", CASES)
def test_no_padding_passes_through_the_body(
    first_step: Callable[[str, str], Step], name: str
) -> None:
    packed = first_step("ours", name)
    work = count_work(synthetic_rows(CASES[name]))

    assert len(packed.tokens) == (2 if name == "dpo" else 1)  # the policy, and its reference
    assert max(packed.tokens) <= work.num_tokens < padded_tokens(name) + (name == "pt")


@pytest.mark.parametrize("name", CASES)
def test_no_product_is_computed_that_the_formulas_do_not_count(
    first_step: Callable[[str, str], Step], name: str
) -> None:
    packed = first_step("ours", name)

    # Less is possible: nothing depends on a row's last token, nor on the first layer's input, and
    # torch does not count a product that is added in place (LoRA's last, forward and backward).
    assert 0.85 * useful(name, False) < packed.flops <= useful(name, False)


@pytest.mark.parametrize(("name", "share"), [("sft", 0.55), ("dpo", 0.37), ("pt", 1.0)])
def test_operations_fall_at_least_as_tokens_do(
    first_step: Callable[[str, str], Step], name: str, share: float
) -> None:
    packed, padded = first_step("ours", name), first_step("ours_padded", name)

    assert sum(packed.tokens) / sum(padded.tokens) <= share
    assert packed.flops / padded.flops <= share
    assert packed.attention_flops / padded.attention_flops <= share
