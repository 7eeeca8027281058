"""Names of the hub go through `datasets`, which here reads a folder: no network in tests."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from medtune.arguments import DataArguments
from medtune.common.errors import DataError
from medtune.data.hub import is_hub_name
from medtune.data.loading import load_conversations


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What load_dataset was asked for; it answers with the files of a folder."""
    folder = tmp_path / "remote"
    folder.mkdir()
    for split in ("train", "test"):
        rows = [{"instruction": f"{split}{n}", "input": "", "output": "休息"} for n in range(30)]
        text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    calls: list[dict[str, Any]] = []
    load = datasets.load_dataset

    def answer(name: str, config: str | None, split: str, revision: str | None) -> Any:
        calls.append({"name": name, "config": config, "split": split, "revision": revision})
        return load(str(folder), split=split, cache_dir=str(tmp_path / "hf"))

    monkeypatch.setattr(datasets, "load_dataset", answer)
    monkeypatch.setenv("MEDTUNE_CACHE", str(tmp_path / "cache"))
    return calls


@pytest.mark.parametrize(
    ("name", "split", "more"),
    [
        ("someone/medical-talk", "train", {}),
        ("someone/medical-talk:test", "test", {}),
        ("someone/medical.talk@v1.0:zh:test", "test", {"config": "zh", "revision": "v1.0"}),
    ],
)
def test_rows_of_a_hub_name_are_read_like_those_of_a_file(
    asked: list[dict[str, Any]], name: str, split: str, more: dict[str, str]
) -> None:
    for _ in range(2):
        loaded = load_conversations(DataArguments(name), 1)

        questions = {record.key for part in (loaded.train, loaded.validation) for record in part}
        assert questions == {f"{split}{number}" for number in range(30)}
    expected = {"name": name.partition(":")[0].partition("@")[0], "split": split}
    assert asked == [{"config": None, "revision": None, **expected, **more}]  # once


def test_split_that_is_not_there_is_refused(asked: list[dict[str, Any]]) -> None:
    with pytest.raises(DataError, match="someone/talk: expected a folder or file here, or a data"):
        load_conversations(DataArguments("someone/talk:validation"), 1)


@pytest.mark.parametrize(
    ("text", "is_name"),
    [
        ("someone/talk", True), ("a/b:c:d", True), ("data/pretrain", False), ("talk", False),
        ("/someone/talk", False), ("a/b/c", False), ("a/b.jsonl", False), ("./a/b", False),
        ("../a", False), ("nowhere/rows.csv", False),
    ],
)  # fmt: skip
def test_what_a_hub_name_is(
    text: str, is_name: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)

    assert is_hub_name(text) == is_name
