"""Files become the rows, the ledger and the rejects that a record-by-record preparation gives.

The reference below holds everything in lists and renders one record at a time. With and without the
cache the outcome must be the same, and a damaged cache must never be believed.
"""

import json
import os
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from medtune.arguments import DataArguments
from medtune.common import cache
from medtune.common.errors import ConfigError, DataError
from medtune.data import batching, preparation, row_cache
from medtune.data.batching import batches_of
from medtune.data.grouping import group_text_function, tokenize_batches, tokenize_function
from medtune.data.limits import Limits
from medtune.data.loading import load_conversations, load_preferences, load_texts
from medtune.data.parts import NOT_SAMPLED
from medtune.data.preparation import (
    NO_ROOM,
    prepare_blocks,
    prepare_conversation_blocks,
    prepare_conversations,
    prepare_pairs,
    write_blocks,
    write_conversations,
)
from medtune.data.rendering import ChatRenderer, cut_conversation, cut_pair
from medtune.data.row_cache import FACTS_FILE, INDEX_FILE, NUM_ENTRIES_KEPT
from medtune.data.rows import Rows
from tests.conftest import WriteJsonl

SEED, MAX_LENGTH = 3, 40
Prepared = tuple[list[dict], list[dict], dict, list[dict]]


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test, and small batches, so that there are several."""
    monkeypatch.setenv("MEDTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(batching, "BATCH_RECORDS", 7)
    monkeypatch.setattr("medtune.data.rows.BATCH_ROWS", 5)
    return tmp_path / "cache" / "rows"


@pytest.fixture
def renderer(glm: ChatRenderer) -> ChatRenderer:
    """A renderer that has seen no reply yet."""
    return ChatRenderer(glm.tokenizer, glm.turn_end)


def sentence(rng: random.Random) -> str:
    return "".join(rng.choices(["头痛", "休息", "，", "38.5", " fever", "<|user|>", "。"], k=12))


def conversation_rows(count: int, seed: int = 0) -> list[dict]:
    """Conversations of one to three replies; some too long, some with an empty turn."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        turns = []
        for turn in range(rng.randint(1, 3)):
            turns.append({"role": "user", "content": f"{number}.{turn} {sentence(rng)}"})
            turns.append({"role": "assistant", "content": sentence(rng) * rng.randint(1, 2)})
        if rng.random() < 0.1:
            turns[0]["content"] += "很长" * 60
        if rng.random() < 0.1:
            turns[-1]["content"] = " "
        rows.append({"messages": turns})
    return rows


def pair_rows(count: int) -> list[dict]:
    rng = random.Random(1)
    return [
        {
            "question": f"{number} " + "很长" * 40 * (rng.random() < 0.1),
            "history": [["你好", sentence(rng)]] * rng.randint(0, 1),
            "response_chosen": sentence(rng),
            "response_rejected": sentence(rng) * rng.randint(0, 1),
        }
        for number in range(count)
    ]


def options(folder: Path, **more: Any) -> DataArguments:
    values = {"validation_split_percentage": 20, "max_rejected_percentage": 100} | more
    return DataArguments(str(folder), **values)


def told(rows: Rows) -> Prepared:
    """Everything about prepared rows, as plain values."""
    rejects = sorted((r.to_dict() for r in rows.rejects), key=lambda r: (r["file"], r["line"]))
    ledger = {name: rows.ledger[name] for name in ("rows", "tokens", "training_rows")}
    return rows.train.to_list(), rows.validation.to_list(), ledger, rejects


def one_by_one(data: Any, render: Callable[[Any, Counter], dict | None]) -> Prepared:
    """What a preparation without batches gives: everything in lists, one record at a time."""
    parts, tokens, kept = [], {}, {}
    rejects = [reject.to_dict() for reject in data.rejects]
    for name, records in (("train", data.train), ("validation", data.validation)):
        tokens[name] = Counter(read=0, kept=0, truncated=0, truncated_rows=0, supervised=0)
        rows = []
        for record in records:
            row = render(record, tokens[name])
            if row is None:
                message = (
                    f"the prompt leaves no room for its answers within --max_length {MAX_LENGTH}."
                )
                place = {"file": record.source.path, "line": record.source.line}
                rejects.append({**place, "reason": NO_ROOM, "message": message, "row": None})
            else:
                rows.append(row)
        parts.append(rows)
        kept[name] = len(rows)
    ledger = {
        "rows": {
            "read": sum(data.rows_read),
            "rejected": dict(Counter(reject["reason"] for reject in rejects)),
            "not_sampled": int((data.part_of == NOT_SAMPLED).sum()),
            **kept,
            "mixed": 0,
        },
        "tokens": {name: dict(count) for name, count in tokens.items()},
        "training_rows": kept,
    }
    return parts[0], parts[1], ledger, sorted(rejects, key=lambda r: (r["file"], r["line"]))


# -- the same as record by record


@pytest.mark.parametrize("limits", [{}, {"max_train_samples": 11, "max_eval_samples": 3}])
def test_conversations_are_those_rendered_one_by_one(
    tmp_path: Path, write_jsonl: WriteJsonl, renderer: ChatRenderer, limits: dict
) -> None:
    for name in ("a", "b"):
        write_jsonl(tmp_path / "data" / f"{name}.jsonl", conversation_rows(40, ord(name)))
    arguments = options(tmp_path / "data", **limits)

    def render(record: Any, tokens: Counter) -> dict | None:
        rendered = cut_conversation(renderer.conversation(record), MAX_LENGTH, tokens)
        return None if rendered is None else vars(rendered)

    expected = one_by_one(load_conversations(arguments, SEED), render)
    assert {"empty_content", NO_ROOM} <= expected[2]["rows"]["rejected"].keys()
    for _ in ("built", "cached"):
        assert told(prepare_conversations(arguments, renderer, MAX_LENGTH, SEED)) == expected


def test_pairs_are_those_rendered_one_by_one(
    tmp_path: Path, write_jsonl: WriteJsonl, renderer: ChatRenderer
) -> None:
    write_jsonl(tmp_path / "data" / "a.jsonl", pair_rows(60))
    arguments = options(tmp_path / "data")

    expected = one_by_one(
        load_preferences(arguments, SEED),
        lambda record, tokens: cut_pair(renderer.pair(record), MAX_LENGTH, tokens),
    )
    assert {"empty_content", NO_ROOM} <= expected[2]["rows"]["rejected"].keys()
    for _ in ("built", "cached"):
        assert told(prepare_pairs(arguments, renderer, MAX_LENGTH, SEED)) == expected


def test_blocks_are_those_of_all_documents_laid_end_to_end(
    tmp_path: Path, renderer: ChatRenderer
) -> None:
    rng = random.Random(2)
    texts = [sentence(rng) * rng.randint(1, 4) for _ in range(50)]
    (tmp_path / "book.txt").write_text("\n\n".join(texts), encoding="utf-8")
    arguments = options(tmp_path / "book.txt")
    data = load_texts(arguments, "blank_line", SEED)

    expected = []
    for part in (data.train, data.validation):
        documents = tokenize_function([record.text for record in part], renderer.tokenizer)
        expected.append(group_text_function(documents, 32))
    for _ in ("built", "cached"):
        rows = prepare_blocks(arguments, renderer.tokenizer, "blank_line", 32, SEED)
        assert [rows.train.to_list(), rows.validation.to_list()] == expected
        for name, part in zip(("train", "validation"), expected, strict=True):
            num_tokens = sum(len(row["input_ids"]) for row in part)
            assert rows.ledger["tokens"][name] == {
                "read": num_tokens,
                "kept": num_tokens,
                "truncated": 0,
                "truncated_rows": 0,
                "supervised": num_tokens - sum(len(row["seq_lengths"]) for row in part),
            }
            assert rows.ledger["training_rows"][name] == len(part)


def test_blocks_of_conversations_are_the_rendered_ones_laid_end_to_end(
    tmp_path: Path, write_jsonl: WriteJsonl, renderer: ChatRenderer
) -> None:
    write_jsonl(tmp_path / "data" / "a.jsonl", conversation_rows(60))
    arguments = options(tmp_path / "data")
    data = load_conversations(arguments, SEED)
    expected = [
        group_text_function([renderer.conversation(record).input_ids for record in part], 32)
        for part in (data.train, data.validation)
    ]

    for _ in ("built", "cached"):
        rows = prepare_conversation_blocks(arguments, renderer, 32, SEED)
        assert [rows.train.to_list(), rows.validation.to_list()] == expected
        # The questions are learnt too: all but the first token of each piece.
        tokens = rows.ledger["tokens"]["train"]
        pieces = sum(len(row["seq_lengths"]) for row in expected[0])
        assert tokens["supervised"] == tokens["read"] - pieces
        assert set(rows.turn_ends) == renderer.turn_ends != set()


# -- the cache


@pytest.fixture
def folder(tmp_path: Path, write_jsonl: WriteJsonl) -> Path:
    return write_jsonl(tmp_path / "data" / "a.jsonl", conversation_rows(20)).parent


@pytest.fixture
def num_built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list with one number, how often data were read to be prepared."""
    count = [0]

    def load(*arguments: Any) -> Any:
        count[0] += 1
        return load_conversations(*arguments)

    monkeypatch.setattr(preparation, "load_conversations", load)
    return count


def test_second_time_nothing_is_read_and_reply_ends_are_known(
    folder: Path, renderer: ChatRenderer, num_built: list[int]
) -> None:
    first = prepare_conversations(options(folder), renderer, MAX_LENGTH, SEED)
    again = ChatRenderer(renderer.tokenizer, renderer.turn_end)
    second = prepare_conversations(options(folder), again, MAX_LENGTH, SEED)

    assert num_built == [1]
    assert told(second) == told(first)
    assert again.turn_ends == renderer.turn_ends != set()


def test_whatever_rows_are_made_from_makes_another_entry(
    folder: Path, renderer: ChatRenderer, num_built: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = deepcopy(renderer.tokenizer)
    other.chat_template = other.chat_template.replace("\n", " ")
    calls: list[tuple] = [
        (options(folder), renderer, MAX_LENGTH, SEED),
        (options(folder), renderer, None, SEED),
        (options(folder), renderer, MAX_LENGTH, SEED + 1),
        (options(folder, max_train_samples=5), renderer, MAX_LENGTH, SEED),
        (options(folder, validation_split_percentage=30), renderer, MAX_LENGTH, SEED),
        (options(folder), ChatRenderer(other, renderer.turn_end), MAX_LENGTH, SEED),
    ]
    for number, call in enumerate(calls, start=1):
        prepare_conversations(*call)
        assert num_built == [number]

    text = (folder / "a.jsonl").read_text(encoding="utf-8")
    (folder / "a.jsonl").write_text(text.replace("休息", "睡觉"), encoding="utf-8")
    prepare_conversations(*calls[0])
    assert num_built == [len(calls) + 1]
    monkeypatch.setattr(row_cache, "version", lambda name: "another release of the library")
    prepare_conversations(*calls[0])
    assert num_built == [len(calls) + 2]


def flip(path: Path) -> None:
    """Change one bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES: list[Callable[[Path], object]] = [
    flip,
    lambda path: os.truncate(path, path.stat().st_size // 2),
    lambda path: os.truncate(path, 0),
    lambda path: path.unlink(),
    lambda path: path.write_text("null"),
    lambda path: path.write_text("{}"),
    lambda path: path.write_text("[1]"),
]


@pytest.mark.parametrize("name", [FACTS_FILE, "train.arrow", "validation.arrow", INDEX_FILE])
def test_damaged_entry_is_built_again(
    folder: Path, renderer: ChatRenderer, num_built: list[int], cache_folder: Path, name: str
) -> None:
    expected = told(prepare_conversations(options(folder), renderer, MAX_LENGTH, SEED))
    (entry,) = (path for path in cache_folder.iterdir() if path.is_dir())
    for number, damage in enumerate(DAMAGES, start=2):
        damage(entry / name)
        for _ in range(2):
            rows = prepare_conversations(options(folder), renderer, MAX_LENGTH, SEED)
            assert told(rows) == expected
        assert num_built == [number]


def test_failed_build_leaves_no_entry(
    folder: Path, renderer: ChatRenderer, cache_folder: Path, write_jsonl: WriteJsonl
) -> None:
    write_jsonl(folder / "b.jsonl", ['{"messages": ['])

    with pytest.raises(DataError, match=r"b.jsonl:1: "):
        prepare_conversations(options(folder), renderer, MAX_LENGTH, SEED)
    assert [path for path in cache_folder.iterdir() if path.is_dir()] == []


def test_file_that_changes_while_it_is_read_is_refused(
    folder: Path, renderer: ChatRenderer, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(arguments: DataArguments, seed: int) -> Any:
        data = load_conversations(arguments, seed)
        with (folder / "a.jsonl").open("a") as file:
            file.write("\n")
        return data

    monkeypatch.setattr(preparation, "load_conversations", load)
    with pytest.raises(DataError, match="changed while it was read"):
        prepare_conversations(options(folder), renderer, MAX_LENGTH, SEED)
    assert [path for path in cache_folder.iterdir() if path.is_dir()] == []


def test_entries_used_last_are_kept(
    folder: Path, renderer: ChatRenderer, num_built: list[int], cache_folder: Path
) -> None:
    for seed in range(NUM_ENTRIES_KEPT):
        prepare_conversations(options(folder), renderer, None, seed)
    prepare_conversations(options(folder), renderer, None, 0)  # used again
    prepare_conversations(options(folder), renderer, None, NUM_ENTRIES_KEPT)

    assert num_built == [NUM_ENTRIES_KEPT + 1]
    assert len([path for path in cache_folder.iterdir() if path.is_dir()]) == NUM_ENTRIES_KEPT
    prepare_conversations(options(folder), renderer, None, 0)
    assert num_built == [NUM_ENTRIES_KEPT + 1]
    prepare_conversations(options(folder), renderer, None, 1)  # the one that was removed
    assert num_built == [NUM_ENTRIES_KEPT + 2]


def test_removed_entry_can_be_read_on(
    folder: Path, renderer: ChatRenderer, cache_folder: Path
) -> None:
    rows = prepare_conversations(options(folder), renderer, MAX_LENGTH, SEED)
    expected = rows.train.to_list()
    for path in [path for path in cache_folder.rglob("*") if path.is_file()]:
        path.unlink()

    assert rows.train.to_list() == expected


def test_cache_that_cannot_be_written_is_refused(
    folder: Path, renderer: ChatRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDTUNE_CACHE", str(folder / "a.jsonl"))

    with pytest.raises(ConfigError, match="MEDTUNE_CACHE"):
        prepare_conversations(options(folder), renderer, MAX_LENGTH, SEED)


def test_later_processes_of_a_machine_wait_for_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(cache, "WAIT_SECONDS", 0)
    found = iter([None, None, "rows"])

    def build(folder: Path) -> None:
        raise AssertionError("only the first process builds")

    assert cache.read_or_build(tmp_path / "entry", lambda _: next(found), build) == ("rows", False)


def test_rejected_rows_come_back_from_the_cache_as_they_were(
    folder: Path, renderer: ChatRenderer, write_jsonl: WriteJsonl, num_built: list[int]
) -> None:
    half = r'{"messages": [{"role": "user", "content": "\ud83d", "score": 0.1, "n": null}]}'
    write_jsonl(folder / "b.jsonl", [half])

    first, second = (
        prepare_conversations(options(folder), renderer, MAX_LENGTH, SEED) for _ in range(2)
    )

    assert num_built == [1]
    assert second.rejects == first.rejects
    assert json.loads(half) in [reject.row for reject in first.rejects]


# -- memory


def text_row(text: str) -> dict:
    return {"text": text}


def talk_row(text: str) -> dict:
    roles = ("user", "assistant", "user", "assistant")
    return {"messages": [{"role": role, "content": text} for role in roles]}


@pytest.mark.parametrize("stage", ["conversations", "blocks"])
def test_memory_does_not_grow_with_the_rows(
    tmp_path: Path, renderer: ChatRenderer, write_jsonl: WriteJsonl, stage: str
) -> None:
    as_row = talk_row if stage == "conversations" else text_row

    def peak_bytes(count: int) -> int:
        """The most that Python held at once while `count` rows were prepared."""
        path = tmp_path / f"{count}.jsonl"
        write_jsonl(path, (as_row(f"{number}" + "头痛" * 60) for number in range(count)))
        output = tmp_path / str(count)
        output.mkdir()
        tracemalloc.start()
        if stage == "conversations":
            write_conversations(load_conversations(options(path), SEED), renderer, Limits(), output)
        else:
            data = load_texts(options(path), "line", SEED)
            texts = (([r.text for r in b.records], b) for b in batches_of(data.records()))
            write_blocks(data, tokenize_batches(texts, renderer.tokenizer), 64, output)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes(100)  # fills caches
    small, large = peak_bytes(500), peak_bytes(2000)

    assert large - small < 1500 * 100  # at most 100 bytes a row; the text of one has above 300
