"""PromptCBLUE: what the official code made of published and of damaged predictions.

Reference: numbers and structures that the official parser and evaluators gave, beside the checkout.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from medtune.evaluation.scorers.promptcblue import generation_of, parse, score_rows
from tests.conftest import REPO

PARITY = REPO.parent / "shared" / "parity" / "promptcblue"
TREES = REPO.parent / "shared" / "data" / "promptcblue" / "text2dt_rendered.json"
TOLERANCE = 1e-9

pytestmark = pytest.mark.skipif(
    not PARITY.is_dir(), reason="../shared with the official numbers is not beside this checkout"
)


def lines_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (PARITY / name).read_text(encoding="utf-8").splitlines()]


def content_of(name: str) -> Any:
    return json.loads((PARITY / name).read_text(encoding="utf-8"))


def numbers_of(scores: dict[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    for name, value in scores.items():
        if isinstance(value, dict):
            yield from numbers_of(value, f"{path}{name}/")
        else:
            yield f"{path}{name}", value


def assert_agrees(scores: dict[str, Any], expected: dict[str, Any]) -> None:
    ours, theirs = dict(numbers_of(scores)), dict(numbers_of(expected))
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, abs=TOLERANCE, rel=0)


@pytest.mark.parametrize("name", ["toy16_v1", "toy16_head", "head18"])
@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        ("predictions.jsonl", "expected_scores.json"),
        ("gold.jsonl", "expected_scores_gold_vs_gold.json"),
    ],
)
def test_scores_are_the_official_ones(name: str, predictions: str, expected: str) -> None:
    scores = score_rows(lines_of(f"{name}/gold.jsonl"), lines_of(f"{name}/{predictions}"))

    assert_agrees(scores, content_of(f"{name}/{expected}"))
    assert scores["malformed"] == scores["missing"] == scores["unused_predictions"] == 0


def test_the_score_map_is_the_official_one() -> None:
    scores = score_rows(lines_of("head18/gold.jsonl"), lines_of("head18/predictions.jsonl"))
    expected = content_of("head18/expected_official_score_map.json")

    assert set(scores["official_score_map"]) == set(expected)
    assert_agrees(scores["official_score_map"], expected)


def test_empty_predictions_reach_the_official_floor() -> None:
    gold = lines_of("toy16_v1/gold.jsonl")
    expected = content_of("toy16_empty/expected_scores.json")

    assert_agrees(score_rows(gold, lines_of("toy16_empty/predictions.jsonl")), expected)
    assert_agrees(score_rows(gold, []), expected)  # a missing prediction counts as an empty one


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("toy16_v1/gold.jsonl", "toy16_v1/gold_structured.json"),
        ("toy16_v1/gold.jsonl", "toy16_v1/official_dev_structured.json"),
        ("toy16_v1/predictions.jsonl", "toy16_v1/expected_pred_structured.json"),
        ("toy16_head/gold.jsonl", "toy16_head/gold_structured.json"),
        ("toy16_head/predictions.jsonl", "toy16_head/expected_pred_structured.json"),
        ("head18/gold.jsonl", "head18/gold_structured.json"),
        ("head18/predictions.jsonl", "head18/expected_pred_structured.json"),
        ("official_toy_test/test_predictions.json", "official_toy_test/results.json"),
        ("edge_head/inputs.jsonl", "edge_head/expected_structured.json"),
    ],
)
def test_structures_are_the_official_ones(rows: str, expected: str) -> None:
    texts = lines_of(rows)
    generation = generation_of(row["task_dataset"] for row in texts)
    found: dict[str, list[Any]] = {}
    for row in texts:
        answer = parse(row["task_dataset"], row, row["target"], generation).answer
        found.setdefault(row["task_dataset"], []).append((row["sample_id"], sorted_terms(answer)))
    official = {
        task: [(row["sample_id"], sorted_terms(row["answer"])) for row in structures]
        for task, structures in content_of(expected).items()
        if structures
    }

    assert found == official


def sorted_terms(answer: Any) -> Any:
    """The official code gives normalised terms in the order of a set, another one in each run."""
    is_terms = isinstance(answer, list) and all(r.get("type") == "normalization" for r in answer)
    return sorted(answer, key=lambda record: record["entity"]) if is_terms else answer


def scorer_cases() -> list[dict[str, Any]]:
    return content_of("edge_head/scorer_cases.json") if PARITY.is_dir() else []


@pytest.mark.parametrize("case", scorer_cases(), ids=lambda case: case["name"])
def test_structured_answers_get_the_official_scores(case: dict[str, Any]) -> None:
    gold = [row | {"task_dataset": case["task"]} for row in case["gold"]]
    scores = score_rows(gold, case["pred"])
    if isinstance(case["expected"], str):
        assert case["expected"] == "raises AssertionError"  # ids of another sample
        assert scores["missing"] == scores["unused_predictions"] == 1
        return

    names = [name for name in ("precision", "recall", "f1") if name in scores[case["task"]]]
    names = names or ["rouge1", "rouge2", "rougeL"]
    assert [scores[case["task"]][n] for n in names] == pytest.approx(case["expected"], abs=1e-9)


def official_crashes() -> list[dict[str, Any]]:
    return content_of("edge_head/official_crashes.json") if PARITY.is_dir() else []


@pytest.mark.parametrize("row", official_crashes(), ids=lambda row: row["task_dataset"])
def test_where_the_official_code_crashes_the_row_has_no_answer(row: dict[str, Any]) -> None:
    parsed = parse(row["task_dataset"], row, row["target"])

    assert parsed.answer is None
    assert parsed.malformed


def test_every_rendered_tree_is_read_as_the_tree_it_was_rendered_from() -> None:
    rows = [json.loads(line) for line in TREES.read_text(encoding="utf-8").splitlines()]

    assert len(rows) == 157
    for row in rows:
        assert parse("Text2DT", row, row["target"]).answer == row["tree"]


def test_the_order_of_rows_does_not_matter_and_a_part_can_be_scored() -> None:
    gold, predictions = lines_of("head18/gold.jsonl"), lines_of("head18/predictions.jsonl")
    part = [row for row in gold if row["task_dataset"] in ("CHIP-CTC", "MedDG", "Text2DT")]
    whole = score_rows(gold, predictions[::-1])

    assert_agrees(whole, content_of("head18/expected_scores.json"))
    scores = score_rows(part, predictions)
    assert [scores[task] for task in ("CHIP-CTC", "MedDG", "Text2DT")] == [
        whole[task] for task in ("CHIP-CTC", "MedDG", "Text2DT")
    ]
    assert scores["unused_predictions"] == len(gold) - len(part)
