"""prepare_data.py: sets that share no question, a report that balances, broken files named.

Broken files are those that the measurements of stock loaders were made with: a bad line, a lone
line of another encoding, NUL bytes, a cut file, wrong types, half of an emoji, …
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medtune.arguments import DataArguments
from medtune.common.errors import ConfigError, DataError, MedtuneError
from medtune.data.curation.options import PrepareArguments
from medtune.data.curation.report import PARTS, CurationReport
from medtune.data.curation.sets import curate, part_of
from medtune.data.formats.files import ROW_SUFFIXES, TEXT_SUFFIXES
from medtune.data.loading import load_conversations, load_preferences
from medtune.data.records import Conversation, Message, PreferencePair, Source
from medtune.data.writing import SHAPES, row_of
from tests.conftest import REPO

SHARED = REPO.parent / "shared" / "data"
GOOD = {"instruction": "咳嗽怎么办", "input": "", "output": "多喝水，休息。"}


def write(path: Path, content: bytes | list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, list):
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content).encode()
    path.write_bytes(content)
    return path


def questions(number: int) -> list[dict[str, str]]:
    return [{"instruction": f"第{n}种咳嗽怎么办", "output": f"方法{n}"} for n in range(number)]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def prepared(source: Path, output: Path, **options: Any) -> CurationReport:
    return curate(PrepareArguments(str(source), str(output), **options))


# -- the sets


def test_each_row_is_in_one_set_and_no_question_in_two(tmp_path: Path) -> None:
    rows = questions(600)
    other = [{**row, "instruction": f" {row['instruction']}　", "output": "另一个"} for row in rows]
    write(tmp_path / "in/a.jsonl", rows)
    write(tmp_path / "in/b.jsonl", other)
    report = prepared(tmp_path / "in", tmp_path / "out")

    sets = {part: read(tmp_path / "out" / f"{part}.jsonl") for part in PARTS}
    asked = {part: {r["messages"][0]["content"].strip() for r in sets[part]} for part in PARTS}
    assert report.parts == {part: len(rows) for part, rows in sets.items()}
    assert sum(map(len, sets.values())) == 1200
    assert sum(map(len, asked.values())) == len(set().union(*asked.values())) == 600
    # 5 % of 600 questions: 30, with a standard deviation of 5.3.
    assert all(10 < len(asked[part]) < 55 for part in ("validation", "test"))


def test_set_of_a_row_depends_on_its_question_and_the_seed_alone(tmp_path: Path) -> None:
    rows = questions(300)
    write(tmp_path / "a/rows.jsonl", rows)
    write(tmp_path / "b/1.jsonl", rows[:100][::-1])
    write(tmp_path / "b/2.jsonl", rows[100:])
    for name, seed in (("a", 1), ("b", 1), ("a", 2)):
        prepared(tmp_path / name, tmp_path / f"{name}{seed}", seed=seed)

    def held_out(name: str) -> set[str]:
        return {row["messages"][0]["content"] for row in read(tmp_path / name / "test.jsonl")}

    assert held_out("a1") == held_out("b1") != held_out("a2")


def test_width_case_and_white_space_do_not_move_a_question() -> None:
    options = PrepareArguments("in", "out")
    for number in range(100):
        assert part_of(f"ABC{number} 咳？", options) == part_of(f"ａｂｃ{number}咳?", options)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_written_is_read_back_the_same(tmp_path: Path, shape: str) -> None:
    turns = ("你是医生", "咳嗽?", "几天?", "三天", "多喝水")
    roles = ("system", "user", "assistant", "user", "assistant")
    messages = tuple(Message(role, text) for role, text in zip(roles, turns, strict=True))  # type: ignore[arg-type]
    record = Conversation(messages, Source("a", 1))
    row = row_of(record, shape)
    if shape == "text":
        assert row == {"text": "\n".join(turns)}
        return
    write(tmp_path / "rows.jsonl", [row, {**GOOD}])
    loaded = load_conversations(DataArguments(str(tmp_path)), seed=1)
    assert messages in [found.messages for _, found in loaded.records()]


@pytest.mark.parametrize("shape", ["messages", "sharegpt"])
def test_pairs_are_read_back_the_same(tmp_path: Path, shape: str) -> None:
    prompt = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    rows = [
        row_of(
            PreferencePair((*prompt[:2], Message("user", f"c{n}")), "好", "坏", Source("a", n)),
            shape,
        )
        for n in range(3)
    ]
    write(tmp_path / "rows.jsonl", rows)
    loaded = load_preferences(DataArguments(str(tmp_path)), seed=1)
    assert [row_of(pair, shape) for _, pair in loaded.records()] == rows


# -- the report


def test_report_counts_every_row_of_every_file(tmp_path: Path) -> None:
    empty, user = {**GOOD, "output": ""}, {"conversations": [{"from": "human", "value": "a"}]}
    write(tmp_path / "in/a.jsonl", [GOOD, GOOD, empty, user, {**GOOD, "instruction": "b"}])
    write(tmp_path / "in/b.csv", "title,ask,answer\n咳嗽怎么办,无,热饮\n".encode("gb18030"))
    prepared(tmp_path / "in", tmp_path / "out")

    report = json.loads((tmp_path / "out/report.json").read_text(encoding="utf-8"))
    assert report["files"] == [
        {
            "path": str(tmp_path / "in/a.jsonl"), "format": "alpaca", "kind": "conversation",
            "encoding": "utf-8", "rows_read": 5, "rows_kept": 2,
            "rejected": {"exact_duplicate": 1, "empty_content": 1, "ends_with_user": 1},
            "patients_data": {},
        },
        {
            "path": str(tmp_path / "in/b.csv"), "format": "consultation", "kind": "conversation",
            "encoding": "gb18030", "rows_read": 1, "rows_kept": 1, "rejected": {},
            "patients_data": {},
        },
    ]  # fmt: skip
    assert report["rows"]["read"] == 6
    assert [(r["line"], r["reason"]) for r in read(tmp_path / "out/rejects.jsonl")] == [
        (2, "exact_duplicate"), (3, "empty_content"), (4, "ends_with_user"),
    ]  # fmt: skip


def test_duplicates_are_kept_where_they_are_wanted(tmp_path: Path) -> None:
    write(tmp_path / "in/a.jsonl", [GOOD, GOOD])
    assert prepared(tmp_path / "in", tmp_path / "out", keep_duplicates=True).files[0].rows_kept == 2


def test_evaluation_items_are_left_out_named_and_refused(tmp_path: Path) -> None:
    item = {
        "question": "治疗单纯疱疹性脑炎首选的药物是下列哪一种",
        "option": {"A": "甲", "B": "乙"},
    }
    planted = {"instruction": f"请问{item['question']}？", "output": "请遵医嘱用药"}
    write(tmp_path / "in/a.jsonl", [GOOD, planted])
    exam = write(tmp_path / "exam.json", json.dumps([{**item, "answer": "A"}]).encode())
    with pytest.raises(DataError, match=r"a\.jsonl:2: .*evaluation items"):
        prepared(tmp_path / "in", tmp_path / "out", eval_files=[str(exam)])

    (match,) = read(tmp_path / "out/matches.jsonl")
    assert (match["line"], match["eval_file"], match["kind"]) == (2, str(exam), "question")
    allowed = {"eval_files": [str(exam)], "max_contaminated_percentage": 50.0}
    report = prepared(tmp_path / "in", tmp_path / "out", **allowed)
    assert report.files[0].rejected == {"contaminated": 1}


@pytest.mark.parametrize("mode", ["report", "mask", "drop"])
def test_patients_data_is_counted_masked_or_left_out(tmp_path: Path, mode: str) -> None:
    number = "138" + "0013" + "8000"
    row = {"instruction": f"咳嗽三天，电话{number}，怎么办", "output": "多喝水，休息。"}
    write(tmp_path / "in/a.jsonl", [row, GOOD])
    options = {"test_percentage": 0.0, "validation_percentage": 0.0}
    (file,) = prepared(tmp_path / "in", tmp_path / "out", patients_data=mode, **options).files

    written = (tmp_path / "out/train.jsonl").read_text(encoding="utf-8")
    assert file.patients_data == {"mobile_number": 1}
    assert file.rejected == ({"patients_data": 1} if mode == "drop" else {})
    assert (number in written, "【手机号】" in written) == (mode == "report", mode == "mask")
    assert number not in (tmp_path / "out/rejects.jsonl").read_text(encoding="utf-8")


def test_malformed_row_stops_with_report_and_rejects_written(tmp_path: Path) -> None:
    path = write(tmp_path / "in/a.jsonl", b'{"instruction": "a", "output": "b"}\n{"instruction"\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2: expected JSON"):
        prepared(tmp_path / "in", tmp_path / "out")

    assert [r["line"] for r in read(tmp_path / "out/rejects.jsonl")] == [2]
    report = prepared(path, tmp_path / "skipped", skip_malformed=True)
    assert (report.files[0].rows_kept, report.files[0].rejected) == (1, {"invalid_json": 1})


def test_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    source = write(tmp_path / "in/a.jsonl", [GOOD])
    write(tmp_path / "out/mine.txt", b"x")
    for output in ("out", "in"):
        with pytest.raises(ConfigError, match="--output"):
            prepared(source, tmp_path / output)
    prepared(source, tmp_path / "fresh")
    prepared(source, tmp_path / "fresh")  # its own files are written again


# -- broken files: name, bytes, and either the place and word of the refusal or the counts

Counts = dict[str, int]
TURN = '{"conversations": [{"from": "human", "value": %s}, {"from": "gpt", "value": "b"}]}\n'
LINE = json.dumps(GOOD, ensure_ascii=False).encode() + b"\n"
HIGH = json.dumps({**GOOD, "instruction": "高血压"}, ensure_ascii=False)
BROKEN: dict[str, tuple[str, bytes, str | Counts]] = {
    "bad line": ("a.jsonl", LINE + b"{bad\n" + LINE, ":2: expected JSON"),
    "byte-order mark": ("a.jsonl", b"\xef\xbb\xbf" + LINE, {}),
    "windows line ends": ("a.jsonl", LINE.replace(b"\n", b"\r\n"), {}),
    "stray carriage returns": ("a.jsonl", LINE.replace(b"\n", b"\r"), {}),
    "NUL in a line": ("a.jsonl", LINE + b'{"instruction": "a\0"}\n', ":2: expected JSON"),
    "one gb18030 line": (
        "a.jsonl", LINE * 3 + HIGH.encode("gb18030") + b"\n", ":4: expected UTF-8 text",
    ),
    "all gb18030": ("a.jsonl", HIGH.encode("gb18030"), {}),
    "utf-16": ("a.jsonl", LINE.decode().encode("utf-16"), {}),
    "utf-16 without mark": ("a.jsonl", LINE.decode().encode("utf-16-le"), {}),
    "cut in a character": ("a.jsonl", LINE + LINE[:-5], ":2: expected UTF-8 text"),
    "cut in a row": ("a.jsonl", LINE + LINE[:20], ":2: expected JSON"),
    "cut array": ("a.json", b"[" + LINE.strip() + b",", ":1: expected JSON"),
    "number for a text": ("a.jsonl", (TURN % "5").encode() + LINE, {"empty_content": 1}),
    "null for a text": ("a.jsonl", (TURN % "null").encode() + LINE, {"empty_content": 1}),
    "text for an object": ("a.jsonl", LINE + b'"text"\n', ":2: expected an object"),
    "other fields": ("a.jsonl", LINE + b'{"x": 1}\n', ":2: expected the fields of a known format"),
    "emoji": ("a.jsonl", (TURN % '"咳嗽\U0001f600"').encode(), {}),
    "half of an emoji": ("a.jsonl", (TURN % r'"\ud83d"').encode() + LINE, {"invalid_unicode": 1}),
    "a row of a megabyte": ("a.jsonl", (TURN % f'"{"长" * 350_000}"').encode(), {}),
    "nested too deep": ("a.jsonl", LINE + b"[" * 100_000, ":2: expected JSON"),
    "empty file": ("a.jsonl", b"", ":1: expected data, found an empty file"),
    "nothing but blanks": ("a.jsonl", b"\n \n", ":1: expected data, found an empty file"),
    "folder of nothing": ("a.md", b"# x", "expected at least one file"),
    "table with a cell too many": ("a.csv", b"ask,answer\na,b\na,b,c\n", ":3: expected 2 cells"),
    "table with an open quote": ("a.csv", b'ask,answer\na,b\n"a,b\n', ":3: expected cells"),
    "no parquet": ("a.parquet", b"PAR1", ":1: expected a Parquet file"),
    "no workbook": ("a.xlsx", b"PK", ":1: expected an Excel workbook"),
    "all rows refused": (
        "a.jsonl", (TURN % '""').encode(), "found none of 1 rows (empty_content 1)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_file_is_named_with_its_place_or_counted(tmp_path: Path, case: str) -> None:
    name, content, outcome = BROKEN[case]
    path = write(tmp_path / "in" / name, content)
    if isinstance(outcome, dict):
        report = prepared(tmp_path / "in", tmp_path / "out", keep_duplicates=True).files[0]
        assert report.rejected == outcome
        assert report.rows_kept >= 1
        return
    with pytest.raises(DataError) as caught:
        prepared(tmp_path / "in", tmp_path / "out")
    assert outcome in str(caught.value)
    if outcome.startswith(":"):
        assert str(caught.value).startswith(str(path))
    assert caught.value.exit_code == 2


NAMES = st.sampled_from(
    ["conversations", "messages", "from", "value", "role", "content", "instruction", "output",
     "question", "answer", "chosen", "rejected", "text", "input", "target", "history", "option",
     "QA_pairs", "description", "title", "ask", "prompt", "system", "human", "gpt"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)
ROWS = st.lists(st.dictionaries(NAMES, VALUES, max_size=4), min_size=1, max_size=6)
FUZZ = settings(
    max_examples=150, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip


def check_never_crashes(folder: Path, write_input: Callable[[Path], None]) -> None:
    """Whatever is in a file: a report that balances, or an error for people with exit code 2."""
    try:
        write_input(folder)
        report = prepared(folder / "in", folder / "out", skip_malformed=True)
    except MedtuneError as error:
        assert error.exit_code == 2
        assert str(error)
    else:
        for file in report.files:
            assert file.rows_read == file.rows_kept + sum(file.rejected.values())


@FUZZ
@given(rows=ROWS)
def test_no_row_makes_it_crash(tmp_path: Path, rows: list[Any]) -> None:
    content = "\n".join(map(json.dumps, rows)).encode()
    check_never_crashes(tmp_path, lambda folder: void(write(folder / "in/a.jsonl", content)))


@FUZZ
@given(content=st.binary(max_size=300), suffix=st.sampled_from(TEXT_SUFFIXES + ROW_SUFFIXES))
def test_no_bytes_make_it_crash(tmp_path: Path, content: bytes, suffix: str) -> None:
    for old in (tmp_path / "in").glob("*"):
        old.unlink()
    check_never_crashes(tmp_path, lambda folder: void(write(folder / f"in/a{suffix}", content)))


def void(_: object) -> None:
    """Drop a value."""


# -- as a program


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "prepare_data.py", *words]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=120)


def test_program_prints_what_came_of_each_file_and_refuses_in_one_sentence(tmp_path: Path) -> None:
    write(tmp_path / "in/a.jsonl", [GOOD, GOOD])
    good = run(f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'out'}", "--seed=3")
    assert good.returncode == 0
    assert "validation.jsonl has no rows" in good.stderr
    assert "exact_duplicate 1" in good.stdout

    bad = run(f"--input={tmp_path / 'nothing'}", f"--output={tmp_path / 'new'}")
    assert bad.returncode == 2
    assert bad.stderr.startswith("error: ")
    assert "Traceback" not in bad.stderr


# -- the real files: the counts that their README states, and the blemishes it names

REAL: dict[str, tuple[str, int, Counts]] = {
    "cmb_clin/cmb_clin_qa.json": ("clinical_case", 54, {}),
    "cmb_exam/cmb_exam_single_nometa.json": ("exam", 1509, {}),
    "cmb_exam/cmb_exam_with_meta.json": ("exam", 602, {}),
    "cmb_exam/cmexam_cmb_schema.json": ("exam", 817, {}),
    "cmb_exam/cmexam_with_explanation.json": ("exam", 320, {}),
    "csv/toyhom_neike_gb18030.csv": ("consultation", 6070, {"exact_duplicate": 279}),
    "encodings/tcm_濒湖脉学.gb18030.crlf.txt": ("blank_line", 27, {}),
    "finetune/cmtmedqa_multiturn.jsonl": ("sharegpt", 786, {}),
    "finetune/cmtmedqa_safety_alpaca.jsonl": ("alpaca", 113, {"exact_duplicate": 5}),
    "finetune/dialmed_multiturn.jsonl": ("sharegpt", 1141, {}),
    "finetune/disc_meddial_messages.jsonl": ("messages", 122, {"ends_with_user": 3}),
    "finetune/huatuo26m_content_summary.json": ("content_summary", 1600, {}),
    "finetune/huatuo_liver_cancer_flatdialog.jsonl": ("flat_dialogue", 640, {}),
    "finetune/huatuo_llama_knowledge_alpaca.jsonl": ("alpaca", 2400, {}),
    "finetune/medicalgpt_medical_sft.jsonl": ("sharegpt", 799, {}),
    "finetune/medicalgpt_sharegpt_zh.jsonl": (
        "sharegpt", 315, {"empty_content": 1, "ends_with_user": 2},
    ),
    "finetune/toyhom_neike_chitchat.txt": ("blocks", 1200, {"exact_duplicate": 52}),
    "med2023_like/dialmed_as_med2023.jsonl": ("med2023", 786, {}),
    "pretrain/caregpt_drug_leaflets.txt": ("blank_line", 1911, {}),
    "pretrain/tcm_伤寒论.txt": ("blank_line", 10, {}),
    "pretrain/tcm_黄帝内经素问.txt": ("blank_line", 68, {}),
    "promptcblue/aug_CHIP-CDN.json": ("promptcblue", 240, {}),
    "promptcblue/aug_CMeIE.json": ("promptcblue", 240, {"empty_content": 3}),
    "promptcblue/text2dt_rendered.json": ("promptcblue", 157, {}),
    "promptcblue/toy_train.json": ("promptcblue", 80, {}),
    "reward/derived_cmtmedqa_history_pairs.jsonl": ("five_fields", 160, {}),
    "reward/llamafactory_dpo_zh_sharegpt.jsonl": (
        "conversation_pair", 61, {"replacement_character": 2},
    ),
    "reward/medicalgpt_dpo_zh_500.jsonl": ("five_fields", 405, {"replacement_character": 12}),
    "reward/medicalgpt_medical_pairs.jsonl": ("five_fields", 80, {}),
    "reward/parkinson_dpo.jsonl": (
        "five_fields", 268, {"chosen_equals_rejected": 1, "replacement_character": 1},
    ),
}  # fmt: skip


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data are not on this machine")
@pytest.mark.parametrize("name", REAL)
def test_real_file_is_read_whole_without_being_told_what_it_is(tmp_path: Path, name: str) -> None:
    form, num_rows, rejected = REAL[name]
    (file,) = prepared(SHARED / name, tmp_path / "out").files
    assert (file.format, file.rows_read, file.rejected) == (form, num_rows, rejected)
