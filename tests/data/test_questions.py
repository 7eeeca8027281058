"""Questions for a model: which files hold some, and how a wrong line is named.

Reference for the prompts of rows: the renderer's own, for the messages before the last answer.
"""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from medtune.common.errors import DataError
from medtune.data.questions import (
    AnsweredPrompt,
    last_answers,
    prompt_of,
    read_questions,
    split_row,
)
from medtune.data.records import Conversation, Message, PreferencePair, Source
from medtune.data.rendering import ChatRenderer, cut_conversation, cut_pair
from tests.conftest import REPO, WriteJsonl

USER, REPLY = {"role": "user", "content": "头痛"}, {"role": "assistant", "content": "休息。"}


def test_rows_with_a_question_or_messages_are_read(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    turns = [{"role": "system", "content": "你是医生"}, USER, REPLY, USER | {"content": "多久？"}]
    rows = ['{"question": "头痛怎么办？", "id": 7}', "", {"messages": turns, "note": None}]

    one, other = read_questions(write_jsonl(tmp_path / "q.jsonl", rows))

    assert one.messages == (Message("user", "头痛怎么办？"),)
    assert [message.role for message in other.messages] == ["system", "user", "assistant", "user"]
    assert (one.text, other.text) == ("头痛怎么办？", "多久？")
    assert str(other.source) == f"{tmp_path / 'q.jsonl'}:3"


def test_text_has_a_question_on_each_line_that_is_not_blank(tmp_path: Path) -> None:
    path = tmp_path / "q.txt"
    path.write_text("头痛怎么办？\r\n\n  {咳嗽呢？ \n", encoding="utf-8-sig")

    assert [(q.text, q.source.line) for q in read_questions(path)] == [
        ("头痛怎么办？", 1),
        ("{咳嗽呢？", 3),
    ]


def test_shipped_questions_are_read() -> None:
    samples = read_questions(REPO / "data/samples/questions.jsonl")

    assert len(samples) == 5
    assert len(read_questions(REPO / "data/eval/questions.jsonl")) == 56


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{", "expected JSON, found: "),
        ("7", "expected an object {…}, found int"),
        ("[[1]]", "expected either 'question' or 'messages', found list"),
        ({"prompt": "头痛"}, r"expected either 'question' or 'messages', found \['prompt'\]"),
        ({"question": "头痛", "messages": [USER]}, "expected either 'question' or 'messages'"),
        ({"question": " "}, "expected text in 'question', found a str"),
        ({"question": None}, "expected text in 'question', found null"),
        ({"question": ["头痛", "咳嗽"]}, "expected text in 'question', found a list"),
        ('{"question": "\\ud83d"}', "expected Unicode text in 'question'"),
        ({"messages": []}, "expected a list of turns in 'messages', found an empty list"),
        ({"messages": "头痛"}, "expected a list of turns in 'messages', found a str"),
        ({"messages": [USER, REPLY]}, "expected the user to speak last, found the assistant"),
        ({"messages": [REPLY, USER]}, "expected turn 1 from the user, found the assistant"),
        ({"messages": [{"role": "doctor", "content": "x"}]}, "expected a role of "),
        ({"messages": [{"role": "user", "content": 7}]}, "expected text in turn 1"),
    ],
)
def test_line_that_is_no_question_is_named(
    tmp_path: Path, write_jsonl: WriteJsonl, row: Any, words: str
) -> None:
    path = write_jsonl(tmp_path / "q.jsonl", [{"question": "头痛"}, row, {"question": "咳嗽"}])

    with pytest.raises(DataError, match=f"^{path}:2: {words}") as refused:
        read_questions(path)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("q.jsonl", "", "expected at least one question, found none"),
        ("q.txt", "\n \n", "expected at least one question, found none"),
        ("q.docx", "x", "expected a file of questions .*, found a file .docx"),
        ("q", "x", "expected a file of questions .*, found a file without an ending"),
        ("none.txt", None, "expected a file of questions .*, found no file"),
    ],
)
def test_file_without_questions_is_refused(
    tmp_path: Path, name: str, text: str | None, words: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)

    with pytest.raises(DataError, match=f"^{tmp_path / name}: {words}"):
        read_questions(tmp_path / name)


def test_template_that_refuses_a_question_is_named_with_its_line(
    tmp_path: Path, write_jsonl: WriteJsonl, glm: ChatRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (question,) = read_questions(write_jsonl(tmp_path / "q.jsonl", [{"question": "头痛"}]))
    assert prompt_of(question, glm) == glm.prompt_ids(question.messages)

    def refuse(messages: Any) -> list[int]:
        raise DataError("the chat template refuses the roles")

    monkeypatch.setattr(glm, "prompt_ids", refuse)
    with pytest.raises(DataError, match=r"q\.jsonl:1: the chat template refuses the roles"):
        prompt_of(question, glm)


# -- the answers of the data


def test_split_row_parts_the_last_answer() -> None:
    row = {"input_ids": [5, 6, 7, 8], "labels": [-100, 6, -100, 8]}
    assert split_row(row) == ([5, 6, 7], [8])
    assert split_row({"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3]}) == ([1], [2])


@pytest.mark.parametrize("family", ["glm", "chatml"])
def test_prompt_is_all_before_the_last_answer(family: str, request: pytest.FixtureRequest) -> None:
    renderer: ChatRenderer = request.getfixturevalue(family)
    source = Source("a.jsonl", 1)
    turns = ["头痛 <|user|> 怎么办？", "多休息。", "还要多久？", "两三天就好。\n不要担心。"]
    messages = (Message("system", "你是医生"), *(
        Message("assistant" if number % 2 else "user", text) for number, text in enumerate(turns)
    ))  # fmt: skip
    rendered = renderer.conversation(Conversation(messages, source))
    pair = cut_pair(renderer.pair(PreferencePair(messages[:-1], turns[-1], "不。", source)), None)
    expected = [AnsweredPrompt(renderer.prompt_ids(messages[:-1]), turns[-1])]

    assert last_answers(Dataset.from_list([vars(rendered)]), 9, renderer) == (expected, 0)
    assert last_answers(Dataset.from_list([pair]), 9, renderer) == (expected, 0)


def test_row_with_a_cut_answer_makes_room_for_the_next(glm: ChatRenderer) -> None:
    rows = []
    for number in range(4):
        messages = (Message("user", f"{number}号"), Message("assistant", f"{number}休息两三天。"))
        rendered = glm.conversation(Conversation(messages, Source("a.jsonl", number)))
        num_lost = 3 if number == 1 else 0
        cut = cut_conversation(rendered, len(rendered.input_ids) - num_lost)
        assert cut is not None
        rows.append(vars(cut))

    answers, num_cut = last_answers(Dataset.from_list(rows), 2, glm)

    assert [answer.reference[0] for answer in answers] == ["0", "2"]
    assert num_cut == 1
