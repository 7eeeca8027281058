"""The scoring command: what it joins, what it counts, what stops it.

Reference: the numbers stored for the official code, through files as a user would name them.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medtune.common.errors import ConfigError, DataError, MedtuneError
from medtune.evaluation.score.__main__ import main
from tests.conftest import REPO, WriteJsonl
from tests.evaluation.parity import KEY, PARITY, needs_parity, read_lines

KEY_ROWS = [
    {"id": 1, "exam_type": "医师考试", "exam_class": "执业医师", "answer": "B"},
    {"id": 2, "exam_type": "医师考试", "exam_class": "中级职称", "answer": "AC"},
    {"id": 3, "exam_type": "护理考试", "exam_class": None, "answer": "D"},
]
LOGITS = [[[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]]
LABELS = [[0, 1, -100]]


def score(task: str, gold: Path, predictions: Path, mode: str = "official") -> dict[str, Any]:
    out = predictions.with_name("scores.json")
    words = {"task": task, "gold": gold, "predictions": predictions, "mode": mode, "out": out}
    main([word for name, value in words.items() for word in (f"--{name}", str(value))])
    return json.loads(out.read_text(encoding="utf-8"))


class Scored:
    """Rows to files, files to scores."""

    def __init__(self, folder: Path, write: WriteJsonl) -> None:
        self.folder, self.write = folder, write

    def __call__(
        self, task: str, gold: list[Any], predictions: list[Any], mode: str = "official"
    ) -> dict[str, Any]:
        gold_file = self.write(self.folder / "gold.jsonl", gold)
        return score(task, gold_file, self.write(self.folder / "pred.jsonl", predictions), mode)


@pytest.fixture
def scored(tmp_path: Path, write_jsonl: WriteJsonl) -> Scored:
    return Scored(tmp_path, write_jsonl)


# -- official numbers


@needs_parity
def test_exam_scores_are_the_official_ones(tmp_path: Path) -> None:
    predictions = tmp_path / "answers.json"
    predictions.write_bytes((PARITY / "cmb_score/model_answer.json").read_bytes())
    expected = json.loads((PARITY / "cmb_score/expected_accuracy.json").read_text(encoding="utf-8"))
    official = score("cmb_exam", KEY, predictions)
    strict = score("cmb_exam", KEY, predictions, "strict")

    assert {name: official[name] for name in expected} == expected
    assert (official["accuracy"], official["missing"]) == (4927 / 8972, 270)
    assert strict["accuracy"] > official["accuracy"]


@needs_parity
def test_raw_answers_are_read_and_listed(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    cases = read_lines(PARITY / "cmb_extract/cases.jsonl")
    predictions = write_jsonl(tmp_path / "cases.jsonl", cases)
    result = score("cmb_exam", predictions, predictions)

    assert result["model_answers"] == [case["model_answer"] for case in cases]
    assert result["match_choice"] == [case["match_choice"] for case in cases]
    assert result["accuracy"] == 1


@needs_parity
def test_rouge_and_bleu_are_the_official_ones(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    rows = read_lines(PARITY / "rouge_bleu/edge_cases.jsonl")
    gold = write_jsonl(tmp_path / "gold.jsonl", [{"labels": row["labels"]} for row in rows])
    texts = [{"predict": row["predict"]} for row in rows]
    result = score("rouge_bleu", gold, write_jsonl(tmp_path / "pred.jsonl", texts))

    assert result["unscored"] == sum("raises" in row["chatglm2"] for row in rows) == 4
    for row, case in zip(result["rows"], rows, strict=True):
        if row["is_scored"]:
            assert row["chatglm2"] == pytest.approx(case["chatglm2"], abs=1e-4)
            assert row["glm4"] == pytest.approx(case["glm4"], abs=1e-9)


@needs_parity
@pytest.mark.parametrize("arrangement", ["both", "parted", "by_name"])
def test_perplexity_is_the_official_one(
    tmp_path: Path, write_jsonl: WriteJsonl, arrangement: str
) -> None:
    cases = json.loads((PARITY / "perplexity/cases.json").read_text(encoding="utf-8"))
    gold, own = cases, cases
    if arrangement != "both":
        gold = [{k: case[k] for k in ("name", "labels", "eval_batches")} for case in cases]
        own = [{k: case[k] for k in ("name", "logits")} for case in cases]
    if arrangement == "by_name":
        own = own[::-1]
    gold_file = write_jsonl(tmp_path / "gold.jsonl", gold)
    result = score("perplexity_logits", gold_file, write_jsonl(tmp_path / "p.jsonl", own))

    assert result["measured"] == len(cases)
    assert result["tokens"] == sum(case["expected"]["tokens"] for case in cases)
    for measured, case in zip(result["cases"], cases, strict=True):
        assert measured["name"] == case["name"]
        for name in ("perplexity", "hf_trainer_style_perplexity", "seed000_compute_metrics_value"):
            assert measured[name] == pytest.approx(case["expected"][name], abs=1e-9)


# -- joining and counting


def test_rows_are_joined_by_id_and_the_rest_is_counted(scored: Scored) -> None:
    predictions = [
        {"id": "2", "model_answer": "AC"},
        {"id": 9, "model_answer": "A"},
        "{broken",
        {"id": 1, "model_answer": "B"},
        {"id": 1, "model_answer": "A"},
    ]
    result = scored("cmb_exam", KEY_ROWS, predictions)

    assert result["correct"] == 2
    assert result["accuracy_per_category"] == {"医师考试": 1.0, "护理考试": 0.0}
    assert result["accuracy_per_subcategory"]["护理考试"] == {"unspecified": 0.0}
    counts = {name: result[name] for name in ("missing", "malformed", "unknown_ids", "unread")}
    assert counts == {"missing": 1, "malformed": 1, "unknown_ids": 1, "unread": 1}
    assert result["duplicate_ids"] == 1


PROMPTCBLUE_ROW = {
    "sample_id": "1",
    "task_dataset": "CHIP-STS",
    "target": "是的",
    "answer_choices": ["是的", "不是"],
}


@pytest.mark.parametrize(
    ("task", "gold", "answers", "expected"),
    [
        ("cmb_exam", KEY_ROWS[0], [{"model_answer": text} for text in "BAA"], {"accuracy": 1}),
        (
            "rouge_bleu",
            {"id": 1, "labels": "水"},
            [{"text": t} for t in "水火火"],
            {"rouge-1": 100},
        ),
        ("promptcblue", PROMPTCBLUE_ROW, [{"target": "是的"}, {}, {}], {"Overall": 1}),
        ("perplexity_logits", {"id": 1}, [{"logits": LOGITS}, {}, {}], {"perplexity": 2}),
        ("perplexity_logits", {"name": "1"}, [{"logits": LOGITS}, {}, {}], {"perplexity": 2}),
    ],
)
def test_of_several_predictions_with_one_id_the_first_counts(
    scored: Scored, task: str, gold: Any, answers: list[Any], expected: dict[str, float]
) -> None:
    name = {key: gold[key] for key in ("id", "sample_id", "name") if key in gold}
    result = scored(task, [{"labels": LABELS, **gold}], [{**name, **answer} for answer in answers])

    assert {key: result[key] for key in expected} == pytest.approx(expected, abs=1e-5)
    assert (result["duplicate_ids"], result["missing"]) == (2, 0)


def test_rows_without_ids_are_joined_by_line_and_a_broken_one_keeps_its_place(
    scored: Scored,
) -> None:
    gold = [{"labels": "多喝水"}, {"labels": "休息"}, {"labels": "吃药"}]
    result = scored("rouge_bleu", gold, ["[[[", {"predict": "休息"}, 7, {"predict": "多"}])

    assert [row["is_scored"] for row in result["rows"]] == [False, True, False]
    assert result["rows"][1]["chatglm2"]["rouge-1"] == 100
    assert (result["malformed"], result["unknown_ids"], result["n"]) == (2, 1, 3)


@pytest.mark.parametrize(
    "prediction",
    [
        {"id": 1, "answers": ["做CT后选B", "不是A", "选B"]},
        {"id": 1, "output": "做CT后选B"},
        {"id": 1, "answer_0": "做CT后选B", "answer_1": ""},
        {"id": 1, "model_answer": "做CT后选B"},
    ],
)
def test_strict_reads_what_is_meant(scored: Scored, prediction: dict[str, Any]) -> None:
    strict = scored("cmb_exam", KEY_ROWS[:1], [prediction], "strict")
    official = scored("cmb_exam", KEY_ROWS[:1], [prediction])

    assert (strict["correct"], strict["unread"]) == (1, 0)
    assert official["correct"] == 0


def test_options_of_the_key_are_known_to_the_reader(scored: Scored) -> None:
    gold = [{**KEY_ROWS[0], "option": {"A": "肺炎", "B": "肺结核", "C": ""}}]

    assert scored("cmb_exam", gold, [{"id": 1, "output": "考虑肺结核"}], "strict")["correct"] == 1
    assert scored("cmb_exam", gold, [{"id": 1, "output": "答案是C"}], "strict")["unread"] == 1


def test_a_case_of_extraction_may_stand_in_two_files(scored: Scored) -> None:
    gold = [{"question_type": "多项选择题", "model_answer": "CDAB"}]
    result = scored("cmb_exam", gold, [{"answers": ["CT和DNA，选B"]}])

    assert (result["model_answers"], result["accuracy"]) == (["CDAB"], 1)


def test_strict_rouge_is_not_rounded(scored: Scored) -> None:
    pairs = [{"id": "a", "labels": "多喝水，休息", "predict": "多喝水"}]
    official = scored("rouge_bleu", pairs, pairs)
    strict = scored("rouge_bleu", pairs, pairs, "strict")

    assert official["rouge-1"] == round(strict["rouge-1"], 4) != strict["rouge-1"]
    assert official["chatglm2_aggregate"]["bleu-4"] == official["bleu-4-char"]
    assert official["glm4_aggregate"]["bleu-4"] == official["bleu-4-word"]


@pytest.mark.parametrize(
    ("gold", "predictions"),
    [
        ([{"labels": LABELS}], [{"logits": LOGITS}]),
        ([{"labels": LABELS[0]}], [{"logits": LOGITS[0]}]),
        ([{}], [{"logits": LOGITS, "labels": LABELS}]),
        ([{"labels": LABELS, "logits": LOGITS}], [{}]),
        ([{"labels": LABELS * 2}], LOGITS * 2),
    ],
)
def test_logits_and_labels_may_stand_in_either_file(
    scored: Scored, gold: list[Any], predictions: list[Any]
) -> None:
    assert scored("perplexity_logits", gold, predictions)["perplexity"] == pytest.approx(2)


def test_logits_that_do_not_fit_are_counted_and_left_out(scored: Scored) -> None:
    gold = [{"labels": LABELS}] * 3
    result = scored("perplexity_logits", gold, [{"logits": LOGITS}, {"logits": [["x"]]}])

    assert (result["measured"], result["malformed"], result["missing"]) == (1, 1, 1)
    assert result["perplexity"] == pytest.approx(2)
    assert ["problem" in case for case in result["cases"]] == [False, True, True]


def test_arrays_and_lines_give_the_same(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    answers = [{"id": 1, "model_answer": "B"}, {"id": 3, "model_answer": "D"}]
    lines = write_jsonl(tmp_path / "p.jsonl", answers)
    array = tmp_path / "p.json"
    array.write_text(json.dumps(answers, indent=1), encoding="utf-16")
    key = tmp_path / "key.json"
    key.write_text(json.dumps(KEY_ROWS, ensure_ascii=False), encoding="gb18030")

    assert score("cmb_exam", key, array) == score("cmb_exam", key, lines)


# -- refusals


@pytest.mark.parametrize(
    ("task", "gold", "message"),
    [
        ("cmb_exam", ["{"], ":1: expected JSON"),
        ("cmb_exam", [KEY_ROWS[0], "7"], ":2: expected an object"),
        ("cmb_exam", [], ":1: expected gold rows"),
        ("cmb_exam", [{"id": 1}], ":1: expected text in 'answer'"),
        ("cmb_exam", [KEY_ROWS[0], KEY_ROWS[0]], ":2: expected an id of its own"),
        ("cmb_exam", [KEY_ROWS[0], {"answer": "B"}], ":2: expected an id in every row"),
        ("cmb_exam", [{**KEY_ROWS[0], "option": ["A"]}], ":1: expected an object of letters"),
        ("cmb_exam", [{**KEY_ROWS[0], "exam_type": 7}], ":1: expected text or null"),
        ("cmb_exam", [{**KEY_ROWS[0], "question_type": 7}], ":1: expected text in 'question_type'"),
        ("rouge_bleu", [{"labels": None}], ":1: expected a reference"),
        ("perplexity_logits", [{"labels": [[0, 1.5]]}], ":1: expected a list of token ids"),
        ("perplexity_logits", [{"labels": LABELS, "eval_batches": [[3]]}], "indices below 1"),
    ],
)
def test_bad_gold_is_refused_with_its_line(
    scored: Scored, task: str, gold: list[Any], message: str
) -> None:
    with pytest.raises(DataError, match=message) as error:
        scored(task, gold, [{}])

    assert str(error.value).startswith(str(scored.folder / "gold.jsonl"))
    assert not (scored.folder / "scores.json").exists()


@pytest.mark.parametrize(
    ("task", "bad"),
    [
        ("promptcblue", {**PROMPTCBLUE_ROW, "target": 3}),
        ("promptcblue", {**PROMPTCBLUE_ROW, "task_dataset": "STS"}),
        ("promptcblue", {"sample_id": 1}),
        ("cmb_exam", {"id": 1}),
        ("rouge_bleu", {"labels": None}),
        ("perplexity_logits", {"labels": "x"}),
    ],
)
@pytest.mark.parametrize("is_alone", [True, False])
def test_bad_gold_is_named_with_its_line_after_blank_ones(
    tmp_path: Path, task: str, bad: dict[str, Any], is_alone: bool
) -> None:
    good = {"cmb_exam": KEY_ROWS[1], "promptcblue": {**PROMPTCBLUE_ROW, "sample_id": "2"}}
    rows = [bad] if is_alone else [good.get(task, {"labels": LABELS}), bad]
    gold = tmp_path / "gold.jsonl"
    gold.write_text("\n \n" + "\n\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(DataError) as error:
        score(task, gold, gold)

    line = 3 if is_alone or task == "rouge_bleu" else 5
    assert str(error.value).startswith(f"{gold}:{line}: ")


def test_a_repeated_gold_row_of_promptcblue_is_named_with_both_lines(tmp_path: Path) -> None:
    gold = tmp_path / "gold.jsonl"
    line = json.dumps(PROMPTCBLUE_ROW)
    gold.write_text(f"\n{line}\n\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"gold.jsonl:4: sample_id '1' .* in \S*gold.jsonl:2,"):
        score("promptcblue", gold, gold)


def test_gold_of_bytes_that_are_no_text_is_refused(tmp_path: Path) -> None:
    gold = tmp_path / "gold.jsonl"
    gold.write_bytes('{"answer": "好"}\n'.encode() * 3 + b'{"answer": "\xff"}\n')
    with pytest.raises(DataError, match="gold.jsonl:4: expected UTF-8 text"):
        score("cmb_exam", gold, gold)
    gold.write_text('[{"id": 1},\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"gold.jsonl:1: expected JSON.*line 2"):
        score("cmb_exam", gold, gold)


@pytest.mark.parametrize("name", ["gold", "predictions"])
def test_a_file_that_is_not_there_is_refused(
    tmp_path: Path, write_jsonl: WriteJsonl, name: str
) -> None:
    there = write_jsonl(tmp_path / "there.jsonl", KEY_ROWS)
    files = {"gold": there, "predictions": there, name: tmp_path / "gone.jsonl"}
    with pytest.raises(ConfigError, match=f"--{name} .*gone.jsonl: expected a file"):
        score("cmb_exam", **files)


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_read(
    tmp_path: Path,
) -> None:
    words = ["--task", "cmb_exam", "--gold", "gone", "--predictions", "gone", "--out"]
    with pytest.raises(ConfigError, match="found a folder"):
        main([*words, str(tmp_path)])
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="expected a path to write to"):
        main([*words, str(tmp_path / "file" / "out.json")])


def test_a_users_mistake_ends_with_2_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "medtune.evaluation.score", "--task", "cmb", "--gold", "x"]
    result = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)

    assert result.returncode == 2
    assert "invalid choice: 'cmb'" in result.stderr
    assert "Traceback" not in result.stderr


# -- whatever a model writes

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "name", "answers", "answer_0", "model_answer", "predict", "logits", "labels"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
FILES = st.one_of(
    st.binary(),
    st.lists(JSON_VALUES, max_size=4).map(lambda rows: "\n".join(map(json.dumps, rows)).encode()),
    st.lists(JSON_VALUES, max_size=4).map(lambda rows: json.dumps(rows).encode()),
    st.text(alphabet='[]{}",:1aAB\n\\', max_size=30).map(str.encode),
)
GOLD: dict[str, list[Any]] = {
    "cmb_exam": KEY_ROWS,
    "rouge_bleu": [{"labels": "多喝水"}, {"labels": "休息"}],
    "perplexity_logits": [{"name": "a", "labels": LABELS}, {"name": "b", "labels": LABELS[0]}],
    "promptcblue": [PROMPTCBLUE_ROW],
}


@pytest.mark.parametrize("mode", ["official", "strict"])
@pytest.mark.parametrize("task", list(GOLD))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=FILES)
def test_predictions_of_any_kind_never_abort(
    tmp_path: Path, write_jsonl: WriteJsonl, task: str, mode: str, content: bytes
) -> None:
    gold = write_jsonl(tmp_path / "gold.jsonl", GOLD[task])
    predictions = tmp_path / "predictions.jsonl"
    predictions.write_bytes(content)

    result = score(task, gold, predictions, mode)
    assert {"missing", "malformed", "duplicate_ids"} <= set(result)
    assert {"unknown_ids", "unused_predictions"} & set(result)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=FILES, task=st.sampled_from(list(GOLD)))
def test_gold_of_any_kind_is_scored_or_refused(tmp_path: Path, content: bytes, task: str) -> None:
    gold = tmp_path / "gold.jsonl"
    gold.write_bytes(content)
    try:
        score(task, gold, gold)
    except MedtuneError as error:
        assert error.exit_code == 2
        assert str(error).startswith(str(gold))


def test_promptcblue_goes_to_its_own_scorer(scored: Scored) -> None:
    assert scored("promptcblue", [PROMPTCBLUE_ROW], [PROMPTCBLUE_ROW])["Overall"] == 1
