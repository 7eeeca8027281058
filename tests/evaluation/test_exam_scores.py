"""Accuracy on CMB-Exam: strings and weights of classes officially, sets of letters strictly."""

import json

import pytest

from medtune.evaluation.scorers.cmb.scores import (
    UNSPECIFIED,
    ExamQuestion,
    add_counts,
    official_counts,
    score_exam,
    strict_counts,
)
from tests.evaluation.exam_answers import ONE, SEVERAL
from tests.evaluation.parity import KEY, PARITY, needs_parity

QUESTIONS = [
    ExamQuestion("A", ONE, "医师考试", "执业医师"),
    ExamQuestion("B", ONE, "医师考试", "执业医师"),
    ExamQuestion("C", ONE, "医师考试", "执业医师"),
    ExamQuestion("AC", SEVERAL, "医师考试", "中级职称"),
    ExamQuestion("D", ONE),
]


@needs_parity
def test_official_accuracies_are_those_of_the_official_code() -> None:
    answers = json.loads((PARITY / "cmb_score/model_answer.json").read_text(encoding="utf-8"))
    answer_of = {row["id"]: row["model_answer"] for row in answers}
    expected = json.loads((PARITY / "cmb_score/expected_accuracy.json").read_text(encoding="utf-8"))
    key = json.loads(KEY.read_text(encoding="utf-8"))
    questions = [
        ExamQuestion(row["answer"], row["question_type"], row["exam_type"], row["exam_class"])
        for row in key
    ]
    counts = [official_counts(row["answer"], answer_of.get(row["id"], "")) for row in key]
    result = score_exam(questions, counts)

    for name, accuracies in expected["accuracy_per_subcategory"].items():
        assert result["accuracy_per_subcategory"][name] == pytest.approx(accuracies, abs=1e-9)
    categories = expected["accuracy_per_category"]
    assert result["accuracy_per_category"] == pytest.approx(categories, abs=1e-9)


def test_classes_weigh_alike_officially_and_questions_alike_otherwise() -> None:
    chosen = ["A", "B", "D", "AC", ""]
    pairs = zip(QUESTIONS, chosen, strict=True)
    result = score_exam(QUESTIONS, [official_counts(q.answer, c) for q, c in pairs])

    assert result["accuracy_per_subcategory"] == {
        "医师考试": {"执业医师": 2 / 3, "中级职称": 1.0},
        UNSPECIFIED: {UNSPECIFIED: 0.0},
    }
    assert result["accuracy_per_category"] == {"医师考试": (2 / 3 + 1) / 2, UNSPECIFIED: 0.0}
    assert result["accuracy"] == 3 / 5
    assert result["per_type"]["医师考试"]["accuracy"] == 3 / 4
    assert result["per_question_type"][ONE] == {
        "correct": 2,
        "items": 4,
        "unread": 1,
        "accuracy": 0.5,
    }


@pytest.mark.parametrize(
    ("key", "chosen", "officially", "strictly"),
    [
        ("AC", "AC", 1, 1),
        ("AC", "CA", 0, 1),
        ("EB", "BE", 0, 1),  # the key holds four answers out of order
        ("EB", "EB", 1, 1),
        ("A", "AA", 0, 1),
        ("A", " A", 0, 0),
        ("AC", "A", 0, 0),
        ("A", "", 0, 0),
    ],
)
def test_strings_are_compared_officially_and_sets_strictly(
    key: str, chosen: str, officially: int, strictly: int
) -> None:
    assert official_counts(key, chosen)["correct"] == officially
    assert strict_counts(key, chosen)["correct"] == strictly


def test_what_could_not_be_read_is_counted() -> None:
    counted = [official_counts("A", ""), strict_counts("A", None), strict_counts("A", "A")]

    assert add_counts(counted) == {"correct": 1, "items": 3, "unread": 2}
    assert add_counts([]) == {"correct": 0, "items": 0, "unread": 0}


def test_letters_are_those_of_the_filled_options() -> None:
    assert ExamQuestion("A", ONE, options={"A": "肝", "B": "肺", "C": " "}).letters == "AB"
    assert ExamQuestion("A", ONE).letters == "ABCDEFG"
