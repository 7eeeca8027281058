"""bench/gpu.py at a small size on the CPU: every case, its figures, and what it does when it fails.

No figure of a GPU is tested here; that each system trains on the same work is.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import GlmForCausalLM

from bench import gpu
from bench.flops import count_work, useful_flops
from bench.gpu_cases import DENSE_MASK, OURS, PADDED, SIZES, TASKS, Batch, Place, draw_steps
from bench.gpu_machine import attend_densely, visible
from bench.gpu_systems import Loop, PlainForward, build_base
from medtune.training.packed import segments

PLACE = Place("cpu", SIZES["tiny"], 1)
FIGURES = {
    "head", "tokens_per_second", "trained_tokens_per_second", "rows_per_second", "utilisation",
    "seconds_per_step", "seconds", "losses", "reference_seconds_per_step", "batches_per_step",
    "largest_batch_tokens", "num_recomputed", "num_layers", "peak_allocated_gib",
    "peak_reserved_gib", "predicted_gib",
}  # fmt: skip
# Each loss is a float32 mean near 6; the steps between them add as much.
RELATIVE_LOSS = 2e-6


def run(monkeypatch: pytest.MonkeyPatch, out: Path, *words: str) -> dict[str, Any]:
    fixed = ["bench/gpu.py", "--device", "cpu", "--size", "tiny", "--steps", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [*fixed, *words])
    gpu.main()
    return json.loads(out.read_text(encoding="utf-8"))


def test_every_case_runs_and_all_systems_have_the_same_losses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    report = run(monkeypatch, tmp_path / "new" / "gpu.json")
    results = report["results"]

    expected = [(name, system) for name, task in TASKS.items() for system in task.systems]
    assert [(entry["case"], entry["system"]) for entry in results] == expected
    ours = {entry["case"]: entry["losses"] for entry in results if entry["system"] == OURS}
    for entry in results:
        assert (entry["status"], entry["reason"]) == ("ok", "")
        assert set(entry) == FIGURES | {"case", "system", "status", "reason"}
        assert entry["losses"] == pytest.approx(ours[entry["case"]], rel=RELATIVE_LOSS)
        assert entry["head"] == ("medtune" if entry["system"] == OURS else "trl")
        assert entry["num_recomputed"] == (2 if entry["system"] == "padded_recomputed" else 0)
        assert entry["tokens_per_second"] >= entry["trained_tokens_per_second"] > 0
        assert entry["utilisation"] > 0 and entry["predicted_gib"] > 0
        assert entry["peak_allocated_gib"] is None  # torch counts a GPU's memory only
    assert ours["dpo_online"] == pytest.approx(ours["dpo_precomputed"], rel=RELATIVE_LOSS)
    assert ours["dpo_online"][0] == pytest.approx(0.693147, rel=1e-5)  # ln 2: B of LoRA is zero
    assert report["attention"]["varlen_attn"].startswith("skipped")
    assert report["rates"]["gemm_tflops"] > 0 and report["environment"]["size"] == "tiny"


def test_a_case_for_which_no_time_is_left_is_skipped_with_a_note(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ("--cases", "sft_2048", "--minutes", "0.1")
    results = run(monkeypatch, tmp_path / "gpu.json", *words)["results"]

    assert [entry["status"] for entry in results] == ["skipped"] * 3
    assert all(entry["reason"].endswith("s left, 30 s needed") for entry in results)


def test_a_case_that_fails_is_recorded_and_the_next_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    build = gpu.build_model
    failures = {
        OURS: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        "padded_recomputed": RuntimeError("no such kernel\nand more"),
    }

    def build_some(task: Any, system: str, *others: Any) -> Any:
        if system in failures:
            raise failures[system]
        return build(task, system, *others)

    monkeypatch.setattr(gpu, "build_model", build_some)
    results = run(monkeypatch, tmp_path / "gpu.json", "--cases", "sft_2048")["results"]

    assert [(entry["status"], entry["reason"]) for entry in results] == [
        ("out of memory", "CUDA out of memory"),
        ("error", "RuntimeError: no such kernel"),
        ("ok", ""),
    ]


def test_without_trl_the_padded_systems_score_by_logits_and_the_losses_stay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "trl.trainer.utils", None)
    results = run(monkeypatch, tmp_path / "gpu.json", "--cases", "sft_2048")["results"]

    assert [entry["head"] for entry in results] == ["medtune", "logits", "logits"]
    for entry in results:
        assert entry["losses"] == pytest.approx(results[0]["losses"], rel=RELATIVE_LOSS)
    assert "without TRL (import of trl.trainer.utils" in capsys.readouterr().out


def test_a_system_that_cannot_be_imported_is_not_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "medtune.training.packed.forward", None)
    results = run(monkeypatch, tmp_path / "gpu.json", "--cases", "sft_2048")["results"]

    assert [entry["status"] for entry in results] == ["not run", "ok", "ok"]
    assert "medtune.training.packed.forward" in results[0]["reason"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--device", "cuda"), "torch finds no GPU"),
        (("--size", "9b"), "too large for --device cpu"),
        (("--cases", "sft_2049"), "no case sft_2049"),
        (("--steps", "0"), "expected 1 or more, found 0"),
    ],
)
def test_what_cannot_run_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        run(monkeypatch, tmp_path / "gpu.json", *words)

    assert message in capsys.readouterr().err


# -- attention


def test_attention_that_cannot_run_or_is_wrong_ends_the_program_with_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise TypeError("varlen_attn() got an unexpected keyword argument 'enable_gqa'")

    def align_left(module: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        """Causal from the first key on: a segment with a prefix sees too little of it."""
        plan = kwargs["segments"]
        mask = visible(plan.parts, "cpu")
        mask[300:340] = torch.ones(40, query.size(2), dtype=torch.bool).tril()
        return attend_densely(query, key, value, mask, kwargs["scaling"]), None

    monkeypatch.setattr(segments, "segment_attention", refuse)
    with pytest.raises(SystemExit, match="grouped-query heads failed: .*enable_gqa"):
        run(monkeypatch, tmp_path / "gpu.json")
    monkeypatch.setattr(segments, "segment_attention", align_left)
    with pytest.raises(SystemExit, match="attention over a stream is wrong here"):
        run(monkeypatch, tmp_path / "gpu.json")


# -- the model and the rows


def test_a_model_made_on_its_device_is_one_that_transformers_makes() -> None:
    made, usual = build_base(PLACE), GlmForCausalLM(SIZES["tiny"].config)

    assert made.state_dict().keys() == usual.state_dict().keys()
    for (name, buffer), (_, other) in zip(made.named_buffers(), usual.named_buffers(), strict=True):
        assert torch.equal(buffer, other), name
    assert made.model.norm.weight.eq(1).all()
    assert made.lm_head.weight.std().item() == pytest.approx(0.02, rel=0.02)


def test_the_large_model_is_the_9b_one() -> None:
    with torch.device("meta"):
        model = GlmForCausalLM(SIZES["9b"].config)

    assert sum(weight.numel() for weight in model.parameters()) == 9_399_951_360


def test_a_pair_is_laid_out_as_the_trainers_do() -> None:
    row = {"prompt_ids": [5, 6], "chosen_ids": [7], "rejected_ids": [8, 9]}
    batch = Batch([row], PADDED, "cpu")

    assert batch.tensors["input_ids"].tolist() == [[5, 6, 7, 0], [5, 6, 8, 9]]
    assert batch.tensors["labels"].tolist() == [[-100, -100, 7, -100], [-100, -100, 8, 9]]
    assert batch.tensors["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert (batch.num_tokens, Batch([row], OURS, "cpu").num_tokens) == (8, 5)


def test_rows_end_to_end_start_at_position_zero_each() -> None:
    rows = [{"input_ids": [5, 6], "labels": [-100, 6]}, {"input_ids": [7], "labels": [-100]}]
    tensors = Batch(rows, DENSE_MASK, "cpu").tensors

    assert tensors["input_ids"].tolist() == [[5, 6, 7]]
    assert tensors["position_ids"].tolist() == [[0, 1, 0]]
    assert "attention_mask" not in tensors  # transformers would no longer look at positions


def test_operations_of_training_all_weights_are_those_of_the_formula() -> None:
    task = TASKS["full_2048"]
    (rows,) = draw_steps(task, PLACE.size, 1)
    model: Any = build_base(PLACE)
    model.set_attn_implementation("sdpa")
    model.forward = PlainForward(model)

    with FlopCounterMode(display=False) as counter:  # does not count a CPU's attention
        Loop(model, task, PLACE).step([Batch(rows, PADDED, "cpu")], rows)

    work = count_work(rows)
    work.num_attended = 0
    assert counter.get_total_flops() == useful_flops(PLACE.size.config, work, None, 1, 0)
