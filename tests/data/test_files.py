"""Files byte by byte: encodings, tables, dialogues in text files; what is said of broken ones."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from openpyxl import Workbook
from pyarrow import parquet

from medtune.common.errors import DataError
from medtune.data.formats.checks import MalformedRow
from medtune.data.formats.files import encoding_of, read_lines, read_rows_of
from medtune.data.formats.inspection import form_of_file
from medtune.data.formats.options import FormatOptions
from medtune.data.reading import read_conversation_file
from medtune.data.records import Conversation

TEXT = "高血压患者应低盐饮食。\n第二行：0.25g，每日三次。\n"


def write(folder: Path, data: bytes, name: str = "file.txt") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def rows_of(path: Path, encoding: str = "auto") -> list[tuple[int, Any]]:
    return list(read_rows_of(path, encoding))


def said(path: Path) -> list[list[str]]:
    """The contents of each conversation of a file; every row must be one."""
    records = list(read_conversation_file(path))
    assert all(isinstance(record, Conversation) for record in records)
    return [[m.content for m in r.messages] for r in records if isinstance(r, Conversation)]


# -- encodings


@pytest.mark.parametrize(
    ("encoding", "found"),
    [
        ("utf-8", "utf-8-sig"),
        ("utf-8-sig", "utf-8-sig"),
        ("gb18030", "gb18030"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_text_is_the_same_in_every_encoding(
    tmp_path: Path, encoding: str, found: str, line_end: str
) -> None:
    text = TEXT + "BP 120/80 mmHg, HR 72 bpm\n" * 3
    path = write(tmp_path, text.replace("\n", line_end).encode(encoding))

    assert encoding_of(path) == found
    assert "\n".join(read_lines(path)) == text


def test_encoding_that_the_user_names_wins(tmp_path: Path) -> None:
    path = write(tmp_path, "头痛\n".encode("gb18030"))  # by chance also valid UTF-8

    assert list(read_lines(path, "gb18030")) == ["头痛", ""]


@pytest.mark.parametrize("name", ["book.txt", "rows.jsonl", "rows.csv"])
def test_one_line_of_another_encoding_is_named_not_guessed_around(
    tmp_path: Path, name: str
) -> None:
    lines = [json.dumps({"text": "高血压"}, ensure_ascii=False).encode()] * 5
    lines[3] = json.dumps({"text": "高血压"}, ensure_ascii=False).encode("gb18030")
    path = write(tmp_path, b"\n".join(lines) + b"\n", name)

    with pytest.raises(DataError) as caught:
        list(read_lines(path) if name == "book.txt" else read_rows_of(path))
    assert str(caught.value).startswith(f"{path}:4: expected UTF-8 text, found byte 0xb8")
    assert caught.value.exit_code == 2


def test_bytes_that_no_encoding_reads_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, b"abc\n\xff\xfe\xff\xff\n")

    with pytest.raises(DataError, match=r"file\.txt:2: expected UTF-8 text, found byte 0xff"):
        list(read_lines(path))


def test_line_number_is_right_beyond_ten_megabytes(tmp_path: Path) -> None:
    good = json.dumps({"text": "高" * 300}, ensure_ascii=False).encode() + b"\n"
    path = write(tmp_path, good * 14000 + b"{broken\n" + good, "rows.jsonl")
    assert path.stat().st_size > 10 * 2**20

    bad = [(number, row) for number, row in read_rows_of(path) if isinstance(row, MalformedRow)]
    assert [number for number, _ in bad] == [14001]


# -- JSON


def test_object_of_lists_gives_the_rows_of_its_lists(tmp_path: Path) -> None:
    value = {"a": [{"id": 1}, {"id": 2}], "b": [{"id": 3}]}
    path = write(tmp_path, json.dumps(value, indent=2).encode(), "rows.json")

    assert rows_of(path) == [(1, {"id": 1}), (2, {"id": 2}), (3, {"id": 3})]


# -- tables


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "gb18030"])
def test_cell_with_line_breaks_stays_one_row_with_its_line(
    tmp_path: Path, delimiter: str, encoding: str
) -> None:
    table = (
        'title|ask|answer\r\n高血压|"第一行\r\n第二行"|多休息\r\n\r\n咳嗽|"说""好""的"|多喝水\r\n'
    )
    path = write(tmp_path, table.replace("|", delimiter).encode(encoding), "rows.csv")

    assert rows_of(path) == [
        (2, {"title": "高血压", "ask": "第一行\r\n第二行", "answer": "多休息"}),
        (5, {"title": "咳嗽", "ask": '说"好"的', "answer": "多喝水"}),
    ]


def test_row_with_a_cell_too_many_and_an_open_quote_are_malformed(tmp_path: Path) -> None:
    path = write(tmp_path, b'a,b\n1,2,3\n4,5\n6,"7\n8,9\n', "rows.csv")
    (first, many), (_, good), (last, quote) = rows_of(path)

    assert (first, many.reason, good) == (2, "wrong_number_of_cells", {"a": "4", "b": "5"})
    assert (last, quote.reason) == (4, "invalid_csv")


def test_parquet_and_excel_give_the_rows_that_were_written(tmp_path: Path) -> None:
    rows = [{"question": "咳嗽?", "answer": "多喝水"}, {"question": "发烧?", "answer": "物理降温"}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    book = Workbook()
    for cells in (["question", "answer"], *[list(row.values()) for row in rows]):
        book.active.append(cells)
    book.save(tmp_path / "rows.xlsx")

    assert rows_of(tmp_path / "rows.parquet") == [(1, rows[0]), (2, rows[1])]
    assert rows_of(tmp_path / "rows.xlsx") == [(2, rows[0]), (3, rows[1])]


@pytest.mark.parametrize("name", ["rows.parquet", "rows.xlsx"])
def test_file_that_is_no_table_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"{name}:1: expected"):
        rows_of(write(tmp_path, b"no table", name))


# -- dialogues in text files


def test_blocks_of_lines_take_turns(tmp_path: Path) -> None:
    path = write(tmp_path, "咳嗽怎么办？\n多喝水\n\n\n发烧?\n多少度?\n39\n就医\n".encode())

    assert said(path) == [["咳嗽怎么办？", "多喝水"], ["发烧?", "多少度?", "39", "就医"]]


def test_tagged_lines_are_question_and_answer(tmp_path: Path) -> None:
    text = "<question>咳嗽怎么办<answer>多喝水\n<question>发烧<answer>第一行\n第二行\n"
    path = write(tmp_path, text.encode())

    assert said(path) == [["咳嗽怎么办", "多喝水"], ["发烧", "第一行\n第二行"]]


def test_tagged_line_without_an_answer_is_a_counted_reject(tmp_path: Path) -> None:
    path = write(tmp_path, "<question>咳嗽<answer>多喝水\n<question>发烧\n".encode())
    _, reject = read_conversation_file(path)

    assert (reject.source.line, getattr(reject, "reason", None)) == (2, "wrong_tags")


def test_book_is_text_and_no_dialogue(tmp_path: Path) -> None:
    book = "第一章\n总论一。\n总论二。\n\n第二章\n各论。\n\n第三章\n附录一。\n附录二。\n"
    path = write(tmp_path, book.encode())

    assert (form_of_file(path).kind, form_of_file(path).form) == ("text", "blank_line")
    with pytest.raises(DataError, match=r"file\.txt:1: expected dialogues"):
        list(read_conversation_file(path))


def test_form_of_a_file_is_what_the_user_names(tmp_path: Path) -> None:
    row = {"title": "t", "text": "咳嗽怎么办", "reply": "多喝水"}
    path = write(tmp_path, json.dumps(row).encode(), "rows.jsonl")
    options = FormatOptions(prompt_column="text", response_column="reply")

    assert form_of_file(path).kind == "text"
    assert (form_of_file(path, options).kind, form_of_file(path, options).form) == (
        "conversation",
        "columns",
    )
