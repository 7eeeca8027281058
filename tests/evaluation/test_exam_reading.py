"""CMB-Exam: prompts, and the letters read in an answer, officially and as a careful person would.

Reference: the numbers stored for the official code; for the careful reader the labels below, one
for each stored case in order ("-": unreadable), and those beside the answers in exam_answers.py.
"""

import time
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtune.evaluation.scorers.cmb.official import official_answer, official_choice
from medtune.evaluation.scorers.cmb.prompts import build_answer, build_prompt, shown_options
from medtune.evaluation.scorers.cmb.reading import LONGEST_TEXT, read_choice, read_samples
from tests.evaluation.exam_answers import HELD_OUT, LETTERS, ONE, SEVERAL, TUNED, Answer
from tests.evaluation.parity import PARITY, needs_parity, read_lines

STORED_LABELS = """
    A A B B - AC D D C C B B - ACD - ABC B B C C D D D D C C E E - AB B B - AE - AB B B - - - - C C
    B B B B - AC A A B B C C D D D D D D B B C C - ABD - ABCDE F F G G D D B B B B - ABC C C C C A A
    D D - - D D - - - - - - - ACE - AB B A AB AC - -
"""


# -- official


@needs_parity
def test_official_letters_are_those_of_the_official_code() -> None:
    for case in read_lines(PARITY / "cmb_extract/cases.jsonl"):
        assert [official_choice(text) for text in case["answers"]] == case["match_choice"]
        assert official_answer(case["answers"], case["question_type"]) == case["model_answer"]


@pytest.mark.parametrize(
    ("texts", "question_type", "letters"),
    [
        (["做CT和DNA检测，选B"], SEVERAL, "CDAB"),
        (["做CT和DNA检测，选B"], ONE, "C"),
        (["答案是A。答案是B。"], SEVERAL, "A"),
        (["答案为E\nA\n"], SEVERAL, "EA"),
        (["BA", "AB", "C", "C"], ONE, "C"),
        (["AB", "AC", "B", "B", "B"], ONE, "B"),
        (["无", ""], ONE, ""),
        ([], ONE, ""),
    ],
)
def test_official_letters(texts: list[str], question_type: str, letters: str) -> None:
    assert official_answer(texts, question_type) == letters


# -- careful


def misread(answers: Iterable[Answer]) -> list[Answer]:
    return [
        answer
        for answer in answers
        if read_choice(answer.text, LETTERS, answer.question_type, answer.options) != answer.meant
    ]


@needs_parity
def test_stored_answers_are_read_as_a_careful_person_reads_them() -> None:
    cases = read_lines(PARITY / "cmb_extract/cases.jsonl")
    read = [read_samples(case["answers"], "ABCDEFG", case["question_type"]) for case in cases]
    labels = STORED_LABELS.split()

    assert len(cases) == len(labels) == 110
    assert [letters or "-" for letters in read] == labels


def test_answers_it_was_tuned_with_are_read() -> None:
    assert misread(TUNED) == []


def test_held_out_answers_are_read() -> None:
    assert len(HELD_OUT) == 84
    assert len(misread(HELD_OUT)) <= 0.05 * len(HELD_OUT)


def test_the_letters_of_words_are_no_choices() -> None:
    words = ("CT", "DNA", "ATP", "HIV", "B12", "维生素C", "甲型H1N1", "IgA", "A型血", "C反应蛋白")

    assert [read_choice(word, LETTERS, SEVERAL) for word in words] == [None] * len(words)
    assert [read_choice(f"{word}，选E", LETTERS, SEVERAL) for word in words] == ["E"] * len(words)


def test_letters_that_the_question_does_not_offer_are_not_read() -> None:
    assert read_choice("答案是F", "ABCDE", ONE) is None
    assert read_choice("答案是F", "ABCDEF", ONE) == "F"


def test_the_commonest_readable_sample_counts() -> None:
    assert read_samples(["不是A", "答案是C", "选B", "选C"], LETTERS, ONE) == "C"
    assert read_samples(["CA", "AC", "B"], LETTERS, SEVERAL) == "AC"
    assert read_samples([], LETTERS, ONE) is None


@pytest.mark.parametrize("asker", ["问题：", "Question: ", "User: ", "<|user|>\n", "以下是中国"])
def test_what_follows_a_question_of_the_models_own_is_not_read(asker: str) -> None:
    assert read_choice(f"答案是B。\n{asker}哪项正确？\n答案是C。", LETTERS, ONE) == "B"
    assert read_choice(f"无法判断。\n{asker}哪项正确？\n答案是C。", LETTERS, ONE) is None


def test_a_conclusion_at_the_end_of_a_very_long_answer_is_read() -> None:
    thoughts = "患者的症状还需要进一步分析。" * LONGEST_TEXT

    assert read_choice(f"{thoughts}综上所述，答案是D。", LETTERS, ONE) == "D"


@pytest.mark.parametrize(
    "piece", ["选B", "A,", "A、", "\n", " ", "A正确", "(A", "答案是A或", "A. x、"]
)
def test_time_stays_short_on_endless_repetition(piece: str) -> None:
    start = time.monotonic()
    read_choice(piece * 20_000, LETTERS, SEVERAL, {"A": "x", "B": "选"})

    assert time.monotonic() - start < 5


PIECES = [
    "答案是",
    "选",
    "A",
    "b",
    "Ｃ",
    "、",
    "，",
    "。",
    "\n",
    "不",
    "正确",
    "错误",
    "选项",
    "是",
    " ",
    "或",
]


@given(
    st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join)),
    st.sampled_from([ONE, SEVERAL]),
    st.one_of(st.none(), st.dictionaries(st.sampled_from("ABCDE"), st.text(max_size=5))),
)
def test_what_is_read_is_letters_of_the_question_in_order(
    text: str, question_type: str, options: dict[str, str] | None
) -> None:
    read = read_choice(text, LETTERS, question_type, options)

    if read is not None:
        assert read and list(read) == sorted(set(read)) and set(read) <= set(LETTERS)
        assert question_type == SEVERAL or len(read) == 1


# -- prompts

ITEM = {
    "exam_type": "医师考试",
    "exam_class": "执业医师",
    "question_type": ONE,
    "question": "主一身之气的脏是",
    "option": {"A": "肝", "B": "肺", "C": "脾脏", "D": "", "E": " "},
    "answer": "B",
    "explanation": "肺主气。",
}


@needs_parity
def test_prompts_are_those_of_the_official_code() -> None:
    for case in read_lines(PARITY / "cmb_prompt/cases.jsonl"):
        item = case["item"]
        assert build_prompt(item, option_rule="official") == case["zero_shot_direct"]
        assert build_prompt(item, True, "official") == case["zero_shot_cot"]
        fewshot = build_prompt(item, option_rule="official_fewshot")
        assert fewshot == case["direct_fewshot_script_variant"]


def test_options_of_one_character_are_shown_except_officially() -> None:
    assert shown_options(ITEM) == {"A": "肝", "B": "肺", "C": "脾脏"}
    assert shown_options(ITEM, "official") == {"C": "脾脏"}
    assert shown_options({"option": None}) == {}


def test_prompt_and_answer_of_a_worked_example() -> None:
    assert build_prompt(ITEM) == (
        "以下是中国医师考试中执业医师考试的一道单项选择题，不需要做任何分析和解释，直接输出答案选项。\n"
        "主一身之气的脏是\nA. 肝\nB. 肺\nC. 脾脏"
    )
    assert build_answer(ITEM) == "答案是B。"
    assert build_answer(ITEM, chain_of_thought=True) == "肺主气。所以答案是B。"


def test_an_unknown_exam_is_not_named_none() -> None:
    prompt = build_prompt({**ITEM, "exam_type": None, "exam_class": None}, True)

    assert prompt.startswith(
        "以下是中国医学考试的一道单项选择题，请分析每个选项，并最后给出答案。\n"
    )
