"""The gate and the figures: same examples or no ratio, and formulas against counts by others."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import GlmConfig, GlmForCausalLM

from bench.cases import Case, build_cases
from bench.external import COMMANDS
from bench.flops import Work, count_work, useful_flops
from bench.measure import compute_log_probs
from bench.models import build_config, build_model, linear_shapes
from bench.results import compare_log_probs, compare_losses, summarise
from bench.rows import build_tokenizer, synthetic_rows
from bench.systems import SYSTEMS, Job

SFT = Case("sft_tiny", "sft", "tiny", 4, 6, max_length_tokens=256)
DPO = replace(SFT, name="dpo_tiny", kind="dpo")
PT = replace(SFT, name="pt_tiny", kind="pt", max_length_tokens=64)
ROW = {"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}
PAIR = {"prompt_ids": [1, 2, 3, 4], "chosen_ids": [5, 6], "rejected_ids": [7, 8, 9]}


@pytest.fixture(scope="module")
def log_probs_of(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, Case], dict[str, float]]:
    """Log-probabilities before the first step: (system, case) -> sum by example."""
    folder = tmp_path_factory.mktemp("gate")
    build_tokenizer(512, None).save_pretrained(folder)

    def compute(system: str, case: Case) -> dict[str, float]:
        job = Job(case, synthetic_rows(case), folder, folder / "out")
        return compute_log_probs(SYSTEMS[system](job))

    return compute


# -- the gate


@pytest.mark.parametrize(
    ("system", "case"),
    [
        ("ours", SFT), ("trl", SFT), ("trl_bfd", SFT),
        ("trl_bfd_same_tokens", SFT), ("trl_padding_free", SFT),
        ("ours", DPO), ("trl", DPO), ("trl_precompute", DPO),
        ("ours", PT), ("trl_padding_free", PT),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)  # fmt: skip
def test_log_probs_are_those_of_each_example_by_itself(
    log_probs_of: Callable[[str, Case], dict[str, float]], system: str, case: Case
) -> None:
    found = log_probs_of(system, case)

    expected = sorted(one_by_one(case))
    assert sorted(found.values()) == pytest.approx(expected, abs=1e-4)


def one_by_one(case: Case) -> list[float]:
    """Summed log-probabilities of the labelled tokens: no batch, no padding, plain softmax."""
    model = build_model(case.model)
    sums = []
    for ids, labels in (document for row in synthetic_rows(case) for document in documents_of(row)):
        with torch.no_grad():
            scores = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        picked = [
            float(scores[place - 1, token])
            for place, token in enumerate(labels)
            if place and token != -100
        ]
        if picked:
            sums.append(sum(picked))
    return sums


def documents_of(row: dict[str, Any]) -> list[tuple[list[int], list[int]]]:
    """(ids, labels) of each sequence that a row stands for."""
    if "prompt_ids" in row:
        prompt = row["prompt_ids"]
        masked = [-100] * len(prompt)
        answers = (row["chosen_ids"], row["rejected_ids"])
        return [(prompt + answer, masked + answer) for answer in answers]
    ends = [sum(row["seq_lengths"][: n + 1]) for n in range(len(row.get("seq_lengths", [])))]
    ends = ends or [len(row["input_ids"])]
    pieces = zip([0, *ends[:-1]], ends, strict=True)
    return [(row["input_ids"][a:b], row["labels"][a:b]) for a, b in pieces]


def test_other_examples_are_infinitely_far() -> None:
    assert compare_log_probs({"a": -1.0, "b": -2.0}, {"a": -1.5, "b": -2.0}) == 0.5
    assert compare_log_probs({"a": -1.0}, {"b": -1.0}) == float("inf")
    assert compare_losses([2.0, 1.0], [2.0, 1.01]) == pytest.approx(0.01 / 1.01)
    assert compare_losses([2.0], [2.0, 1.0]) == float("inf")
    assert compare_losses([2.0, float("nan"), 1.0], [2.0, 1.0, 1.0]) == float("inf")


def run_of(seconds: float, memory_mb: float, *losses: float) -> dict[str, Any]:
    return {
        "build_seconds": 1.0, "train_seconds": seconds, "losses": list(losses), "num_steps": 1,
        "memory_before_mb": 10.0, "memory_peak_mb": memory_mb, "gemm_gflops": 100.0,
    }  # fmt: skip


def test_ratio_is_of_neighbouring_runs_and_its_spread_is_shown() -> None:
    case = Case("c", "sft", "tiny", 1, 1)
    ours = [run_of(seconds, 100.0, 2.0) for seconds in (1.0, 2.0, 1.0)]
    theirs = [run_of(seconds, 400.0, 2.0) for seconds in (3.0, 4.0, 5.0)]

    entry = summarise(case, [ROW], {"ours": ours, "trl": theirs}, 0.0)

    assert (entry["ratio_median"], entry["ratio_min"], entry["ratio_max"]) == (3.0, 2.0, 5.0)
    assert entry["memory_ratio"] == 0.25
    assert entry["rates"]["ours"]["real_tokens_per_second"] == 3.0
    assert entry["rates"]["ours"]["trained_tokens_per_second"] == 2.0
    assert entry["rates"]["trl"]["rows_per_second"] == 0.25


def test_other_losses_give_no_ratio() -> None:
    case = Case("c", "sft", "tiny", 1, 1)
    runs = {"ours": [run_of(1.0, 1.0, 2.0)], "trl": [run_of(9.0, 9.0, 2.001)]}

    entry = summarise(case, [ROW], runs, 0.0)
    packed = summarise(
        replace(case, baseline="trl_bfd"),
        [ROW],
        {"ours": runs["ours"], "trl_bfd": runs["trl"]},
        0.0,
    )

    assert entry["status"] == "gate failed"
    assert entry["ratio_median"] is entry["ratio_min"] is entry["memory_ratio"] is None
    assert packed["status"] == "ok"  # its steps hold other rows: nothing to compare step by step


def test_building_counts_where_it_computes_the_reference() -> None:
    case = Case("c", "dpo", "tiny", 1, 1, "ours_precompute", "trl_precompute", num_epochs=3)
    runs = {case.system: [run_of(1.0, 1.0, 2.0)], case.baseline: [run_of(3.0, 1.0, 2.0)]}

    assert summarise(case, [PAIR], runs, 0.0)["ratio_median"] == 2.0  # (3 + 1) / (1 + 1)


# -- the formulas


def test_operations_are_those_of_the_layers_that_a_model_has() -> None:
    config = GlmConfig()  # GLM-4-9B
    with torch.device("meta"):
        model = GlmForCausalLM(config)
    layers = [m for m in model.model.modules() if isinstance(m, torch.nn.Linear)]
    body = sum(layer.weight.numel() for layer in layers)
    lora = sum(16 * (layer.in_features + layer.out_features) for layer in layers)
    head = model.lm_head.weight.numel()
    attention = 40 * 4 * 4096 * 2048 / 2  # a token's part of a causal sequence of 2048, forward

    work = Work(num_tokens=2048, num_labelled=1024, num_attended=2048**2 / 2)
    flops = useful_flops(config, work, lora_rank=16, num_epochs=1, num_reference_passes=0)

    assert body == 40 * sum(a * b for a, b in linear_shapes(config))
    expected = 4 * body + 6 * lora + 3.5 * attention + 4 * head / 2
    assert flops / 2048 == pytest.approx(expected)
    assert flops / 2048 == pytest.approx(36.5e9, rel=0.01)


def test_work_of_a_pair_holds_its_prompt_once_and_of_a_block_its_pieces() -> None:
    block = {"input_ids": [5] * 6, "labels": [-100, 5, 5, 5, -100, 5], "seq_lengths": [4, 2]}

    pair = count_work([PAIR])
    assert (pair.num_tokens, pair.num_row_tokens, pair.num_labelled) == (9, 13, 5)
    assert pair.num_attended == 4**2 / 2 + (2 * 4 + 2**2 / 2) + (3 * 4 + 3**2 / 2)
    assert count_work([block, ROW]) == Work(9, 9, 6, 4**2 / 2 + 2**2 / 2 + 3**2 / 2)


def test_a_reference_costs_a_forward_pass_without_adapter() -> None:
    config, work = build_config("tiny"), count_work([PAIR])
    without, once, twice = (useful_flops(config, work, 8, 1, passes) for passes in (0, 1, 2))

    body = 2 * sum(a * b for a, b in linear_shapes(config))
    attended = 4 * 64 * 2 * work.num_attended
    assert once - without == 2 * body * 9 + attended + 2 * 512 * 64 * 5
    assert twice - once == once - without


# -- the cases


def test_cases_of_both_models_name_systems_that_exist() -> None:
    cases = build_cases()

    assert {"sft_S_bs8", "sft_P_bs8_vs_bfd", "dpo_S_bs4", "dpo_P_bs8", "pt_S"} <= cases.keys()
    assert all(name == case.name for name, case in cases.items())
    assert {c.system for c in cases.values()} <= SYSTEMS.keys()
    assert {c.baseline for c in cases.values()} <= SYSTEMS.keys() | COMMANDS.keys()


@pytest.mark.parametrize("case", build_cases().values(), ids=lambda case: case.name)
def test_synthetic_rows_fit_and_are_the_same_each_time(case: Case) -> None:
    case = replace(case, num_rows=5)
    rows = synthetic_rows(case)

    assert rows == synthetic_rows(case)
    assert len(rows) == 5
    sequences = [ids for row in rows for ids, _ in documents_of(row)]
    assert max(map(len, sequences)) <= case.max_length_tokens
    assert all(0 not in ids for ids in sequences)  # 0 is padding
    assert count_work(rows).num_labelled > 0
