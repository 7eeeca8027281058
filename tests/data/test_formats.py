"""Every accepted shape of a row, every reason a row is refused, and text files byte by byte.

Reference: the shapes of ShareGPT, OpenAI messages and MedicalGPT's reward files, written out here.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medtune.common.errors import DataError
from medtune.data.formats import (
    MalformedRow,
    RowError,
    conversation_from_row,
    preference_from_row,
    read_json_rows,
    read_text_documents,
    text_from_row,
)
from medtune.data.loading import read_conversation_file, read_text_file
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
    ({"prompt": "x", "chosen": "a", "rejected": "b"}, "missing_field", MalformedRow),
    (without(FIELDS, "response_chosen"), "missing_field", MalformedRow),
    (without(FIELDS, "response_rejected"), "missing_field", MalformedRow),
    (without(PAIR, "chosen"), "missing_field", MalformedRow),
    (without(PAIR, "rejected"), "missing_field", MalformedRow),
    ({**FIELDS, "question": " "}, "empty_content", RowError),
    ({**FIELDS, "response_chosen": ""}, "empty_content", RowError),
    ({**FIELDS, "response_rejected": None}, "empty_content", RowError),
    ({**PAIR, "chosen": {"from": "gpt", "value": ""}}, "empty_content", RowError),
    ({**PAIR, "chosen": {}}, "empty_content", RowError),
    ({**PAIR, "rejected": ["不知道"]}, "empty_content", RowError),
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


@pytest.mark.parametrize("name", ["book.txt", "rows.jsonl"])
def test_other_encoding_is_refused_with_its_line(tmp_path: Path, name: str) -> None:
    # Not any Chinese will do: the gb18030 bytes of "头痛" are, by chance, valid UTF-8.
    path = write(tmp_path, b"abc\nabc\n" + "高血压\n".encode("gb18030"), name)

    with pytest.raises(DataError) as caught:
        list(read_text_file(path, doc_separator="line"))
    assert str(caught.value).startswith(f"{path}:3: expected UTF-8 text, found byte 0xb8")
    assert f"iconv -f gb18030 -t utf-8 {name}" in str(caught.value)
    assert caught.value.exit_code == 2


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
