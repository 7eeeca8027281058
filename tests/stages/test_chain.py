"""`bash run_all.sh` as a user runs it, in a copy of the checkout, and what it must achieve."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medtune.common.lineage import is_complete
from medtune.evaluation.results.comparison import compare
from tests.conftest import REPO

LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".cache", "outputs", "__pycache__", ".*_cache")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the project that uses this one's .venv and built-in model."""
    folder = Path(
        shutil.copytree(REPO, tmp_path_factory.mktemp("copy") / "medtune", ignore=LEFT_OUT)
    )
    (folder / ".venv").symlink_to(REPO / ".venv")
    answer = run_all(folder)
    assert answer.returncode == 0, answer.stderr[-3000:]
    yield folder


def run_all(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MEDTUNE_CACHE": str(REPO / ".cache"), "PROFILE": "tiny"}
    for name in ("MODEL", "NPROC", "OMP_NUM_THREADS"):
        environment.pop(name, None)
    return subprocess.run(
        ["bash", "run_all.sh"], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=1500, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def summary(checkout: Path) -> dict[str, dict[str, float]]:
    return json.loads((checkout / "outputs" / "tiny-summary.json").read_text())


def test_summary_has_the_fixed_names(summary: dict[str, dict[str, float]]) -> None:
    assert set(summary) == {"base", "pt", "sft", "dpo", "seconds"}
    names = {"perplexity_text", "perplexity_answers", "stop_rate", "preference_accuracy"}
    names |= {"knowledge", "safety"}
    assert all(set(summary[stage]) == names for stage in ("base", "pt", "sft", "dpo"))
    assert {"pt", "sft", "dpo", "total"} <= set(summary["seconds"])


def test_pretraining_lowers_perplexity_of_text_by_30_percent(
    summary: dict[str, dict[str, float]],
) -> None:
    assert summary["pt"]["perplexity_text"] <= 0.7 * summary["base"]["perplexity_text"]


def test_fine_tuned_replies_stop_and_answers_are_half_as_surprising(
    summary: dict[str, dict[str, float]],
) -> None:
    assert summary["sft"]["stop_rate"] >= 0.95
    assert summary["sft"]["perplexity_answers"] <= 0.5 * summary["pt"]["perplexity_answers"]


def test_preferences_are_learnt_without_forgetting_answers(
    summary: dict[str, dict[str, float]],
) -> None:
    assert summary["dpo"]["preference_accuracy"] >= 0.90
    assert summary["dpo"]["preference_accuracy"] >= summary["sft"]["preference_accuracy"]
    assert summary["dpo"]["perplexity_answers"] <= 1.2 * summary["sft"]["perplexity_answers"]


@pytest.mark.parametrize(
    ("before", "after", "task", "metric"),
    [
        ("base", "pt", "cmb_exam_text", "accuracy"),
        ("pt", "sft", "cmb_exam_text", "accuracy"),
        ("pt", "sft", "safety", "safe_rate"),
        ("sft", "dpo", "preference", "accuracy"),
        ("sft", "dpo", "preference", "margin"),
    ],
)
def test_stage_moves_what_it_is_meant_to_move_beyond_chance(
    checkout: Path, before: str, after: str, task: str, metric: str
) -> None:
    """On held-out wording, item by item: the interval of the difference does not hold zero."""
    folders = (checkout / f"outputs/tiny-{stage}-evaluation" for stage in (before, after))
    (row,) = [r for r in compare(*folders) if (r["task"], r["metric"]) == (task, metric)]

    assert row["low"] > 0


def test_knowledge_and_safety_rise_from_stage_to_stage(
    summary: dict[str, dict[str, float]],
) -> None:
    """DPO is not meant to teach facts: it may cost them what chance explains, see the intervals."""
    assert summary["base"]["knowledge"] < summary["pt"]["knowledge"] < summary["sft"]["knowledge"]
    assert summary["dpo"]["knowledge"] >= summary["sft"]["knowledge"] - 0.03
    assert summary["pt"]["safety"] < summary["sft"]["safety"] < summary["dpo"]["safety"]


def test_each_stage_started_from_the_one_before(checkout: Path) -> None:
    def lineage(name: str) -> dict:
        return json.loads((checkout / "outputs" / name / "lineage.json").read_text())["inputs"]

    assert lineage("tiny-pt-merged")["base"] == lineage("tiny-pt-v1")["base"]
    assert lineage("tiny-sft-v1")["base"]["path"] == "outputs/tiny-pt-merged"
    assert lineage("tiny-sft-merged")["base"] == lineage("tiny-sft-v1")["base"]
    assert lineage("tiny-dpo-v1")["base"]["path"] == "outputs/tiny-sft-merged"


def test_chain_verifies_from_the_summary_to_the_base(checkout: Path) -> None:
    command = [sys.executable, "-m", "medtune.lineage", "verify", "outputs/tiny-summary.json"]
    answer = subprocess.run(command, cwd=checkout, capture_output=True, text=True)

    assert answer.returncode == 0, answer.stderr
    heads = [line for line in answer.stdout.splitlines() if not line.startswith(" ")]
    stages = ("dpo", "sft", "pt")
    assert {line.split(": outputs/")[1] for line in heads[:-1]} == {
        "tiny-summary.json",
        *(f"tiny-{stage}-{kind}" for stage in stages for kind in ("v1", "merged")),
    }
    assert ", 0 not; " in heads[-1]


def test_second_run_reuses_what_is_complete_and_ends_with_the_report(checkout: Path) -> None:
    folders = sorted((checkout / "outputs").glob("*/COMPLETE"))
    before = [path.stat().st_mtime_ns for path in folders]

    answer = run_all(checkout)

    assert answer.returncode == 0
    assert "outputs/tiny-report.html" in answer.stderr.splitlines()[-1]
    page = (checkout / "outputs" / "tiny-report.html").read_text(encoding="utf-8")
    assert all(f"outputs/tiny-{stage}-merged" in page for stage in ("pt", "sft", "dpo"))
    assert answer.stderr.count("is complete: nothing to do") == len(folders) == 10
    assert [path.stat().st_mtime_ns for path in folders] == before


def test_the_books_merge_command_works_as_it_is_written(checkout: Path) -> None:
    (checkout / "glm4-pt-v1").symlink_to(checkout / "outputs/tiny-pt-v1")
    base = json.loads((checkout / "glm4-pt-v1/lineage.json").read_text())["inputs"]["base"]["path"]
    command = (
        f".venv/bin/python merge_peft_adapter.py --model_type chatglm --base_model {base} "
        "--lora_model glm4-pt-v1 --output_dir glm4-pt-merged/"
    )
    subprocess.run(command.split(), cwd=checkout, check=True, capture_output=True)

    assert is_complete(checkout / "glm4-pt-merged")


@pytest.mark.parametrize("stage", ("pt", "sft", "dpo"))
def test_merged_model_answers_and_stops_without_medtune(checkout: Path, stage: str) -> None:
    folder = checkout / "outputs" / f"tiny-{stage}-merged"
    program = f"""
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained({str(folder)!r}, trust_remote_code=False)
tokenizer = AutoTokenizer.from_pretrained({str(folder)!r}, trust_remote_code=False)
ids = tokenizer.apply_chat_template([{{"role": "user", "content": "哮喘看什么科？"}}],
    add_generation_prompt=True, return_tensors="pt", return_dict=True)
reply = model.generate(**ids, max_new_tokens=200, do_sample=False)[0, ids["input_ids"].shape[1]:]
assert "medtune" not in sys.modules
print(len(reply), int(reply[-1]) in model.generation_config.eos_token_id)
"""
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=checkout.parent, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    length, stopped = answer.stdout.split()
    assert int(length) > 1
    assert stopped == "True" or stage == "pt"  # pretraining does not teach to stop


def test_tensorboard_files_are_below_runs(checkout: Path) -> None:
    for stage in ("pt", "sft", "dpo"):
        assert list((checkout / "outputs" / f"tiny-{stage}-v1" / "runs").rglob("events.out.*"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--lerning_rate", "1"], "did you mean --learning_rate?"),
        (["--train_file_dir", "nowhere"], "nowhere: expected a folder or file with data"),
        (["--model_name_or_path", "outputs/nothing"], "expected a model folder"),
    ],
)
def test_mistakes_exit_with_2_and_one_clear_last_line(
    checkout: Path, words: list[str], expected: str
) -> None:
    answer = subprocess.run(
        ["bash", "run_sft.sh", *words], cwd=checkout, capture_output=True, text=True,
        env={**os.environ, "PROFILE": "tiny"},
    )  # fmt: skip

    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr
    errors = [line for line in answer.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and expected in errors[0]
    assert answer.stderr.rstrip().endswith(errors[0])
