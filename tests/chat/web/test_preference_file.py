"""Votes become rows that the DPO stage reads as they are.

Reference: medtune's own loader of preference data.
"""

import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from medtune.chat.web import preferences
from medtune.chat.web.preferences import PreferenceFile, read_pair
from medtune.chat.web.refusals import Refusal
from medtune.data.reading import read_preference_file
from medtune.data.records import Message, PreferencePair, Source
from tests.chat.web.serving import ADVICE, advice_for, running

PAIR = {
    "system": "你是医生。",
    "history": [["一", "二"]],
    "question": "头痛\u2028怎么办？\n",
    "chosen": "休息😊",
    "rejected": "不知道",
}


def test_vote_is_a_row_of_five_fields_that_the_loader_reads(tmp_path: Path) -> None:
    with running(folder=tmp_path) as server:
        assert server.http.get("/v1/models").json()["medtune"]["collects_preferences"] is True
        assert not server.preferences.exists()
        assert server.http.post("/v1/preferences", json=PAIR).status_code == 201
        short = {"question": "q", "chosen": "a", "rejected": "b"}
        assert server.http.post("/v1/preferences", json=short).status_code == 201
        file = server.preferences

    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]
    assert rows[0] == {
        "system": "你是医生。",
        "history": [["一", "二"]],
        "question": "头痛\u2028怎么办？\n",
        "response_chosen": "休息😊",
        "response_rejected": "不知道",
    }
    turns = [Message("system", "你是医生。"), Message("user", "一"), Message("assistant", "二")]
    first, second = read_preference_file(file)
    assert first == PreferencePair(
        (*turns, Message("user", PAIR["question"])),  # type: ignore[arg-type]
        "休息😊",
        "不知道",
        Source(str(file), 1),
    )
    assert second == PreferencePair((Message("user", "q"),), "a", "b", Source(str(file), 2))


def test_vote_holds_what_the_model_said_and_not_the_advice_before_it() -> None:
    pair = {
        "history": [["胸痛", f"{ADVICE}\n\n一"], ["头痛", ADVICE]],
        "question": "胸痛",
        "chosen": f"{ADVICE}\n\n休息",
        "rejected": "不知道",
    }

    row = read_pair(pair, advice_for)

    assert row["history"] == [["胸痛", "一"], ["头痛", ADVICE]]
    assert (row["response_chosen"], row["response_rejected"]) == ("休息", "不知道")
    with pytest.raises(Refusal):  # two answers that differ by the advice alone
        read_pair(pair | {"rejected": "休息"}, advice_for)


def test_file_and_its_folder_are_the_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        file = PreferenceFile(str(tmp_path / "new" / "votes.jsonl"))
        file.add(read_pair(PAIR, advice_for))
    finally:
        os.umask(before)

    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700


def test_votes_at_one_time_each_have_a_line(tmp_path: Path) -> None:
    path = str(tmp_path / "votes.jsonl")

    def vote(number: int) -> None:
        for turn in range(20):
            row = {"question": f"{number}-{turn}", "chosen": "a" * 5000, "rejected": "b"}
            PreferenceFile(path).add(read_pair(row, advice_for))

    threads = [threading.Thread(target=vote, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    pairs = list(read_preference_file(Path(path)))
    assert len(pairs) == 160
    assert {pair.key for pair in pairs if isinstance(pair, PreferencePair)} == {
        f"{number}-{turn}" for number in range(8) for turn in range(20)
    }


@pytest.mark.parametrize(
    "change",
    [
        {"question": None},
        {"question": " "},
        {"question": ["q"]},
        {"question": "\ud800"},
        {"chosen": "不知道"},
        {"chosen": ""},
        {"chosen": {"role": "assistant", "content": "a"}},
        {"rejected": 7},
        {"rejected": "a" * (1 << 18) + "b"},
        {"system": {"a": 1}},
        {"history": "一"},
        {"history": [["一"]]},
        {"history": [["一", ""]]},
        {"history": [["一", 2]]},
        {"history": [["a", "b"]] * 201},
        {"path": "/etc/passwd"},
    ],
)
def test_pair_that_dpo_could_not_use_is_refused_and_nothing_is_written(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    with running(folder=tmp_path) as server:
        reply = server.http.post(
            "/v1/preferences",
            content=json.dumps(PAIR | change),
            headers={"Content-Type": "application/json"},
        )
        assert reply.status_code == 400
        assert reply.json()["error"]["message"].count("expected") == 1
        assert not server.preferences.exists()


def test_full_disk_leaves_whole_lines_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = PreferenceFile(str(tmp_path / "votes.jsonl"))
    file.add(read_pair(PAIR, advice_for))
    before = file.path.read_bytes()
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda where, line: real_write(where, line[:10]))
    with pytest.raises(Refusal) as caught:
        file.add(read_pair(PAIR, advice_for))
    monkeypatch.undo()
    assert caught.value.status == 503
    assert file.path.read_bytes() == before

    monkeypatch.setattr(preferences, "MAX_FILE_BYTES", len(before) + 10)
    with pytest.raises(Refusal):
        file.add(read_pair(PAIR, advice_for))
    assert file.path.read_bytes() == before


def test_file_that_cannot_be_made_is_503_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    with running(folder=tmp_path) as server:
        reply = server.http.post("/v1/preferences", json=PAIR)

    assert reply.status_code == 503
    assert str(tmp_path) not in reply.text
