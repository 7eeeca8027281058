"""evaluation.py as a user runs it: numbers, folders, interruptions, comparisons, mistakes."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.model import LM

import evaluation
from medtune.common.errors import CheckpointError, ConfigError, MedtuneError, RegressionError
from medtune.common.files import read_json, write_json, write_lines
from medtune.common.lineage import COMPLETE_FILE
from medtune.evaluation import engine, run
from medtune.evaluation.results.comparison import compare, find_regressions
from medtune.evaluation.results.folder import read_samples, samples_of
from medtune.lineage.__main__ import main as lineage
from tests.conftest import REPO, WriteJsonl, take_chat_format
from tests.evaluation.conftest import exam_question

FAST = ["--max_new_tokens=4", "--max_length=512"]


@pytest.fixture
def measure(small_model_folder: Path, benchmarks: Path, tmp_path: Path) -> Any:
    """A function (folder's name, flags) -> the folder of an evaluation of the small model."""

    def run_it(name: str, *flags: str) -> Path:
        folder = tmp_path / name
        evaluation.main(
            [f"--model_name_or_path={small_model_folder}", f"--data_dir={benchmarks}",
             f"--output_dir={folder}", *FAST, *flags]
        )  # fmt: skip
        return folder

    return run_it


def test_all_benchmarks_leave_numbers_samples_and_lineage(measure: Any) -> None:
    folder = measure("all")
    results = read_json(folder / "results.json")

    assert list(results["tasks"]) == [
        "perplexity", "answer_perplexity", "cmb_exam", "cmb_exam_text", "cmb_exam_generate",
        "cmb_clin", "promptcblue", "rouge_bleu", "preference", "replies",
    ]  # fmt: skip
    for task, found in results["tasks"].items():
        samples = read_samples(samples_of(folder, task))
        assert found["num_items"] == len(samples) > 0
        assert all(
            {"id", "prompt", "output", "parsed", "gold", "counts"} <= s.keys() for s in samples
        )
        leading = next(iter(found["metrics"].values()))
        assert leading["value"] is not None and {"low", "high", "chance", "unit"} <= leading.keys()
    assert results["tasks"]["cmb_exam"]["metrics"]["accuracy"]["chance"] == pytest.approx(
        (3 * 1 / 3 + 1 / 7) / 4
    )
    assert not list(folder.glob("responses*"))
    assert results["peak_memory_bytes"] > 0 and results["model"]["num_parameters"] > 0
    lineage(["verify", str(folder)])


def test_two_evaluations_give_the_same_numbers(measure: Any) -> None:
    first, second = (read_json(measure(name) / "results.json")["tasks"] for name in ("a", "b"))

    for task in first:
        assert first[task]["metrics"] == second[task]["metrics"]
        assert first[task]["groups"] == second[task]["groups"]


def test_finished_evaluation_is_not_run_again(
    measure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = measure("done", "--tasks=preference")
    before = (folder / "results.json").stat().st_mtime_ns
    monkeypatch.setattr(run, "measure_model", None)

    measure("done", "--tasks=preference")

    assert (folder / "results.json").stat().st_mtime_ns == before


def test_interrupted_evaluation_goes_on_and_ends_the_same(
    measure: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Killed in the second portion of the second of three benchmarks: what is done is kept."""
    tasks = "--tasks=preference,cmb_exam,replies"
    whole = read_json(measure("whole", tasks) / "results.json")
    real, ran = engine.run_portion, []

    def killed(benchmark: Any, *others: Any) -> Any:
        ran.append(benchmark.name)
        if ran == ["preference", "cmb_exam", "cmb_exam"]:
            raise KeyboardInterrupt
        return real(benchmark, *others)

    monkeypatch.setattr(engine, "PORTION", 3)
    monkeypatch.setattr(engine, "run_portion", killed)
    with pytest.raises(KeyboardInterrupt):
        measure("cut", tasks)
    with (tmp_path / "cut" / "samples" / "cmb_exam.jsonl.part").open("a") as file:
        file.write('{"id": "q')  # the disk had half a line more
    folder = measure("cut", tasks)

    assert ran == ["preference", *["cmb_exam"] * 3, "replies"]
    found = read_json(folder / "results.json")
    assert list(found["tasks"]) == list(whole["tasks"])
    for task in whole["tasks"]:
        assert found["tasks"][task]["metrics"] == whole["tasks"][task]["metrics"]
    assert (folder / COMPLETE_FILE).exists()


def test_folder_of_another_evaluation_is_refused(measure: Any) -> None:
    measure("one", "--tasks=preference")
    with pytest.raises(ConfigError, match="differs in options"):
        measure("one", "--tasks=preference", "--limit=1")


def test_limit_takes_items_evenly_spread(measure: Any) -> None:
    folder = measure("few", "--tasks=cmb_exam", "--limit=2")
    assert [sample["id"] for sample in read_samples(samples_of(folder, "cmb_exam"))] == ["q0", "q2"]


def test_adapter_is_measured_on_its_base(
    measure: Any, small_model: Any, tmp_path: Path, small_model_folder: Path
) -> None:
    from peft import get_peft_model

    from medtune.arguments import AdapterArguments, ModelArguments
    from medtune.models.loading import load_model
    from medtune.models.tuners import lora_config

    model = get_peft_model(
        load_model(ModelArguments(str(small_model_folder))), lora_config(AdapterArguments())
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.2)
    model.save_pretrained(tmp_path / "adapter")
    plain = measure("plain", "--tasks=preference")
    adapted = measure("adapted", "--tasks=preference", f"--adapter={tmp_path / 'adapter'}")

    assert read_json(adapted / "results.json")["model"]["adapter"] == str(tmp_path / "adapter")
    (row, *_) = [row for row in compare(plain, adapted) if row["metric"] == "margin"]
    assert row["delta"] != 0


# -- comparisons


@pytest.fixture
def two(measure: Any, tmp_path: Path) -> tuple[Path, Path]:
    """An evaluation, and the same one with both pairs of the preference turned to the worse."""
    before = measure("before", "--tasks=preference,cmb_exam")
    after = Path(shutil.copytree(before, tmp_path / "after"))
    for folder, correct in ((before, 1.0), (after, 0.0)):
        sample = read_samples(samples_of(folder, "preference"))[0]
        sample["counts"]["correct"] = correct
        samples = [{**sample, "id": f"{number}"} for number in range(40)]
        write_lines(folder / "samples" / "preference.jsonl", samples)
    return before, after


def test_comparison_is_paired_by_item(two: tuple[Path, Path]) -> None:
    rows = {(row["task"], row["metric"]): row for row in compare(*two)}
    worse = rows["preference", "accuracy"]

    assert (worse["before"], worse["after"], worse["delta"]) == (1, 0, -1)
    assert (worse["low"], worse["high"]) == (-1, -1) and worse["p_value"] < 0.001
    assert rows["cmb_exam", "accuracy"]["delta"] == 0
    assert [row["task"] for row in find_regressions(list(rows.values()), ["preference"])] == [
        "preference"
    ]
    assert find_regressions(list(rows.values()), ["cmb_exam"]) == []


def test_regression_ends_with_its_own_exit_code(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = two
    arguments = run.EvaluationArguments(
        output_dir=str(after), baseline=str(before), fail_on_regression=True,
        regression_tasks=["preference"],
    )  # fmt: skip
    with pytest.raises(RegressionError, match="preference accuracy") as error:
        run.compare_with(str(before), arguments)
    assert error.value.exit_code == 5
    assert "worse" in capsys.readouterr().out

    arguments.regression_tasks = ["cmb_exam"]
    run.compare_with(str(before), arguments)  # nothing of that kind got worse
    arguments.regression_tasks = ["safety"]
    with pytest.raises(ConfigError, match="expected an evaluation with safety in it"):
        run.compare_with(str(before), arguments)


def test_answers_to_other_prompts_are_not_compared(two: tuple[Path, Path]) -> None:
    before, after = two
    samples = read_samples(samples_of(after, "cmb_exam"))
    samples[1]["prompt"] = "another question"
    write_lines(after / "samples" / "cmb_exam.jsonl", samples)

    with pytest.raises(CheckpointError, match="found another one for item q1 of cmb_exam"):
        compare(before, after)


@pytest.mark.parametrize("damage", ["cut", "none", "no_counts"])
def test_damaged_samples_are_named(two: tuple[Path, Path], damage: str) -> None:
    path = two[1] / "samples" / "cmb_exam.jsonl"
    lines = path.read_text().splitlines()
    if damage == "none":
        path.unlink()
    else:
        lines[1] = lines[1][:40] if damage == "cut" else json.dumps({"id": "q1"})
        path.write_text("\n".join(lines))
    with pytest.raises(CheckpointError, match="cmb_exam.jsonl:"):
        compare(*two)


def test_models_that_were_asked_otherwise_are_not_compared(measure: Any) -> None:
    short = measure("short", "--tasks=replies", "--max_new_tokens=2")
    long = measure("long", "--tasks=replies", "--max_new_tokens=3")
    with pytest.raises(CheckpointError, match="differences in --max_new_tokens"):
        compare(short, long)


def test_items_are_known_by_their_place_in_the_data_not_on_the_disk(
    measure: Any, benchmarks: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(benchmarks, tmp_path / "elsewhere")
    first = measure("first", "--tasks=perplexity,preference")
    second = measure("second", "--tasks=perplexity,preference", f"--data_dir={moved}")

    assert {row["num_items"] for row in compare(first, second)} == {2}


def test_two_items_with_one_id_stay_two(
    measure: Any, benchmarks: Path, write_jsonl: WriteJsonl
) -> None:
    write_jsonl(benchmarks / "cmb_exam" / "more.jsonl", [exam_question(0, question="另一道题")])
    samples = read_samples(samples_of(measure("twice", "--tasks=cmb_exam"), "cmb_exam"))

    assert [sample["id"] for sample in samples] == ["q0", "q0#2", "q1", "q2", "q3"]


def test_worked_examples_go_with_every_way_of_asking(measure: Any) -> None:
    tasks = "--tasks=cmb_exam,cmb_exam_text,cmb_exam_generate,replies"
    folder = measure("shots", tasks, "--num_fewshot=2")
    prompts = [read_samples(samples_of(folder, f"cmb_exam{n}"))[0]["prompt"] for n in ("", "_text")]

    assert [len(prompt) for prompt in prompts] == [5, 5]


def test_model_without_a_chat_template_is_asked_in_plain_text(
    measure: Any, small_model_folder: Path, benchmarks: Path, tmp_path: Path
) -> None:
    plain = Path(shutil.copytree(small_model_folder, tmp_path / "plain"))
    take_chat_format(plain)
    book = "\ue003以前的书。"  # a private-use sign of a scanned book is no mark of ours
    (benchmarks / "pretrain" / "scan.txt").write_text(book, encoding="utf-8")
    flags = [f"--model_name_or_path={plain}", "--apply_chat_template=False"]
    with pytest.raises(MedtuneError, match="chat template"):
        measure("refused", flags[0])
    folder = measure("plain_text", *flags)

    assert len(read_json(folder / "results.json")["tasks"]) == 10
    assert read_samples(samples_of(folder, "perplexity"))[-1]["prompt"] == book


class ForeignModel(LM):
    """A model of lm-eval's own kind: strings in, plain strings and numbers out."""

    created_with = ""

    @classmethod
    def create_from_arg_string(cls, arg_string: str, *_: Any) -> "ForeignModel":
        cls.created_with = arg_string
        return cls()

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        return [(-float(len(answer)), False) for _, answer in (r.args for r in requests)]

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        return [-float(len(request.args[0])) for request in requests]

    def generate_until(self, requests: list[Any]) -> list[str]:
        return [f"答案是{request.args[0][-1]}。" for request in requests]

    def apply_chat_template(
        self, chat_history: list[Any], add_generation_prompt: bool = True
    ) -> str:
        return "".join(message["content"] for message in chat_history) + "B"

    @property
    def tokenizer_name(self) -> str:
        return "foreign"


def test_benchmarks_run_on_a_backend_of_lm_eval(
    measure: Any, monkeypatch: pytest.MonkeyPatch, small_model_folder: Path
) -> None:
    """vLLM is not here: what is passed to it, and that its kind of answers is enough."""
    monkeypatch.setattr("lm_eval.api.registry.get_model", {"vllm": ForeignModel}.__getitem__)
    folder = measure("foreign_model", "--backend=vllm", "--backend_args=dtype=auto")
    results = read_json(folder / "results.json")["tasks"]

    assert ForeignModel.created_with == f"pretrained={small_model_folder},seed=0,dtype=auto"
    assert len(results) == 10
    # -1 a character: exp(1) by character; of the four questions B is right for one.
    per_character = results["perplexity"]["metrics"]["perplexity_per_character"]["value"]
    assert per_character == pytest.approx(math.e)
    assert results["cmb_exam_generate"]["metrics"]["accuracy"]["value"] == 0.25
    assert "stop_rate" not in results["replies"]["metrics"]  # it does not say how a reply ended


def test_two_processes_give_the_numbers_of_one(
    measure: Any, small_model_folder: Path, benchmarks: Path, tmp_path: Path
) -> None:
    """Also where there are fewer items than processes: a case of CMB-Clin has two questions."""
    tasks = "--tasks=cmb_exam,cmb_clin,perplexity"
    one = read_json(measure("one", tasks, "--limit=1") / "results.json")["tasks"]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
        "evaluation.py", f"--model_name_or_path={small_model_folder}", f"--data_dir={benchmarks}",
        f"--output_dir={tmp_path / 'two'}", *FAST, tasks, "--limit=1",
    ]  # fmt: skip
    answer = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=300)

    assert answer.returncode == 0, answer.stderr[-2000:]
    two = read_json(tmp_path / "two" / "results.json")["tasks"]
    assert {task: found["metrics"] for task, found in two.items()} == {
        task: found["metrics"] for task, found in one.items()
    }


# -- mistakes


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--tasks=exam"], "expected some of all"),
        (["--limit=0"], "--limit: expected 1 or more"),
        (["--fail_on_regression"], "expected the evaluation to compare with"),
        (
            ["--tasks=replies", "--baseline=x", "--fail_on_regression"],
            "expected some of what is run",
        ),
        (["--max_length=64", "--max_new_tokens=64"], "expected less than the 64 tokens"),
        (["--judge_url=http://127.0.0.1:1/v1"], "go together"),
        (["--judge_url=ftp://x", "--judge_model=m"], "expected an address"),
        (["--judge_url=http://127.0.0.1:9/v1", "--judge_model=m"], "expected a chat completion"),
        (["--max_length=99999"], "expected at most the model's"),
        (["--stride=600"], "expected at most --max_length"),
        (["--hub_datasets=cmb_exam"], "expected TASK=NAME"),
        (["--tasks=cmb_exam", "--num_fewshot=9"], "expected more questions"),
        (["--baseline=nowhere"], "expected a finished evaluation"),
        (["--adapter=nowhere"], "nowhere"),
        (["--data_dir=nowhere"], "expected a folder"),
        (["--backend=vllm", "--adapter=x"], "clash"),
        (["--task=cmb_exam"], "unknown option --task"),
    ],
)
def test_mistake_is_refused_before_anything_is_measured(
    measure: Any, flags: list[str], words: str
) -> None:
    with pytest.raises(MedtuneError, match=words) as error:
        measure("refused", *flags)
    assert error.value.exit_code == 2


def test_unfinished_results_of_another_program_are_refused(measure: Any, tmp_path: Path) -> None:
    folder = tmp_path / "foreign"
    folder.mkdir()
    write_json(folder / "results.json", {})
    with pytest.raises(ConfigError, match="found other files"):
        measure("foreign")
