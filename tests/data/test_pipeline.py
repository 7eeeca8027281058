"""The datatrove steps: the rows, sets and reasons of prepare_data.py, whatever task reads a file.

Reference: `curate` on the same files. The scripts of docs/large_corpora.md run as they stand there.
"""

import json
import runpy
import subprocess
import sys
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("datatrove")

import datatrove.executor
from datatrove.executor import LocalPipelineExecutor

from medtune.common.errors import ConfigError, DataError
from medtune.data.curation.options import PrepareArguments
from medtune.data.curation.report import PARTS
from medtune.data.curation.sets import curate
from medtune.data.pipeline.documents import document_of, record_of
from medtune.data.pipeline.report import write_report
from medtune.data.pipeline.steps import EvaluationItems, PatientsData, RecordReader, RowRules
from medtune.data.pipeline.writers import SetsWriter
from medtune.data.records import Conversation, Message, PreferencePair, Source, TextRecord
from tests.conftest import REPO
from tests.data.test_curation import questions, read, write
from tests.test_docs import blocks_of

MOBILE = "138" + "0013" + "8000"
ITEM = {"question": "治疗单纯疱疹性脑炎首选的药物是下列哪一种", "option": {"A": "甲", "B": "乙"}}
PAGE = REPO / "docs/large_corpora.md"


def ask(question: str, answer: str = "多喝水，休息。") -> dict[str, str]:
    return {"instruction": question, "output": answer}


def mixed_folder(folder: Path) -> None:
    """Every kind of file, and a row for every reason that needs no other row."""
    pairs = [
        {"question": f"能多吃{n}片吗", "response_chosen": "不能。", "response_rejected": f"吃{n}"}
        for n in range(20)
    ]
    called = {"question": "打给谁", "response_rejected": f"请打{MOBILE[:-1]}1"}
    write(folder / "pairs.jsonl", [*pairs, {**called, "response_chosen": f"请打{MOBILE}"}])
    bad = [
        ask("咳嗽\ufffd"), ask("长" * 400), ask("无"), ask("发烧怎么办", "您好"), ask("头痛", ""),
        ask(f"电话{MOBILE}，咳嗽三天"), ask(f"请问{ITEM['question']}？"), {"x": 1},
    ]  # fmt: skip
    write(folder / "sub/bad.jsonl", [*questions(200), *bad])
    write(folder / "table.csv", "title,ask,answer\n咳嗽怎么办,无,热饮\n".encode("gb18030"))
    write(folder / "book.txt", "中暑的处理。\n\n骨折的处理。\n".encode())


def run_pipeline(options: PrepareArguments, logs: Path, tasks: int = 2) -> dict[str, Any]:
    checks = [RowRules(options), PatientsData(options), EvaluationItems(options)]
    steps = [RecordReader(options), *checks, SetsWriter(options)]
    LocalPipelineExecutor(steps, tasks=tasks, workers=1, logging_dir=str(logs)).run()
    return write_report(options, str(logs))


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows in an order that does not depend on which file they stand in."""
    return sorted(rows, key=lambda row: json.dumps(row, ensure_ascii=False))


def all_lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of all files below a folder."""
    return in_order([row for path in folder.rglob("*.jsonl") for row in read(path)])


@pytest.mark.parametrize("patients_data", ["report", "mask", "drop"])
@pytest.mark.parametrize(("tasks", "shape"), [(2, "messages"), (7, "sharegpt")])
def test_rows_sets_and_reasons_are_those_of_prepare_data(
    tmp_path: Path, patients_data: str, tasks: int, shape: str
) -> None:
    mixed_folder(tmp_path / "in")
    exam = write(tmp_path / "exam.json", json.dumps([{**ITEM, "answer": "A"}]).encode())
    common: dict[str, Any] = {
        "patients_data": patients_data, "eval_files": [str(exam)], "max_characters": 300,
        "max_contaminated_percentage": 50.0, "skip_malformed": True, "to": shape,
    }  # fmt: skip
    one = PrepareArguments(str(tmp_path / "in"), str(tmp_path / "one"), **common)
    many = PrepareArguments(str(tmp_path / "in"), str(tmp_path / "many"), **common)
    expected = curate(one).to_dict(one)
    report = run_pipeline(many, tmp_path / "logs", tasks)

    for part in PARTS:
        rows = all_lines(tmp_path / "many" / part)
        assert rows
        assert rows == in_order(read(tmp_path / f"one/{part}.jsonl"))
    rejects = in_order(read(tmp_path / "one/rejects.jsonl"))
    assert all_lines(tmp_path / "many/rejects") == rejects
    assert report["rows"] == expected["rows"]
    assert report["parts"] == expected["parts"]
    assert all_lines(tmp_path / "many/matches") == read(tmp_path / "one/matches.jsonl")
    found = sum((Counter(file["patients_data"]) for file in expected["files"]), Counter())
    assert report["patients_data"] == found
    assert set(report["rows"]["rejected"]) == {
        "replacement_character", "over_long", "one_sided_conversation", "boilerplate_answer",
        "empty_content", "missing_field", "contaminated",
        *{"report": [], "mask": ["equal_when_masked"], "drop": ["patients_data"]}[patients_data],
    }  # fmt: skip


def test_each_file_is_read_by_one_task(tmp_path: Path) -> None:
    for number in range(5):
        write(tmp_path / f"in/{number}.jsonl", questions(number + 1))
    options = PrepareArguments(str(tmp_path / "in"), str(tmp_path / "out"))
    tasks = [[d.id for d in RecordReader(options).run(None, rank, 3)] for rank in range(3)]

    assert [len(ids) for ids in tasks] == [1 + 4, 2 + 5, 3]
    assert len(set().union(*tasks)) == 15


def test_record_survives_the_way_through_json() -> None:
    asked = (Message("system", "你是医生"), Message("user", "咳嗽?"))
    source = Source("a.jsonl", 3)
    records = [
        TextRecord("中暑", source),
        Conversation((*asked, Message("assistant", "多喝水")), source),
        PreferencePair(asked, "好", "坏", source),
    ]
    texts = ["中暑", "你是医生\n咳嗽?\n多喝水", "你是医生\n咳嗽?\n好\n坏"]
    for record, text in zip(records, texts, strict=True):
        document = document_of(record)
        document.metadata = json.loads(json.dumps(document.metadata))
        assert (document.text, document.id) == (text, "a.jsonl:3")
        assert record_of(document) == record


# -- what is refused


def test_malformed_row_is_refused_with_the_report_written(tmp_path: Path) -> None:
    write(tmp_path / "in/a.jsonl", [ask("咳嗽"), {"x": 1}])
    options = PrepareArguments(str(tmp_path / "in"), str(tmp_path / "out"))
    with pytest.raises(DataError, match="found 1 malformed ones of 2"):
        run_pipeline(options, tmp_path / "logs")

    rows = json.loads((tmp_path / "out/report.json").read_text())["rows"]
    assert rows == {"read": 2, "kept": 1, "rejected": {"missing_field": 1}}


def test_rows_with_evaluation_items_are_refused(tmp_path: Path) -> None:
    exam = write(tmp_path / "exam.json", json.dumps([{**ITEM, "answer": "A"}]).encode())
    write(tmp_path / "in/a.jsonl", [ask("咳嗽"), ask(ITEM["question"])])
    options = PrepareArguments(str(tmp_path / "in"), str(tmp_path / "out"), eval_files=[str(exam)])
    with pytest.raises(DataError, match="found 1 rows of 2"):
        run_pipeline(options, tmp_path / "logs")


def test_report_waits_for_all_tasks(tmp_path: Path) -> None:
    write(tmp_path / "in/a.jsonl", [ask("咳嗽")])
    options = PrepareArguments(str(tmp_path / "in"), str(tmp_path / "out"))
    run_pipeline(options, tmp_path / "logs")
    (tmp_path / "logs/stats/00001.json").unlink()
    with pytest.raises(ConfigError, match="statistics of 2 tasks, found those of 1"):
        write_report(options, str(tmp_path / "logs"))


def test_row_is_not_in_the_log_of_a_task_that_fails(tmp_path: Path) -> None:
    write(tmp_path / "in/a.jsonl", [ask("我叫张三丰")])
    options = PrepareArguments(str(tmp_path / "in"), str(tmp_path / "out"))

    def fail(data: Any, rank: int, world_size: int) -> Any:
        for document in data:
            yield document.text.index("nowhere")

    steps = [RecordReader(options), fail]
    with pytest.raises(ValueError, match="substring not found"):
        LocalPipelineExecutor(steps, workers=1, logging_dir=str(tmp_path / "logs")).run()
    log = (tmp_path / "logs/logs/task_00000.log").read_text(encoding="utf-8")
    assert "ValueError: substring not found" in log
    assert "张三丰" not in log


def test_missing_datatrove_is_named_in_one_sentence() -> None:
    code = (
        "import sys; sys.modules['datatrove'] = None\n"
        "from medtune.common.errors import run_script\n"
        "def main(argv): import medtune.data.pipeline.steps\n"
        "run_script(main)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("error: medtune.data.pipeline: expected datatrove, found it not")
    assert "Traceback" not in done.stderr


# -- the scripts of the page


def sample_data(folder: Path) -> None:
    """Two files that a task each reads, with an exact and a near duplicate between them."""
    long = "先移到阴凉通风处，解开衣服用凉水擦身，清醒时少量多次喝淡盐水，高热不退立即送医。" * 3
    other = [sha256(bytes([number])).hexdigest() for number in range(60)]
    write(folder / "a.jsonl", [*map(ask, other[:30], other[30:]), ask("中暑了怎么办", long)])
    same, near = ask(other[3], f"{other[33]} "), ask("中暑了怎么办", f"{long}快去。")
    write(folder / "b.jsonl", [same, near, ask("无")])


def write_script(number: int, folder: Path) -> Path:
    sample_data(folder / "data/finetune")
    return write(folder / "script.py", blocks_of(PAGE, "python")[number].encode())


def test_first_script_of_the_page_runs_in_two_processes(tmp_path: Path) -> None:
    command = [sys.executable, str(write_script(0, tmp_path))]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(REPO)}, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    expected = {"read": 34, "kept": 33, "rejected": {"one_sided_conversation": 1}}
    assert done.stdout.splitlines()[-1] == str(expected), done.stderr[-2000:]
    assert (tmp_path / "outputs/large/train/00001.jsonl").is_file()


class OneProcess(LocalPipelineExecutor):
    """The local executor with its tasks one after another, which needs no new processes."""

    def __init__(self, steps: Any, tasks: int, workers: int, logging_dir: str) -> None:
        super().__init__(steps, tasks=tasks, workers=1, logging_dir=logging_dir)


def test_second_script_of_the_page_leaves_out_duplicates_between_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datatrove.executor, "LocalPipelineExecutor", OneProcess)
    runpy.run_path(str(write_script(1, tmp_path)), run_name="__main__")

    rejected = {"one_sided_conversation": 1, "exact_duplicate": 1, "near_duplicate": 1}
    expected = {"read": 34, "kept": 31, "rejected": rejected}
    assert capsys.readouterr().out.splitlines()[-1] == str(expected)
    lines = all_lines(tmp_path / "outputs/distinct/rejects")
    assert Counter(line["reason"] for line in lines) == rejected
    rows = [row for part in PARTS for row in all_lines(tmp_path / f"outputs/distinct/{part}")]
    assert len({row["messages"][0]["content"] for row in rows}) == len(rows) == 31
