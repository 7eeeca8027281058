"""What is found of a chain, in its order; what is missing; what is damaged."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medtune.common.errors import CheckpointError, ConfigError, DataError, MedtuneError
from medtune.common.files import read_json, write_json
from medtune.evaluation.results.comparison import compare
from medtune.report import comparing
from medtune.report.blocks import Bullets
from medtune.report.chain import Chain, find_chain
from medtune.report.comparing import Step, compare_pair
from medtune.report.documents import Document
from medtune.report.evaluations import Evaluation, as_text, build_task, read_evaluation
from medtune.report.options import ReportArguments
from medtune.report.sections.benchmarks import build_benchmarks
from medtune.report.sections.verdict import build_verdict
from medtune.report.writing import write_report
from tests.report.building import results_of, write_evaluation, write_run

TINY = ReportArguments(profile="tiny")


def found_in(outputs: Path, profile: str = "tiny") -> Chain:
    return find_chain(ReportArguments(outputs=str(outputs), profile=profile))


def missing_in(outputs: Path) -> list[str]:
    return [text.en for text in found_in(outputs).missing]


# -- what is there


def test_a_chain_is_found_by_the_names_of_its_profile(whole_chain: Path) -> None:
    chain = found_in(whole_chain)

    assert [one.name for one in chain.evaluations] == ["base", "pt", "sft", "dpo"]
    assert [run.folder.name for run in chain.runs] == [
        "tiny-pt-v1", "tiny-pt-merged", "tiny-sft-v1", "tiny-sft-merged", "tiny-dpo-v1",
        "tiny-dpo-merged",
    ]  # fmt: skip
    assert chain.missing == []


def test_the_same_runs_are_found_from_the_last_evaluation_alone(whole_chain: Path) -> None:
    folder = str(whole_chain / "tiny-dpo-evaluation")
    chain = find_chain(ReportArguments(evaluations=[folder], output_file="r.html"))

    assert [run.folder for run in chain.runs] == [run.folder for run in found_in(whole_chain).runs]
    assert [one.name for one in chain.evaluations] == ["dpo"]


def test_evaluations_keep_the_order_in_which_they_are_given(whole_chain: Path) -> None:
    folders = [str(whole_chain / f"tiny-{stage}-evaluation") for stage in ("sft", "base", "pt")]
    chain = find_chain(ReportArguments(evaluations=folders, output_file="r.html"))

    assert [one.name for one in chain.evaluations] == ["sft", "base", "pt"]
    assert [(step.before.name, step.after.name) for step in chain.steps] == [
        ("sft", "base"),
        ("base", "pt"),
    ]
    assert chain.overall is not None and chain.overall.after.name == "pt"


def test_the_stage_of_a_model_is_told_by_its_lineage_too(outputs: Path) -> None:
    for file in outputs.glob("*-evaluation/results.json"):
        results = read_json(file)
        del results["model"]["stage"]
        write_json(file, results)

    assert [one.name for one in found_in(outputs).evaluations] == ["base", "pt", "sft", "dpo"]


def test_two_evaluations_of_one_stage_go_by_their_folders(outputs: Path) -> None:
    second = write_evaluation(outputs / "second", "sft", outputs / "tiny-sft-merged")
    folders = [outputs / "tiny-pt-evaluation", outputs / "tiny-sft-evaluation", second]
    chain = find_chain(ReportArguments(evaluations=[*map(str, folders)], output_file="r.html"))

    assert [one.name for one in chain.evaluations] == ["pt", "tiny-sft-evaluation", "second"]


def test_evaluations_whose_folders_have_one_name_go_by_their_paths(tmp_path: Path) -> None:
    folders = [write_evaluation(tmp_path / name / "run", "sft", "m") for name in ("a", "b", "c")]
    chain = find_chain(ReportArguments(evaluations=[*map(str, folders)], output_file="r.html"))

    assert [one.name for one in chain.evaluations] == [str(folder) for folder in folders]


def test_an_evaluation_without_lineage_leads_on_by_the_path_of_its_model(outputs: Path) -> None:
    folder = outputs / "tiny-sft-evaluation"
    (folder / "lineage.json").unlink()
    chain = find_chain(ReportArguments(evaluations=[str(folder)], output_file="r.html"))

    assert [run.folder.name for run in chain.runs][-1] == "tiny-sft-merged"


# -- what is missing


def test_a_chain_without_dpo_says_so(outputs: Path) -> None:
    for folder in outputs.glob("tiny-dpo-*"):
        shutil.rmtree(folder)

    assert missing_in(outputs) == [
        "No run was found for: DPO, preference optimisation.",
        "No evaluation of the model: DPO.",
    ]


def test_runs_without_evaluations_are_a_report(outputs: Path) -> None:
    for folder in outputs.glob("*-evaluation"):
        shutil.rmtree(folder)
    write_report(TINY)

    assert len(missing_in(outputs)) == 4
    assert "fewer than two evaluations" in (outputs / "tiny-report.html").read_text("utf-8")


def test_evaluations_of_models_made_elsewhere_are_a_report(tmp_path: Path) -> None:
    folders = [
        write_evaluation(tmp_path / f"{stage}-evaluation", stage, "hub/name")
        for stage in ("base", "sft")
    ]
    page = tmp_path / "r.html"
    write_report(ReportArguments(evaluations=[*map(str, folders)], output_file=str(page)))

    assert "medtune did not make these models" in page.read_text("utf-8")


def test_an_interrupted_run_is_shown_as_unfinished(outputs: Path) -> None:
    for folder in outputs.glob("tiny-dpo-*"):
        shutil.rmtree(folder)
    run = write_run(outputs / "tiny-dpo-v1", "dpo", outputs / "tiny-sft-merged", is_finished=False)
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 21, "lo')  # the kill came here

    assert f"{run}: no COMPLETE, it is not finished." in missing_in(outputs)
    write_report(TINY)
    assert "unfinished" in (outputs / "tiny-report.html").read_text("utf-8")


def test_an_evaluation_that_has_no_results_yet_is_missing(outputs: Path) -> None:
    folder = outputs / "tiny-sft-evaluation"
    (folder / "results.json").unlink()

    assert f"{folder}: the evaluation was interrupted, there are no results yet." in missing_in(
        outputs
    )


def test_an_unfinished_evaluation_is_shown_and_not_compared(outputs: Path) -> None:
    folder = outputs / "tiny-sft-evaluation"
    (folder / "COMPLETE").unlink()
    chain = found_in(outputs)

    assert f"{folder}: no COMPLETE, it is not finished." in [text.en for text in chain.missing]
    assert [len(step.changes) > 0 for step in chain.steps] == [True, False, False]
    (steps,) = [b for b in build_verdict(chain).blocks if isinstance(b, Bullets)][:1]
    assert "not compared" in steps.items[1].en and "not compared" not in steps.items[0].en


def test_a_task_or_a_metric_that_one_model_lacks_is_a_dash(outputs: Path) -> None:
    file = outputs / "tiny-base-evaluation/results.json"
    results = read_json(file)
    del results["tasks"]["cmb_exam"]
    results["tasks"]["safety"]["metrics"] = {}
    write_json(file, results)
    write_report(TINY)

    rows = (outputs / "tiny-report.md").read_text("utf-8").splitlines()
    (exam,) = [row for row in rows if row.startswith("| 准确率; ")]
    assert exam.split(" | ")[1] == "–"


# -- what is wrong


def test_nothing_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected none-pt-v1 or another folder"):
        found_in(tmp_path, "none")


def test_a_folder_that_no_evaluation_wrote_is_refused(tmp_path: Path) -> None:
    arguments = ReportArguments(evaluations=[str(tmp_path)], output_file="r.html")
    with pytest.raises(ConfigError, match=r"found no results\.json"):
        find_chain(arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "found neither"),
        ({"profile": "tiny", "evaluations": ["x"]}, "found both"),
        ({"evaluations": ["x"]}, "expected --output_file"),
        ({"profile": "tiny", "output_file": "r.md"}, "ends in .html"),
        ({"profile": "tiny", "language": "fr"}, "expected zh or en"),
    ],
)
def test_options_that_say_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ReportArguments(**options)


DAMAGED = [
    ("tiny-sft-evaluation/results.json", '{"tasks": ', CheckpointError),
    ("tiny-sft-evaluation/results.json", '{"tasks": []}', CheckpointError),
    ("tiny-sft-evaluation/samples/safety.jsonl", '{"id": "x"}\n{', DataError),
    ("tiny-sft-evaluation/samples/replies.jsonl", "[1]\n", DataError),
    ("tiny-sft-evaluation/samples/replies.jsonl", '{"counts": {"safe": "yes"}}', CheckpointError),
    ("tiny-sft-v1/metrics.jsonl", '{"step": 1}\n{"st', DataError),
    ("tiny-sft-v1/metrics.jsonl", '{"step": 1, "loss": "low"}\n', CheckpointError),
    ("tiny-sft-v1/ledger.json", '{"rows": 3}', CheckpointError),
    ("tiny-sft-v1/ledger.json", "[]", CheckpointError),
    ("tiny-sft-v1/train_results.json", '{"steps": "many"}', CheckpointError),
    ("tiny-sft-v1/lineage.json", '{"inputs": 1}', CheckpointError),
    ("tiny-sft-v1/COMPLETE", "{", CheckpointError),
]


@pytest.mark.parametrize(("name", "content", "error"), DAMAGED)
def test_a_damaged_file_is_named_and_nothing_is_written(
    outputs: Path, name: str, content: str, error: type[MedtuneError]
) -> None:
    (outputs / name).write_text(content, encoding="utf-8")
    with pytest.raises(error, match=name.replace(".", r"\.")) as refused:
        write_report(TINY)

    assert refused.value.exit_code == 2
    assert list(outputs.glob("*report*")) == []


def places_in(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value of nested objects and arrays."""
    items = value.items() if isinstance(value, dict) else []
    return [above, *(place for key, one in items for place in places_in(one, (*above, key)))]


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3),
    st.just([]), st.just({}), st.just([1]), st.just({"x": 1}),
)  # fmt: skip
RESULTS = results_of("sft", "m")


@settings(max_examples=150, deadline=None)
@example(("tasks", "cmb_exam", "metrics", "accuracy", "num_items"), float("nan"))
@example(("tasks", "cmb_exam", "metrics", "accuracy", "value"), float("inf"))
@given(place=st.sampled_from([p for p in places_in(RESULTS) if p]), junk=JUNK)
def test_any_value_may_be_damaged_and_no_traceback_follows(
    place: tuple[Any, ...], junk: Any
) -> None:
    results = copy.deepcopy(RESULTS)
    *above, last = place
    parent = results
    for key in above:
        parent = parent[key]
    parent[last] = junk
    document = Document(Path("results.json"), json.loads(json.dumps(results)))
    try:
        tasks = {name: build_task(document, name) for name in document.mapping("tasks")}
        for key in ("path", "adapter", "stage"):
            document.text("model", key)
        one = Evaluation(Path("sft-evaluation"), "sft", document, tasks, False)
        build_sections_of(one)
    except CheckpointError as error:
        assert "results.json: expected" in str(error)


def build_sections_of(one: Evaluation) -> None:
    """Build every part that reads results alone."""
    chain = Chain("x", [one, one], [Step(one, one, {})], None, [], [])

    build_benchmarks(chain)
    build_verdict(chain)


# -- what changed


def test_better_is_up_or_down_as_the_metric_says(whole_chain: Path) -> None:
    before, after = found_in(whole_chain).evaluations[:2]
    changes = compare_pair(before, after).changes

    assert changes["cmb_exam", "accuracy"].delta > 0
    assert changes["cmb_exam", "accuracy"].is_better is True
    assert changes["perplexity", "perplexity"].delta < 0
    assert changes["perplexity", "perplexity"].is_better is True
    backwards = compare_pair(after, before).changes
    assert backwards["perplexity", "perplexity"].is_better is False
    assert changes["replies", "length_tokens"].is_better is None


@pytest.mark.parametrize(
    ("low", "high", "is_significant"),
    [(0.1, 0.3, True), (-0.3, -0.1, True), (-0.1, 0.1, False), (0.0, 0.2, False),
     (None, None, False)],
)  # fmt: skip
def test_a_change_is_significant_if_its_interval_excludes_zero(
    whole_chain: Path,
    monkeypatch: pytest.MonkeyPatch,
    low: float | None,
    high: float | None,
    is_significant: bool,
) -> None:
    row = {"task": "safety", "metric": "safe_rate", "delta": 0.1, "low": low, "high": high}
    monkeypatch.setattr(comparing, "compare", lambda before, after: [row])
    before, after = found_in(whole_chain).evaluations[:2]
    step = compare_pair(before, after)

    assert step.changes["safety", "safe_rate"].is_significant is is_significant
    assert (step.moved(is_better=True, is_leading=True) != []) is is_significant


def test_the_first_metric_of_a_task_leads(whole_chain: Path) -> None:
    step = found_in(whole_chain).steps[-1]

    assert step.judged(is_leading=True) == [
        ("perplexity", "perplexity"), ("cmb_exam", "accuracy"), ("safety", "safe_rate"),
        ("replies", "fact_recall"),
    ]  # fmt: skip
    assert step.judged(is_leading=False) == [
        ("cmb_exam", "ece"), ("replies", "stop_rate"), ("replies", "repetition"),
    ]  # fmt: skip


def test_prompts_are_shown_as_they_were_asked() -> None:
    turns = [{"role": "user", "content": "甲"}, {"role": "assistant", "content": "乙"}]

    assert as_text("x") == "x"
    assert as_text(turns[:1]) == "甲"
    assert as_text(turns) == "[user] 甲\n[assistant] 乙"
    assert as_text(["A", "B"]) == "A, B"
    assert as_text(None) == ""


def test_a_sample_of_likelihoods_has_no_text_to_be_read_as_such(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "e", "sft", "m")
    row = {"id": 7, "prompt": "q", "output": {"A": -1.5}, "gold": ["A", "B"], "counts": {}}
    (folder / "samples/x.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    evaluation = read_evaluation(folder)

    assert evaluation is not None
    (sample,) = evaluation.samples("x")
    assert (sample.id, sample.output, sample.gold) == ("7", "{'A': -1.5}", "A, B")
    assert list(evaluation.samples("no_such_task")) == []


def test_the_comparison_of_the_evaluation_package_is_the_one_that_is_shown(outputs: Path) -> None:
    folders = [outputs / f"tiny-{stage}-evaluation" for stage in ("base", "sft")]
    for folder in folders:
        results = read_json(folder / "results.json")
        results["tasks"] = {"safety": results["tasks"]["safety"]}
        write_json(folder / "results.json", results)

    rows = compare(*folders)
    (safe,) = [row for row in rows if row["metric"] == "safe_rate"]
    assert safe["task"] == "safety"
    assert safe["delta"] == pytest.approx(5 / 12)
    assert safe["low"] < safe["delta"] < safe["high"]
    assert 0 < safe["p_value"] < 1
