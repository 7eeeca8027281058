"""What each benchmark reads, asks and counts: by hand, and against the official definitions."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from medtune.common.errors import ConfigError, DataError
from medtune.evaluation.asking.answers import GeneratedText, ScoredText
from medtune.evaluation.results.statistics import measure
from medtune.evaluation.tasks.base import SCORE, Benchmark, TaskOptions
from medtune.evaluation.tasks.cmb_clin import CmbClin
from medtune.evaluation.tasks.cmb_exam import CmbExam, CmbExamGenerate, CmbExamText, read_questions
from medtune.evaluation.tasks.preference import Preference
from medtune.evaluation.tasks.promptcblue import PromptCblue
from medtune.evaluation.tasks.replies import Replies, shape_counts
from medtune.evaluation.tasks.table import choose_tasks
from medtune.evaluation.tasks.texts import AnswerPerplexity, Perplexity
from tests.conftest import WriteJsonl
from tests.evaluation.conftest import exam_question

END = "<end>"
OPTIONS = TaskOptions(end_of_turn=END, generation={"max_gen_toks": 8})


def build(kind: type[Benchmark], folder: Path, options: TaskOptions = OPTIONS) -> Benchmark:
    return kind(kind.read(folder / kind.folder), options)


def reply(text: str) -> GeneratedText:
    return GeneratedText.made_of(text, True, len(text))


def value(kind: type[Benchmark], counts: list[dict[str, float]], name: str) -> float:
    return measure(counts, kind.metrics(counts))[name]["value"]


# -- CMB-Exam


def test_letters_of_one_answer_and_combinations_of_several(benchmarks: Path) -> None:
    task = build(CmbExam, benchmarks)

    assert task.requests(task.docs[0]) == [(SCORE, (letter,)) for letter in "ABC"]
    assert [rest[0] for _, rest in task.requests(task.docs[3])] == [
        f"{letters}{END}" for letters in ("A", "B", "C", "AB", "AC", "BC", "ABC")
    ]


def test_likeliest_letters_count_as_a_set(benchmarks: Path) -> None:
    task = build(CmbExam, benchmarks)
    single = task.count(task.docs[1], [(-3.0, False), (-1.0, True), (-2.0, False)])
    several = task.count(task.docs[3], [(float(-n), False) for n in (9, 9, 9, 1, 5, 5, 5)])

    assert (single.parsed, single.counts["correct"]) == ("B", 1)
    assert single.counts["chance"] == pytest.approx(1 / 3)
    confidence = 1 / (1 + math.exp(-1) + math.exp(-2))  # softmax by hand
    assert single.counts[f"confidence_{int(confidence * 10)}"] == pytest.approx(confidence)
    assert (several.parsed, several.counts["correct"]) == ("AB", 1)
    assert several.counts["chance"] == pytest.approx(1 / 7)


def test_option_texts_are_compared_by_character(benchmarks: Path) -> None:
    """-4 for two characters is likelier by character than -3 for one would be."""
    folder = benchmarks / "cmb_exam"
    (folder / "q.jsonl").write_text(
        json.dumps(exam_question(0, option={"A": "休息两周", "B": "喝"}), ensure_ascii=False),
        "utf-8",
    )
    task = build(CmbExamText, benchmarks)
    sample = task.count(task.docs[0], [(-4.0, False), (-3.0, False)])

    assert task.messages(task.docs[0])[0].content == "第0题，正确的是"
    assert (sample.parsed, sample.counts["correct"]) == ("A", 1)


def test_written_answer_counts_strictly_and_officially(benchmarks: Path) -> None:
    task = build(CmbExamGenerate, benchmarks)
    doc = task.docs[1]  # the key says B
    found = [task.count(doc, [reply(text)]) for text in ("做CT，应选B", "答案是B。", "不知道", "")]

    assert [sample.counts["correct"] for sample in found] == [1, 1, 0, 0]
    assert [sample.counts["correct_official"] for sample in found] == [0, 1, 0, 0]
    assert [sample.counts["unread"] for sample in found] == [0, 0, 1, 1]
    assert [sample.malformed is None for sample in found] == [True, True, False, False]


def test_analysis_is_asked_of_written_answers_alone(benchmarks: Path) -> None:
    options = TaskOptions(chain_of_thought=True)
    prompts = {
        kind.name: build(kind, benchmarks, options)
        .messages(CmbExam.read(benchmarks / "cmb_exam")[0])[0]
        .content
        for kind in (CmbExam, CmbExamGenerate)
    }

    assert "请分析每个选项" in prompts["cmb_exam_generate"]
    assert "不需要做任何分析" in prompts["cmb_exam"]


def test_answers_come_from_a_key_file_by_id_and_the_rest_is_counted(
    tmp_path: Path, write_jsonl: WriteJsonl, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    questions = [exam_question(n, answer="") for n in range(3)]
    questions[2] = exam_question(2, answer="", option={"A": "休息", "B": " "})
    write_jsonl(tmp_path / "test.jsonl", questions)
    write_jsonl(tmp_path / "key.jsonl", [{"id": "q0", "answer": "C"}, {"id": "q2", "answer": "A"}])
    monkeypatch.setattr("medtune.common.log.logger.propagate", True)

    asked, examples = read_questions(tmp_path)

    assert [(doc["id"], doc["answer"]) for doc in asked] == [("q0", "C")]
    assert examples == []
    assert "1 questions left out: no answer" in caplog.text
    assert "1 questions left out: fewer than two options" in caplog.text


def test_several_right_letters_without_a_type_are_several_answers(
    tmp_path: Path, write_jsonl: WriteJsonl, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    many = {chr(65 + n): f"选项{n}" for n in range(16)}
    rows = [
        exam_question(3, question_type=None),
        exam_question(3, question_type="单项选择题"),
        exam_question(3, option=many, answer="AC"),
    ]
    write_jsonl(tmp_path / "device_eval.jsonl", rows)  # no words of an example file
    monkeypatch.setattr("medtune.common.log.logger.propagate", True)
    asked, examples = read_questions(tmp_path)

    assert [doc["question_type"] for doc in asked] == ["多项选择题"] and examples == []
    assert "several letters are the one right answer" in caplog.text
    assert "more than 8 options to combine" in caplog.text


def test_worked_examples_come_from_example_files_and_the_same_class(
    tmp_path: Path, write_jsonl: WriteJsonl
) -> None:
    write_jsonl(tmp_path / "test.jsonl", [exam_question(0)])
    examples = [exam_question(n % 3, id=f"e{n}") for n in range(8)]
    others = [exam_question(0, id=f"o{n}", exam_class="护士") for n in range(30)]
    write_jsonl(tmp_path / "val.jsonl", examples + others)
    asked, found = read_questions(tmp_path)
    options = TaskOptions(num_fewshot=5, seed=1)
    task = CmbExamGenerate(asked, options, found)

    drawn = [example["id"] for example in task.examples_for(asked[0])]
    prompt = json.loads(
        task.fewshot_context(asked[0], apply_chat_template=True, chat_template=json.dumps)
    )

    assert len(set(drawn)) == 5 and all(name.startswith("e") for name in drawn)
    assert drawn == [e["id"] for e in CmbExamGenerate(asked, options, found).examples_for(asked[0])]
    assert [message["role"] for message in prompt] == ["user", "assistant"] * 5 + ["user"]
    assert prompt[1]["content"].startswith("答案是")


def test_a_question_is_never_its_own_example(benchmarks: Path) -> None:
    asked, _ = read_questions(benchmarks / "cmb_exam")
    task = CmbExam(asked, TaskOptions(num_fewshot=3), asked)

    for doc in asked:
        assert doc["id"] not in {example["id"] for example in task.examples_for(doc)}


# -- texts, pairs, replies


def test_text_counts_its_tokens_characters_and_bytes(benchmarks: Path) -> None:
    task = build(Perplexity, benchmarks, TaskOptions(count_tokens=lambda text: 4))
    found = [task.count(doc, [-8.0]).counts for doc in task.docs]

    assert found[0] == {"items": 1, "nats": 8, "tokens": 4, "characters": 7, "bytes": 21}
    assert value(Perplexity, found, "perplexity") == pytest.approx(math.exp(2))


def test_every_answer_of_a_conversation_follows_the_real_ones(benchmarks: Path) -> None:
    task = build(AnswerPerplexity, benchmarks)
    first, second = task.docs[:2]

    assert [m.content for m in task.messages(second)][1] == first["answer"] == "多喝水。"
    assert task.requests(second) == [(SCORE, (f"呼吸内科。{END}",))]
    assert task.count(second, [(ScoredText.made_of(-6.0, 7), False)]).counts["tokens"] == 7


def test_preference_counts_the_sum_and_the_mean_by_character(benchmarks: Path) -> None:
    """先就医。(4) at -8 and 随便吃药。(5) at -9: likelier as a whole, less so by character."""
    task = build(Preference, benchmarks)
    counts = task.count(task.docs[0], [(-8.0, False), (-9.0, False)]).counts

    assert counts == {"items": 1, "correct": 1, "margin_nats": 1, "correct_per_character": 0}


@pytest.mark.parametrize(
    ("text", "runs", "repeated"),
    [
        ("多喝水", 0, 0),
        ("一二三四五六七八", 1, 0),
        ("一二三四五六七八" * 2, 9, 1),
        ("咳" * 10, 3, 2),
    ],
)
def test_repetition_counts_runs_of_eight_characters(text: str, runs: int, repeated: int) -> None:
    counts = shape_counts(text)
    assert (counts["runs"], counts["repeated"]) == (runs, repeated)


def test_empty_reply_scores_nothing_and_is_said(benchmarks: Path) -> None:
    task = build(Replies, benchmarks)
    good, empty = (task.count(task.docs[0], [reply(text)]) for text in ("多喝水。", ""))

    assert good.counts["rouge-1"] == pytest.approx(100, abs=1e-5)
    assert (empty.counts["rouge-1"], empty.counts["compared"]) == (0, 1)
    assert (good.malformed, empty.malformed) == (None, "empty")


# -- CMB-Clin and PromptCBLUE


def test_second_question_of_a_case_follows_the_real_first_answer(benchmarks: Path) -> None:
    task = build(CmbClin, benchmarks)

    assert [m.content for m in task.messages(task.docs[1])] == [
        "患者，男，发热三天。\n可能是什么病？", "上呼吸道感染。", "如何处理？",
    ]  # fmt: skip
    assert task.requests(task.docs[1])[0][1][0]["repetition_penalty"] == 1.1


def test_named_penalty_wins_over_the_official_one(benchmarks: Path) -> None:
    options = TaskOptions(generation={"max_gen_toks": 8, "repetition_penalty": 1.0})
    task = build(CmbClin, benchmarks, options)
    assert task.requests(task.docs[0])[0][1][0]["repetition_penalty"] == 1.0


def test_marks_of_a_judge_are_averaged_over_what_it_marked(benchmarks: Path) -> None:
    marks = iter(
        [{"fluency": 5.0, "relevance": 4.0, "completeness": 3.0, "proficiency": 2.0}, None]
    )
    options = TaskOptions(grade=lambda messages, text, reference: next(marks))
    task = build(CmbClin, benchmarks, options)
    counts = [task.count(doc, [reply("休息。")]).counts for doc in task.docs]

    assert value(CmbClin, counts, "judge_proficiency") == 2
    assert [c["judged"] for c in counts] == [1, 0]


def test_promptcblue_scores_officially_and_strictly(benchmarks: Path) -> None:
    """An empty reply becomes the first label, which is right here: officially only."""
    task = build(PromptCblue, benchmarks)
    counts = [task.count(doc, [reply("")]).counts for doc in task.docs]

    assert value(PromptCblue, counts, "score") == 1
    assert value(PromptCblue, counts, "score_strict") == 0


# -- where the data is


def test_all_takes_what_there_is_and_says_what_is_not(
    benchmarks: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medtune.common.log.logger.propagate", True)
    found = choose_tasks(["all"], str(benchmarks), {})

    assert {"perplexity", "cmb_exam", "cmb_clin", "promptcblue", "replies"} <= found.keys()
    assert "safety" not in found and "no data in" in caplog.text and "safety" in caplog.text


def test_missing_data_is_asked_of_the_hub(
    benchmarks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        "medtune.evaluation.tasks.table.downloaded", lambda name: asked.append(name) or Path("x")
    )
    choose_tasks(["cmb_exam", "safety"], str(benchmarks / "pretrain"), {"safety": "ORG/PROBES"})

    assert asked == ["FreedomIntelligence/CMB:CMB-Exam:test", "ORG/PROBES"]


@pytest.mark.parametrize(
    ("names", "hub", "error", "words"),
    [
        (["cmb"], {}, ConfigError, "expected some of all, perplexity"),
        (["all"], {"cmb": "a/b"}, ConfigError, "found 'cmb'"),
        (["safety"], {}, DataError, "safety: expected the data of safety"),
    ],
)
def test_wrong_names_are_refused(
    benchmarks: Path, names: list[str], hub: dict[str, str], error: type, words: str
) -> None:
    with pytest.raises(error, match=words):
        choose_tasks(names, str(benchmarks), hub)


@pytest.mark.parametrize(
    ("kind", "row", "words"),
    [
        (CmbExam, {"question": "甲"}, "expected 'option'"),
        (CmbExam, {"question": " ", "option": {"A": "x", "B": "y"}}, "expected text in 'question'"),
        (CmbExam, [1], "expected an object"),
        (CmbExam, '{"question": ', "1: "),
        (CmbClin, {"description": "甲", "QA_pairs": {}}, "expected a list of questions"),
        (CmbClin, {"description": "甲", "QA_pairs": [{"question": "乙"}]}, "text in 'answer'"),
        (PromptCblue, {"input": "甲", "target": "乙", "task_dataset": "STS"}, "expected a task"),
        (Replies, {"text": "甲"}, "expected text in 'question'"),
        (Replies, '{"question": "\\ud800"}', "half of a surrogate pair"),
        (Replies, {"question": "甲", "reference": 5}, "expected text in 'reference'"),
        (Replies, {"question": "甲", "key_values": "乙"}, "expected a list of words"),
        (
            PromptCblue,
            {"input": "甲", "target": "乙", "task_dataset": "CMeEE-V2"},
            "expected a target in the form of CMeEE-V2",
        ),
    ],
)
def test_bad_row_is_named_by_file_and_line(
    tmp_path: Path, write_jsonl: WriteJsonl, kind: type[Benchmark], row: Any, words: str
) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [row])
    with pytest.raises(DataError, match=words) as error:
        kind.read(tmp_path)
    assert str(error.value).startswith(f"{path}:1")
