"""The generated sample data: the held-out part is held out, and its answers are not given away.

References: the files on disk, read as any user would; the tables that they are made from.
"""

import copy
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import REPO

DATA = REPO / "data"
EXAM = DATA / "eval/cmb_exam/medgen.json"
KNOWN, PRETRAIN_ONLY = "读过并问过的知识", "只读过的知识"


@pytest.fixture(scope="module")
def generator() -> Iterator[SimpleNamespace]:
    """The generator's modules; they are no package of the project, so found by path."""
    sys.path.insert(0, str(DATA))
    try:
        import build_data
        from medgen import checks, facts, reward, tables

        yield SimpleNamespace(
            build_data=build_data, checks=checks, facts=facts, reward=reward, tables=tables
        )
    finally:
        sys.path.remove(str(DATA))


@pytest.fixture(scope="module")
def exam() -> list[dict[str, Any]]:
    return json.loads(EXAM.read_text(encoding="utf-8"))


@pytest.fixture()
def singles(exam: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [copy.deepcopy(q) for q in exam if q["question_type"] == "单项选择题"]


def json_lines(*folders: str) -> list[dict[str, Any]]:
    files = sorted(file for folder in folders for file in (DATA / folder).glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.open(encoding="utf-8")]


def training_text() -> str:
    files = [f for name in ("pretrain", "finetune", "reward") for f in (DATA / name).iterdir()]
    return "".join("".join(file.read_text(encoding="utf-8").split()) for file in files)


def test_files_on_disk_are_what_the_generator_writes(generator: SimpleNamespace) -> None:
    assert generator.build_data.stale_files(generator.build_data.build()) == []


def test_a_file_that_nobody_counts_is_named(
    generator: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("eval/left.jsonl", "reward/same.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    monkeypatch.setattr(generator.build_data, "DATA_DIR", tmp_path)

    found = generator.build_data.stale_files({"reward/same.jsonl": "{}", "eval/new.json": "[]"})

    assert found == ["eval/new.json", "eval/left.jsonl"]


def test_exam_has_the_schema_of_cmb_exam(exam: list[dict[str, Any]]) -> None:
    fields = (
        *("id", "exam_type", "exam_class", "exam_subject"),
        *("question", "answer", "question_type", "option"),
    )
    assert all(tuple(question) == fields for question in exam)
    assert len({question["id"] for question in exam}) == len(exam) >= 300
    for question in exam:
        assert list(question["option"]) == list("ABCDE")[: len(question["option"])]
        assert set(question["answer"]) < set(question["option"])
        assert (len(question["answer"]) == 1) == (question["question_type"] == "单项选择题")


def test_half_of_the_exam_is_on_facts_that_no_conversation_asks_for(
    exam: list[dict[str, Any]],
) -> None:
    classes = Counter(question["exam_class"] for question in exam)
    assert set(classes) == {KNOWN, PRETRAIN_ONLY}
    assert 0.45 <= classes[KNOWN] / len(exam) <= 0.55


@pytest.mark.parametrize("asked_in", ("exam", "quiz", "pairs"))
def test_no_held_out_question_occurs_in_any_text_trained_on(
    exam: list[dict[str, Any]], asked_in: str
) -> None:
    questions = {
        "exam": [question["question"] for question in exam],
        "quiz": [row["question"] for row in json_lines("eval")],
        "pairs": [row["question"] for row in json_lines("eval/reward")],
    }[asked_in]
    text = training_text()

    assert [q for q in questions if "".join(q.split()) in text] == []


def test_right_letters_are_balanced(singles: list[dict[str, Any]]) -> None:
    for size in (4, 5):
        answers = [q["answer"] for q in singles if len(q["option"]) == size]
        counts = Counter(answers)
        assert len(counts) == size
        assert all(abs(n / len(answers) - 1 / size) <= 0.1 for n in counts.values())


def test_options_of_a_question_differ_in_the_value_alone(
    generator: SimpleNamespace, singles: list[dict[str, Any]]
) -> None:
    facts = generator.facts.build_facts(generator.tables.load_tables())
    by_question = {fact.eval_question: fact for fact in facts}
    for question in singles:
        fact = by_question[question["question"]]
        values = {
            other.entity.name: generator.facts.value_of(other)
            for other in facts
            if (other.entity.kind, other.attribute) == (fact.entity.kind, fact.attribute)
        }
        sentences = generator.facts.statements(fact)
        right = question["option"][question["answer"]]
        template = next(
            s
            for s in sentences
            if right == s.format(n=fact.entity.name, v=values[fact.entity.name])
        )
        possible = {template.format(n=fact.entity.name, v=value) for value in values.values()}
        assert set(question["option"].values()) <= possible


def lengthen(question: dict[str, Any]) -> None:
    question["option"][question["answer"]] += "，这一点已经反复说明"


def move_to_front(question: dict[str, Any]) -> None:
    options, answer = question["option"], question["answer"]
    options["A"], options[answer] = options[answer], options["A"]
    question["answer"] = "A"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lengthen, "choosing the longest option"),
        (move_to_front, "choosing A"),
        (lambda question: question["option"].update(B=question["option"]["A"]), "bad question"),
        (lambda question: question.update(answer="G"), "bad question"),
        (lambda question: question.update(question_type="多项选择题"), "bad question"),
        (lambda question: question.update(question="痛风挂什么科？"), "occurs twice"),
    ],
)
def test_an_exam_that_gives_its_answers_away_is_not_written(
    generator: SimpleNamespace, singles: list[dict[str, Any]], spoil: Any, message: str
) -> None:
    generator.checks.check_exam(singles)
    for question in singles:
        spoil(question)

    with pytest.raises(ValueError, match=message):
        generator.checks.check_exam(singles)


def test_held_out_pairs_ask_about_combinations_that_training_never_pairs(
    generator: SimpleNamespace,
) -> None:
    tables = generator.tables.load_tables()
    facts = generator.facts.build_facts(tables)
    train, held = generator.reward.build_reward(tables, facts)
    items = [item for item in generator.reward.all_items(tables) if item.held_out]
    combinations = {(item.kind, item.entity.name, item.slots.get("c")) for item in items}

    assert sum(map(len, held.values())) >= 200
    assert set(held) == {item.kind for item in items}
    assert len(combinations) == len(items) >= 120
    wording = generator.tables.load_wording("reward")
    trained = {pair["question"] for pairs in train.values() for pair in pairs}
    for item in items:
        if item.entity.name != generator.reward.TETRACYCLINE:
            asked = {text.format(**item.slots) for text in wording[item.kind]["questions"]}
            assert not asked & trained


def test_held_out_pairs_are_grouped_by_what_they_ask_about() -> None:
    files = {file.stem for file in (DATA / "eval/reward").iterdir()}

    assert files == {
        "aid", "caution", "contra", "interaction", "overdose", "pregnancy", "red_flags",
    }  # fmt: skip


def test_key_values_of_the_quiz_are_in_its_references() -> None:
    rows = json_lines("eval")
    assert len(rows) >= 50
    for row in rows:
        assert row["key_values"]
        assert all(value in row["reference"] for value in row["key_values"])


def test_every_task_of_promptcblue_has_rows_to_try(generator: SimpleNamespace) -> None:
    rows = json_lines("eval/promptcblue")
    generator.checks.check_promptcblue(rows)

    with pytest.raises(ValueError, match="18 tasks"):
        generator.checks.check_promptcblue([r for r in rows if r["task_dataset"] != "MedDG"])
    wrong = [{**r, "target": "也许"} if r["task_dataset"] == "CHIP-STS" else r for r in rows]
    with pytest.raises(ValueError, match="no choice"):
        generator.checks.check_promptcblue(wrong)


def test_cases_have_the_schema_of_cmb_clin() -> None:
    cases = json.loads(Path(DATA / "eval/cmb_clin/medgen.json").read_text(encoding="utf-8"))
    assert len(cases) == 6
    for case in cases:
        assert list(case) == ["id", "title", "description", "QA_pairs"]
        assert all(list(pair) == ["question", "solution"] for pair in case["QA_pairs"])
