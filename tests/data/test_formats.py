"""Every accepted shape of a row, every reason a row is refused, and text files byte by byte.

Reference: the shapes of ShareGPT, OpenAI messages and MedicalGPT's reward files, written out here.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medtune.data.formats.checks import MalformedRow, RowError
from medtune.data.formats.conversations import FORMATS, conversation_from_row, format_of
from medtune.data.formats.files import read_json_rows
from medtune.data.formats.options import FOUND, FormatOptions
from medtune.data.formats.preferences import preference_from_row
from medtune.data.formats.texts import read_text_documents, text_from_row
from medtune.data.reading import read_conversation_file
from medtune.data.records import Message, PreferencePair, Source

SOURCE = Source("rows.jsonl", 7)
USER, ASSISTANT = {"from": "human", "value": "头痛?"}, {"from": "gpt", "value": "休息。"}
SYSTEM = {"from": "system", "value": "你是医生"}
FIELDS = {"question": "头痛?", "response_chosen": "休息。", "response_rejected": "不知道"}
HALF = "\ud83d"  # of an emoji cut in two: JSON can write it, UTF-8 and tokenizers cannot
PAIR = {"conversations": [USER], "chosen": "休息。", "rejected": "不知道"}
TURNS = (Message("user", "头痛?"), Message("assistant", "休息。"))


def without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


def documents(path: Path, doc_separator: str) -> list[tuple[int, str]]:
    records = list(read_text_documents(path, doc_separator))
    assert {record.source.path for record in records} <= {str(path)}
    return [(record.source.line, record.text) for record in records]


def write(folder: Path, data: bytes, name: str = "file.txt") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


# -- rows that are accepted


def test_text_row_is_stripped_and_keeps_its_source() -> None:
    record = text_from_row({"text": " 头痛\n 休息 \n", "title": "x"}, SOURCE)

    assert (record.text, record.source) == ("头痛\n 休息", SOURCE)


@pytest.mark.parametrize("name", ["conversations", "messages", "conversation"])
@pytest.mark.parametrize(
    "turns",
    [
        [USER, ASSISTANT],
        [{"from": "user", "value": "头痛?"}, {"from": "assistant", "value": "休息。"}],
        [{"role": "user", "content": "头痛?"}, {"role": "assistant", "content": "休息。"}],
        [{"role": "user", "value": "头痛?"}, {"from": "gpt", "content": "休息。"}],
    ],
    ids=["sharegpt", "sharegpt-role-names", "openai", "mixed-field-names"],
)
def test_conversation_shapes_give_the_same_messages(name: str, turns: list[dict[str, str]]) -> None:
    record = conversation_from_row({name: turns, "id": 3}, SOURCE)

    assert (record.messages, record.source, record.key) == (TURNS, SOURCE, "头痛?")


@pytest.mark.parametrize("system", [SYSTEM, {"role": "system", "content": "你是医生"}])
def test_system_message_comes_first_and_is_not_the_key(system: dict[str, str]) -> None:
    record = conversation_from_row({"conversations": [system, USER, ASSISTANT]}, SOURCE)

    assert record.messages == (Message("system", "你是医生"), *TURNS)
    assert record.key == "头痛?"


def test_many_turns_keep_their_order_and_white_space() -> None:
    again, more = {"from": "human", "value": " 还痛\n"}, {"from": "gpt", "value": "\n就医 "}
    record = conversation_from_row({"conversations": [USER, ASSISTANT, again, more]}, SOURCE)

    assert record.messages == (
        *TURNS,
        Message("user", " 还痛\n"),
        Message("assistant", "\n就医 "),
    )


@pytest.mark.parametrize("extra", [{}, {"system": "", "history": []}, {"system": None}])
def test_preference_fields_without_system_and_history(extra: dict[str, Any]) -> None:
    record = preference_from_row({**FIELDS, **extra, "history": extra.get("history")}, SOURCE)

    assert record == PreferencePair((Message("user", "头痛?"),), "休息。", "不知道", SOURCE)


def test_preference_fields_with_system_and_history() -> None:
    row = {**FIELDS, "system": "你是医生", "history": [["你好", "您好"], ["发烧", "多喝水"]]}

    assert preference_from_row(row, SOURCE).prompt == (
        Message("system", "你是医生"),
        Message("user", "你好"),
        Message("assistant", "您好"),
        Message("user", "发烧"),
        Message("assistant", "多喝水"),
        Message("user", "头痛?"),
    )


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        ("休息。", "不知道"),
        ({"from": "gpt", "value": "休息。"}, {"from": "gpt", "value": "不知道"}),
        ({"role": "assistant", "content": "休息。"}, "不知道"),
    ],
    ids=["text", "sharegpt-message", "openai-message-and-text"],
)
def test_preference_conversation_takes_answers_as_text_and_as_message(
    chosen: Any, rejected: Any
) -> None:
    row = {"conversations": [SYSTEM, USER], "chosen": chosen, "rejected": rejected}
    record = preference_from_row(row, SOURCE)

    assert record.prompt == (Message("system", "你是医生"), Message("user", "头痛?"))
    assert (record.chosen, record.rejected, record.key) == ("休息。", "不知道", "头痛?")


def test_preference_key_is_the_last_question() -> None:
    row = {**PAIR, "conversations": [USER, ASSISTANT, {"from": "human", "value": "还痛 "}]}

    assert preference_from_row(row, SOURCE).key == "还痛"


# -- one row of each format, and what it says

SAID: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "sharegpt": (
        {"conversations": [USER, ASSISTANT], "system": "你是医生"},
        [("system", "你是医生"), ("user", "头痛?"), ("assistant", "休息。")],
    ),
    "messages": (
        {"messages": [message.to_dict() for message in TURNS]},
        [("user", "头痛?"), ("assistant", "休息。")],
    ),
    "flat_dialogue": (
        {"instruction": " <user>: 头痛? <bot>: 多久? <user>：两天", "output": "休息。"},
        [("user", "头痛?"), ("assistant", "多久?"), ("user", "两天"), ("assistant", "休息。")],
    ),
    "alpaca": (
        {"instruction": "头痛?", "input": "两天", "output": "休息。", "history": [["a", "b"]]},
        [("user", "a"), ("assistant", "b"), ("user", "头痛?\n两天"), ("assistant", "休息。")],
    ),
    "med2023": (
        {"question": [{"text": "咳"}, {"text": "几天"}, {"text": "三"}], "answer": "热水"},
        [("user", "咳"), ("assistant", "几天"), ("user", "三"), ("assistant", "热水")],
    ),
    "exam": (
        {"question": "退热药是", "option": {"A": "布洛芬", "B": "铁剂", "C": ""}, "answer": "A"},
        [("user", "退热药是\nA. 布洛芬\nB. 铁剂"), ("assistant", "A. 布洛芬")],
    ),
    "clinical_case": (
        {"title": "t", "description": "女，5岁", "QA_pairs": [
            {"question": "诊断?", "answer": "感冒"}, {"question": "处理?", "solution": "休息"},
        ]},
        [("user", "女，5岁\n\n诊断?"), ("assistant", "感冒"), ("user", "处理?"),
         ("assistant", "休息")],
    ),
    "consultation": (
        {"department": "内科", "title": "咳嗽", "ask": "无", "answer": "多喝水"},
        [("user", "咳嗽"), ("assistant", "多喝水")],
    ),
    "promptcblue": (
        {"input": "抽取实体：…", "target": "药物：甲", "answer_choices": "['甲']", "type": "ner"},
        [("user", "抽取实体：…"), ("assistant", "药物：甲")],
    ),
    "content_summary": (
        {"content": "咳嗽怎么办", "summary": "多喝水"},
        [("user", "咳嗽怎么办"), ("assistant", "多喝水")],
    ),
    "question_answer": (
        {"question": ["咳嗽怎么办"], "answer": ["多喝水"]},
        [("user", "咳嗽怎么办"), ("assistant", "多喝水")],
    ),
    "questions_answers": (
        {"questions": [["咳嗽怎么办"]], "answers": ["多喝水"]},
        [("user", "咳嗽怎么办"), ("assistant", "多喝水")],
    ),
    "prompt_response": (
        {"prompt": "咳嗽怎么办", "response": "多喝水", "history": [["a", "b"]]},
        [("user", "a"), ("assistant", "b"), ("user", "咳嗽怎么办"), ("assistant", "多喝水")],
    ),
    "prompt_completion": (
        {"prompt": "咳嗽怎么办", "completion": "多喝水"},
        [("user", "咳嗽怎么办"), ("assistant", "多喝水")],
    ),
    "query_response": (
        {"query": "咳嗽怎么办", "response": "多喝水"},
        [("user", "咳嗽怎么办"), ("assistant", "多喝水")],
    ),
}  # fmt: skip


def test_every_format_has_its_row() -> None:
    assert set(SAID) == set(FORMATS)


@pytest.mark.parametrize("name", SAID)
def test_format_is_found_by_its_fields_and_read_whole(name: str) -> None:
    row, said = SAID[name]

    assert format_of(row) == name
    assert [tuple(m) for m in conversation_from_row(row, SOURCE).messages] == said


def test_format_that_the_user_names_wins_over_the_one_that_is_found() -> None:
    row = {"instruction": "头痛?", "output": "休息。", "input": "两天", "target": "无事"}

    def said(options: FormatOptions) -> list[str]:
        return [m.content for m in conversation_from_row(row, SOURCE, options).messages]

    assert said(FOUND) == ["头痛?\n两天", "休息。"]
    assert said(FormatOptions(data_format="promptcblue")) == ["两天", "无事"]
    columns = FormatOptions(prompt_column="instruction", response_column="target")
    assert said(columns) == ["头痛?", "无事"]


@pytest.mark.parametrize(
    ("title", "ask", "asked"),
    [
        ("咳嗽", "咳了三天", "咳嗽\n咳了三天"),
        ("咳嗽怎么办", "咳嗽怎么办？三天了", "咳嗽怎么办？三天了"),
        ("无", "咳了三天", "咳了三天"),
    ],
)
def test_consultation_joins_title_and_question(title: str, ask: str, asked: str) -> None:
    row = {"title": title, "ask": ask, "answer": "多喝水"}

    assert conversation_from_row(row, SOURCE).key == asked


def test_doctor_who_speaks_first_is_refused_and_not_taken_for_the_patient() -> None:
    row = {"question": [{"text": "您好"}, {"text": "咳嗽"}], "answer": "多喝水"}

    check_refused(conversation_from_row, row, "role_order", RowError)


def test_pair_with_a_prompt_as_text_or_as_messages() -> None:
    pair = {"chosen": [{"role": "assistant", "content": "休息。"}], "rejected": "不知道"}
    texts = preference_from_row({**pair, "prompt": "头痛?", "system": "你是医生"}, SOURCE)
    turns_ = preference_from_row({**pair, "prompt": [SYSTEM, USER]}, SOURCE)

    assert texts == turns_
    assert texts.prompt == (Message("system", "你是医生"), Message("user", "头痛?"))


# -- rows that are refused: (row, reason, is the row no record at all)

Refusal = tuple[dict[str, Any], str, type[RowError]]

TEXT_REFUSALS: list[Refusal] = [
    ({"txt": "x"}, "missing_field", MalformedRow),
    ({"text": ""}, "empty_content", RowError),
    ({"text": " \n\u3000"}, "empty_content", RowError),
    ({"text": None}, "empty_content", RowError),
    ({"text": 3}, "empty_content", RowError),
    ({"text": f"发烧{HALF}"}, "invalid_unicode", RowError),
]


def turns(*rows: Any) -> dict[str, Any]:
    return {"conversations": list(rows)}


TURN_REFUSALS: list[Refusal] = [
    (turns(), "empty_conversation", RowError),
    ({"conversations": None}, "empty_conversation", RowError),
    ({"conversations": "头痛"}, "empty_conversation", RowError),
    (turns("头痛"), "wrong_type", MalformedRow),
    (turns({"value": "x"}, ASSISTANT), "unknown_role", MalformedRow),
    (turns({"from": "doctor", "value": "x"}), "unknown_role", MalformedRow),
    (turns({"from": ["human"], "value": "x"}), "unknown_role", MalformedRow),
    (turns({"from": "human", "value": ""}, ASSISTANT), "empty_content", RowError),
    (turns({"from": "human", "value": " \n"}, ASSISTANT), "empty_content", RowError),
    (turns({"from": "human"}, ASSISTANT), "empty_content", RowError),
    (turns({"from": "human", "value": 5}, ASSISTANT), "empty_content", RowError),
    (turns({**SYSTEM, "value": ""}, USER, ASSISTANT), "empty_content", RowError),
    (turns({**SYSTEM, "value": HALF}, USER, ASSISTANT), "invalid_unicode", RowError),
    (turns({**USER, "value": HALF}, ASSISTANT), "invalid_unicode", RowError),
]
CONVERSATION_REFUSALS: list[Refusal] = [
    *TURN_REFUSALS,
    ({"question": "x"}, "missing_field", MalformedRow),
    ({}, "missing_field", MalformedRow),
    (turns(USER), "ends_with_user", RowError),
    (turns(USER, ASSISTANT, USER), "ends_with_user", RowError),
    (turns(SYSTEM), "role_order", RowError),
    (turns(ASSISTANT), "role_order", RowError),
    (turns(ASSISTANT, USER, ASSISTANT), "role_order", RowError),
    (turns(USER, USER, ASSISTANT), "role_order", RowError),
    (turns(USER, ASSISTANT, ASSISTANT), "role_order", RowError),
    (turns(USER, SYSTEM, ASSISTANT), "role_order", RowError),
    (turns(SYSTEM, SYSTEM, USER, ASSISTANT), "role_order", RowError),
]
PREFERENCE_REFUSALS: list[Refusal] = [
    *[({**PAIR, **row}, reason, kind) for row, reason, kind in TURN_REFUSALS],
    ({"query": "x", "chosen": "a", "rejected": "b"}, "missing_field", MalformedRow),
    (without(FIELDS, "response_chosen"), "missing_field", MalformedRow),
    (without(FIELDS, "response_rejected"), "missing_field", MalformedRow),
    (without(PAIR, "chosen"), "missing_field", MalformedRow),
    (without(PAIR, "rejected"), "missing_field", MalformedRow),
    ({**FIELDS, "question": " "}, "empty_content", RowError),
    ({**FIELDS, "response_chosen": ""}, "empty_content", RowError),
    ({**FIELDS, "response_rejected": None}, "empty_content", RowError),
    ({**PAIR, "chosen": {"from": "gpt", "value": ""}}, "empty_content", RowError),
    ({**PAIR, "chosen": {}}, "empty_content", RowError),
    ({**PAIR, "rejected": ["不知道", "再说"]}, "empty_content", RowError),
    ({**FIELDS, "question": HALF}, "invalid_unicode", RowError),
    ({**FIELDS, "response_chosen": HALF}, "invalid_unicode", RowError),
    ({**PAIR, "rejected": {"value": HALF}}, "invalid_unicode", RowError),
    ({**FIELDS, "history": [["a", HALF]]}, "invalid_unicode", RowError),
    ({**FIELDS, "system": HALF}, "invalid_unicode", RowError),
    ({**FIELDS, "system": 3}, "wrong_type", MalformedRow),
    ({**FIELDS, "history": "x"}, "wrong_type", MalformedRow),
    ({**FIELDS, "history": {"a": "b"}}, "wrong_type", MalformedRow),
    ({**FIELDS, "history": [["a"]]}, "bad_history", MalformedRow),
    ({**FIELDS, "history": [["a", "b", "c"]]}, "bad_history", MalformedRow),
    ({**FIELDS, "history": [["a", ""]]}, "empty_content", RowError),
    ({**FIELDS, "history": [["a", "b"], ["c", None]]}, "empty_content", RowError),
    ({**FIELDS, "history": ["ab"]}, "bad_history", MalformedRow),
    ({**FIELDS, "response_rejected": "休息。"}, "chosen_equals_rejected", RowError),
    ({**FIELDS, "response_rejected": " 休息。\n"}, "chosen_equals_rejected", RowError),
    ({**PAIR, "rejected": {"value": "休息。"}}, "chosen_equals_rejected", RowError),
    ({**PAIR, "conversations": [SYSTEM]}, "role_order", RowError),
    ({**PAIR, "conversations": [USER, ASSISTANT]}, "role_order", RowError),
    ({**PAIR, "conversations": [USER, USER]}, "role_order", RowError),
]


def with_ids(refusals: list[Refusal]) -> list[Any]:
    return [
        pytest.param(*refusal, id=f"{refusal[1]}-{number}")
        for number, refusal in enumerate(refusals)
    ]


def check_refused(
    from_row: Callable[[dict[str, Any], Source], Any],
    row: dict[str, Any],
    reason: str,
    kind: type[RowError],
) -> None:
    with pytest.raises(RowError) as caught:
        from_row(row, SOURCE)
    assert (caught.value.reason, type(caught.value)) == (reason, kind)
    assert str(caught.value).startswith("expected ")  # … found …; what to do


@pytest.mark.parametrize(("row", "reason", "kind"), with_ids(TEXT_REFUSALS))
def test_text_row_is_refused(row: dict[str, Any], reason: str, kind: type[RowError]) -> None:
    check_refused(text_from_row, row, reason, kind)


@pytest.mark.parametrize(("row", "reason", "kind"), with_ids(CONVERSATION_REFUSALS))
def test_conversation_row_is_refused(
    row: dict[str, Any], reason: str, kind: type[RowError]
) -> None:
    check_refused(conversation_from_row, row, reason, kind)


@pytest.mark.parametrize(("row", "reason", "kind"), with_ids(PREFERENCE_REFUSALS))
def test_preference_row_is_refused(row: dict[str, Any], reason: str, kind: type[RowError]) -> None:
    check_refused(preference_from_row, row, reason, kind)


def test_message_names_the_turn_and_what_stands_there() -> None:
    with pytest.raises(RowError, match=r"turn 3 \(human\), found a int"):
        conversation_from_row(turns(USER, ASSISTANT, {"from": "human", "value": 5}), SOURCE)


# -- text files


def test_blank_line_documents_have_the_line_they_begin_at(tmp_path: Path) -> None:
    path = write(tmp_path, "\n\n甲\n乙\n \t\n\n丙\n\n\n  丁\n".encode())

    assert documents(path, "blank_line") == [(3, "甲\n乙"), (7, "丙"), (10, "丁")]


def test_line_documents_skip_blank_lines_but_count_them(tmp_path: Path) -> None:
    path = write(tmp_path, "甲\n\n 乙 \n丙".encode())

    assert documents(path, "line") == [(1, "甲"), (3, "乙"), (4, "丙")]


def test_file_document_keeps_its_inner_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "\n甲\n\n乙\n\n".encode())

    assert documents(path, "file") == [(1, "甲\n\n乙")]


@pytest.mark.parametrize("doc_separator", ["file", "blank_line", "line"])
def test_file_of_blanks_has_no_document(tmp_path: Path, doc_separator: str) -> None:
    assert documents(write(tmp_path, b" \n\n\t\n"), doc_separator) == []


@pytest.mark.parametrize("doc_separator", ["file", "blank_line", "line"])
@pytest.mark.parametrize("line_end", ["\r\n", "\r"], ids=["crlf", "stray-cr"])
def test_line_ends_of_other_systems_change_nothing(
    tmp_path: Path, line_end: str, doc_separator: str
) -> None:
    text = "甲\n乙\n\n丙\n"
    here = documents(write(tmp_path, text.encode()), doc_separator)
    there = documents(write(tmp_path, text.replace("\n", line_end).encode()), doc_separator)

    assert there == here
    assert here[-1] == ((1, "甲\n乙\n\n丙") if doc_separator == "file" else (4, "丙"))


def test_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    assert documents(write(tmp_path, b"\xef\xbb\xbfab\n"), "line") == [(1, "ab")]


def test_byte_order_mark_and_crlf_do_not_break_json_lines(tmp_path: Path) -> None:
    path = write(tmp_path, b'\xef\xbb\xbf{"text": "a"}\r\n\r\n{"text": "b"}\r\n', "rows.jsonl")

    assert list(read_json_rows(path)) == [(1, {"text": "a"}), (3, {"text": "b"})]


# -- JSON files


def test_invalid_line_takes_the_place_of_its_row(tmp_path: Path) -> None:
    path = write(tmp_path, b'{"text": "a"}\n{"text": \n{"text": "c"}\n', "rows.jsonl")
    (_, first), (number, broken), (last, _) = read_json_rows(path)

    assert (first, number, last) == ({"text": "a"}, 2, 3)
    assert isinstance(broken, MalformedRow)
    assert broken.reason == "invalid_json"


@pytest.mark.parametrize("line", ['"text"', "5", "null", "true"])
def test_line_that_is_no_object_is_malformed(tmp_path: Path, line: str) -> None:
    path = write(tmp_path, f'{{"text": "a"}}\n{line}\n'.encode(), "rows.jsonl")
    _, (number, row) = read_json_rows(path)

    assert (number, type(row), row.reason) == (2, MalformedRow, "not_an_object")


def test_unicode_line_separators_are_no_line_ends(tmp_path: Path) -> None:
    row = {"text": "甲\u2028乙\u0085丙"}
    path = write(tmp_path, json.dumps(row, ensure_ascii=False).encode(), "rows.jsonl")

    assert list(read_json_rows(path)) == [(1, row)]


def test_array_file_gives_its_items_numbered(tmp_path: Path) -> None:
    rows = [turns(USER, ASSISTANT), {"conversations": []}, 3]
    path = write(tmp_path, json.dumps(rows, indent=1).encode(), "rows.json")
    good, empty, number = read_conversation_file(path)

    assert list(read_json_rows(path)) == list(enumerate(rows, start=1))
    assert (good.source.line, getattr(good, "messages", None)) == (1, TURNS)
    assert [getattr(item, "reason", None) for item in (empty, number)] == [
        "empty_conversation",
        "not_an_object",
    ]


def test_broken_array_says_where_it_breaks(tmp_path: Path) -> None:
    path = write(tmp_path, b'[\n{"text": "a"},\n{"text" "b"}\n]\n', "rows.json")
    ((_, row),) = read_json_rows(path)

    assert row.reason == "invalid_json"
    assert "line 3, character 9" in str(row)
