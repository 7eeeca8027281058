"""A folder becomes training and validation records, and every row read is accounted for.

Reference: what the generating test wrote into the folder, counted while writing it.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from medtune.arguments import DataArguments
from medtune.common.errors import DataError
from medtune.data.ledger import ledger_of
from medtune.data.loading import (
    Loaded,
    load_conversations,
    load_preferences,
    load_texts,
)
from medtune.data.parts import UNUSED
from medtune.data.reading import read_all, read_conversation_file
from medtune.data.records import Conversation
from medtune.data.rows import Rows
from medtune.data.splitting import ordered_key, split_keys
from medtune.training.run_folder import RunFolder
from tests.conftest import WriteJsonl

SEED = 11


def talk(question: str, answer: str = "休息") -> dict[str, Any]:
    return {
        "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    }


def talks(count: int) -> list[dict[str, Any]]:
    return [talk(f"问题{number}") for number in range(count)]


def load(folder: Path, seed: int = SEED, **options: Any) -> Loaded[Conversation]:
    return load_conversations(DataArguments(str(folder), **options), seed)


def keys(records: Iterable[Any]) -> list[str]:
    return [record.key for record in records]


def rows_of(loaded: Loaded[Any]) -> dict[str, Any]:
    return ledger_of(loaded)["rows"]


def refusal(action: Callable[[], object]) -> str:
    """The message of the DataError that `action` ends with."""
    with pytest.raises(DataError) as caught:
        action()
    assert caught.value.exit_code == 2
    return str(caught.value)


# -- the ledger


@pytest.mark.parametrize("seed", range(40))
def test_ledger_balances(tmp_path: Path, write_jsonl: WriteJsonl, seed: int) -> None:
    rng = random.Random(seed)
    written: dict[str, Counter[str]] = {"train": Counter(), "validation": Counter()}
    questions: dict[str, list[str]] = {"train": [], "validation": []}

    def write_folder(part: str, first: int, last: int) -> Path:
        for number in range(rng.randint(1, 4)):
            rows = []
            for _ in range(rng.randint(3, 40)):
                question = f"问题{rng.randint(first, last)}"
                is_bad = rng.random() < 0.15
                rows.append(talk(question, " " if is_bad else f"答{rng.random()}"))
                written[part]["bad" if is_bad else "good"] += 1
                questions[part] += [] if is_bad else [question]
            # Two questions that only this part has: neither part is ever left with nothing.
            rows += [talk(f"{part}-{number}"), talk(f"{part}-{number}-again")]
            written[part]["good"] += 2
            questions[part] += [f"{part}-{number}", f"{part}-{number}-again"]
            rng.shuffle(rows)
            nested = "deep/er/" * rng.randint(0, 1)
            write_jsonl(tmp_path / part / f"{nested}{number}.jsonl", rows)
        return tmp_path / part

    train = write_folder("train", 0, 30)
    options: dict[str, Any] = {"max_rejected_percentage": 100}
    if rng.random() < 0.5:
        options["validation_file_dir"] = str(write_folder("validation", 20, 50))
    if rng.random() < 0.5:
        options |= {"max_train_samples": rng.randint(1, 30), "max_eval_samples": rng.randint(1, 5)}

    loaded = load(train, seed, **options)
    rows = rows_of(loaded)

    num_bad = sum(count["bad"] for count in written.values())
    overlap = len([q for q in questions["train"] if q in set(questions["validation"])])
    rejected = {"empty_content": num_bad, "in_validation": overlap}
    assert rows["read"] == sum(count.total() for count in written.values())
    assert rows["rejected"] == {reason: count for reason, count in rejected.items() if count}
    used = rows["not_sampled"] + len(loaded.train) + len(loaded.validation)
    assert used == rows["read"] - num_bad - overlap
    assert (rows["train"], rows["validation"]) == (len(loaded.train), len(loaded.validation))
    assert len(loaded.rejects) == num_bad + overlap
    assert not set(keys(loaded.train)) & set(keys(loaded.validation))
    if "max_train_samples" in options:
        assert len(loaded.train) <= options["max_train_samples"]
        assert len(loaded.validation) <= options["max_eval_samples"]
    else:
        assert rows["not_sampled"] == 0


def test_ledger_that_does_not_balance_is_a_defect(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    write_jsonl(tmp_path / "a.jsonl", talks(10))
    loaded = load(tmp_path)
    loaded.part_of[0] = UNUSED

    with pytest.raises(AssertionError, match="rows do not balance"):
        ledger_of(loaded)


# -- rows that cannot be used

MALFORMED = [
    '{"conversations": [',
    '"text"',
    {"question": "another format"},
    {"conversations": ["头痛"]},
    {"conversations": [{"from": "doctor", "value": "x"}]},
]


@pytest.mark.parametrize("max_rejected_percentage", [0, 1, 100])
@pytest.mark.parametrize("row", MALFORMED, ids=["not-json", "text", "other-format", "turn", "role"])
def test_malformed_row_stops_whatever_the_limit(
    tmp_path: Path, write_jsonl: WriteJsonl, row: Any, max_rejected_percentage: float
) -> None:
    write_jsonl(tmp_path / "a.jsonl", talks(200))
    file = write_jsonl(tmp_path / "b.jsonl", [talk("甲"), row, talk("乙")])

    message = refusal(lambda: load(tmp_path, max_rejected_percentage=max_rejected_percentage))

    assert message.startswith(f"{file}:2: expected ")
    assert "1 bad rows of 203" in message


@pytest.mark.parametrize(
    "row",
    [MALFORMED[0], MALFORMED[2], talk("甲", "")],
    ids=["not-json", "other-format", "empty-reply"],
)
def test_folder_without_any_good_row_is_refused_with_its_first_line(
    tmp_path: Path, write_jsonl: WriteJsonl, row: Any
) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", [row] * 3)

    assert refusal(lambda: load(tmp_path)).startswith(f"{file}:1: expected ")


def test_rule_breaking_rows_up_to_the_limit_are_left_out_and_recorded(
    tmp_path: Path, write_jsonl: WriteJsonl
) -> None:
    bad = talk("甲", "")
    file = write_jsonl(tmp_path / "a.jsonl", [*talks(50), bad, *talks(99)[50:]])  # 1 of 100

    loaded = load(tmp_path)

    (entry,) = [reject.to_dict() for reject in loaded.rejects]
    message = entry.pop("message")
    assert entry == {"file": str(file), "line": 51, "reason": "empty_content", "row": bad}
    assert "turn 2 (gpt), found an empty str" in message
    assert rows_of(loaded) == {
        "read": 100,
        "rejected": {"empty_content": 1},
        "not_sampled": 0,
        "train": 94,  # 99 questions, of which 5 % (4.95) for validation
        "validation": 5,
        "mixed": 0,
    }


def test_rule_breaking_rows_above_the_limit_stop_and_are_listed(
    tmp_path: Path, write_jsonl: WriteJsonl
) -> None:
    rows = [talk("甲", ""), *talks(98), {"conversations": []}]  # 2 of 100
    file = write_jsonl(tmp_path / "a.jsonl", rows)

    message = refusal(lambda: load(tmp_path))

    assert message.startswith(f"{file}:1: expected text in turn 2 (gpt)")
    assert f"{file}:100: expected a list of turns" in message
    assert "2 bad rows of 100" in message
    assert "--max_rejected_percentage" in message


def test_limit_0_stops_at_one_rule_breaking_row(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", [*talks(300), talk("甲", "")])

    message = refusal(lambda: load(tmp_path, max_rejected_percentage=0))

    assert message.startswith(f"{file}:301: ")


def test_limit_100_keeps_what_little_is_good(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    write_jsonl(tmp_path / "a.jsonl", [*[talk("甲", "")] * 60, *talks(2)])

    loaded = load(tmp_path, max_rejected_percentage=100)

    assert rows_of(loaded)["rejected"] == {"empty_content": 60}
    assert sorted(keys(loaded.train) + keys(loaded.validation)) == ["问题0", "问题1"]


def test_rows_also_in_validation_do_not_count_against_the_limit(
    tmp_path: Path, write_jsonl: WriteJsonl
) -> None:
    write_jsonl(tmp_path / "train" / "a.jsonl", talks(10))
    validation = write_jsonl(tmp_path / "validation" / "a.jsonl", talks(5))

    loaded = load(
        tmp_path / "train", validation_file_dir=str(validation), max_rejected_percentage=0
    )

    assert rows_of(loaded)["rejected"] == {"in_validation": 5}


def test_text_that_cannot_be_written_as_utf8_is_refused_with_its_line(
    tmp_path: Path, write_jsonl: WriteJsonl
) -> None:
    half_an_emoji = (
        r'{"conversations": [{"from": "human", "value": "\ud83d"}, {"from": "gpt", "value": "a"}]}'
    )
    file = write_jsonl(tmp_path / "a.jsonl", [*talks(3), half_an_emoji])

    assert refusal(lambda: load(tmp_path)).startswith(f"{file}:4: ")


def test_reject_that_utf8_cannot_hold_is_still_written_down(
    tmp_path: Path, write_jsonl: WriteJsonl
) -> None:
    rows = [r'{"conversations": [{"from": "human", "value": "\ud83d"}]}', *talks(99)]
    file = write_jsonl(tmp_path / "a.jsonl", rows)
    loaded = load(tmp_path)  # 1 of 100

    none = Dataset.from_list([])
    rows = Rows(none, none, ledger_of(loaded), loaded.rejects)

    RunFolder(tmp_path / "run", {"stage": "test"}).open(rows)

    (line,) = (tmp_path / "run" / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
    entry = json.loads(line)
    assert (entry["file"], entry["line"], entry["reason"]) == (str(file), 1, "invalid_unicode")


def test_rows_of_evaluation_data_that_break_a_rule_are_left_out_up_to_one_per_cent(
    tmp_path: Path, write_jsonl: WriteJsonl, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("medtune.common.log.logger.propagate", True)
    file = write_jsonl(tmp_path / "a.jsonl", [*talks(200), talk("甲", "")])

    assert len(read_all(str(tmp_path), read_conversation_file)) == 200
    assert "rows left out: 1 empty_content" in caplog.text

    write_jsonl(file, [*talks(50), talk("甲", "")])
    message = refusal(lambda: read_all(str(tmp_path), read_conversation_file))
    assert message.startswith(f"{file}:51: ")

    write_jsonl(file, [*talks(200), "{"])
    message = refusal(lambda: read_all(str(tmp_path), read_conversation_file))
    assert message.startswith(f"{file}:201: ")


# -- the split


def split(names: Sequence[str], percentage: float, seed: int) -> list[bool]:
    """For each of these keys whether it goes to validation."""
    return split_keys(np.array([ordered_key(name, seed) for name in names]), percentage).tolist()


@pytest.mark.parametrize("seed", range(20))
def test_split_is_by_the_hash_of_seed_and_key(seed: int) -> None:
    rng = random.Random(seed)
    names = [f"t{rng.randint(0, 60)}" for _ in range(rng.randint(10, 200))]
    percentage = rng.uniform(1, 50)

    is_validation = split(names, percentage, seed)

    # As docs/data_formats.md says it.
    order = sorted(set(names), key=lambda name: sha256(f"{seed}\0{name}".encode()).hexdigest())
    chosen = set(order[: max(1, round(len(order) * percentage / 100))])
    assert is_validation == [name in chosen for name in names]
    assert 0 < sum(is_validation) < len(names)


@pytest.mark.parametrize("seed", range(5))
def test_split_is_disjoint_complete_and_in_file_order(
    tmp_path: Path, write_jsonl: WriteJsonl, seed: int
) -> None:
    rng = random.Random(seed)
    count = rng.randint(10, 200)
    file = write_jsonl(tmp_path / "a.jsonl", [talk(f"t{rng.randint(0, 60)}") for _ in range(count)])

    loaded = load(file, seed, validation_split_percentage=rng.uniform(1, 50))

    assert not set(keys(loaded.train)) & set(keys(loaded.validation))
    lines = [[record.source.line for record in part] for part in (loaded.train, loaded.validation)]
    assert all(lines)
    assert [sorted(part) for part in lines] == lines
    assert sorted(lines[0] + lines[1]) == list(range(1, count + 1))


@pytest.mark.parametrize(
    ("num_keys", "percentage", "expected"),
    [(200, 5, 10), (200, 50, 100), (200, 0.5, 1), (3, 5, 1), (2, 50, 1), (1000, 12.3, 123)],
)
def test_split_takes_the_percentage_of_distinct_keys(
    num_keys: int, percentage: float, expected: int
) -> None:
    names = [f"t{number}" for number in range(num_keys)] * 3

    is_validation = split(names, percentage, SEED)

    chosen = Counter(
        name for name, is_chosen in zip(names, is_validation, strict=True) if is_chosen
    )
    assert set(chosen.values()) == {3}  # duplicates stay together
    assert len(chosen) == expected


def test_hashes_that_end_in_zeros_are_told_apart() -> None:
    """numpy's byte strings drop trailing zeros when read one by one, not when compared."""
    hashes = [bytes(16), b"\1" + bytes(15), b"\1\1" + bytes(14), b"\1" + bytes(14) + b"\1"]

    assert split_keys(np.frombuffer(b"".join(hashes), "S16"), 50).tolist() == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("seed", range(5))
def test_split_does_not_depend_on_the_order_of_files_and_rows(
    tmp_path: Path, write_jsonl: WriteJsonl, seed: int
) -> None:
    rows = talks(120)
    write_jsonl(tmp_path / "one" / "a.jsonl", rows)
    random.Random(seed).shuffle(rows)
    for number, name in enumerate(("z", "m", "deep/a")):
        write_jsonl(tmp_path / "many" / f"{name}.jsonl", rows[number::3])

    one, many = load(tmp_path / "one"), load(tmp_path / "many")

    assert len(one.validation) == 6
    assert set(keys(one.validation)) == set(keys(many.validation))
    assert set(keys(one.train)) == set(keys(many.train))


def test_split_depends_on_the_seed_alone(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    write_jsonl(tmp_path / "a.jsonl", talks(120))
    splits = [frozenset(keys(load(tmp_path, seed).validation)) for seed in (1, 1, 2, 3)]

    assert splits[0] == splits[1]
    assert len(set(splits)) == 3


def test_conversations_that_share_the_first_question_stay_together(
    tmp_path: Path, write_jsonl: WriteJsonl
) -> None:
    rows = [talk(f" 问题{n % 20}\n" if n % 2 else f"问题{n % 20}", f"答{n}") for n in range(100)]
    write_jsonl(tmp_path / "a.jsonl", rows)

    loaded = load(tmp_path, validation_split_percentage=20)

    assert set(Counter(keys(loaded.validation)).values()) == {5}
    assert len(loaded.validation) == 20


def test_pairs_that_share_the_last_question_stay_together(
    tmp_path: Path, write_jsonl: WriteJsonl
) -> None:
    rows = [
        {
            "question": f"问题{number % 10}",
            "history": [["你好", f"您好{number}"]],
            "response_chosen": "休息",
            "response_rejected": f"不{number}",
        }
        for number in range(40)
    ]
    write_jsonl(tmp_path / "a.jsonl", rows)

    loaded = load_preferences(DataArguments(str(tmp_path), validation_split_percentage=30), SEED)

    assert sorted(Counter(keys(loaded.validation)).values()) == [4, 4, 4]


@pytest.mark.parametrize("count", [1, 4])
def test_one_distinct_row_cannot_be_split(
    tmp_path: Path, write_jsonl: WriteJsonl, count: int
) -> None:
    write_jsonl(tmp_path / "a.jsonl", [talk("头痛", f"答{number}") for number in range(count)])

    message = refusal(lambda: load(tmp_path))

    assert "at least two different rows" in message
    assert "--validation_file_dir" in message


# -- validation data of its own


def test_training_rows_that_are_in_validation_are_removed_and_counted(
    tmp_path: Path, write_jsonl: WriteJsonl
) -> None:
    rows = [talk("甲"), talk(" 乙 ", "别的答案"), talk("丙"), talk("甲", "又一答案")]
    file = write_jsonl(tmp_path / "train" / "a.jsonl", rows)
    validation = write_jsonl(tmp_path / "validation" / "v.jsonl", [talk("甲"), talk("乙")])

    loaded = load(tmp_path / "train", validation_file_dir=str(validation.parent))

    assert (keys(loaded.train), keys(loaded.validation)) == (["丙"], ["甲", "乙"])
    assert [str(reject.source) for reject in loaded.rejects] == [
        f"{file}:1",
        f"{file}:2",
        f"{file}:4",
    ]
    assert rows_of(loaded) == {
        "read": 6,
        "rejected": {"in_validation": 3},
        "not_sampled": 0,
        "train": 1,
        "validation": 2,
        "mixed": 0,
    }
    assert loaded.files == [file, validation]


def test_nothing_left_to_train_on_is_refused(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    write_jsonl(tmp_path / "train" / "a.jsonl", talks(3))
    validation = write_jsonl(tmp_path / "validation" / "v.jsonl", talks(3))

    message = refusal(lambda: load(tmp_path / "train", validation_file_dir=str(validation)))

    assert "expected rows for training, found none" in message


# -- files and folders


def test_text_folder_reads_txt_and_json_to_any_depth_and_nothing_else(
    tmp_path: Path, write_jsonl: WriteJsonl
) -> None:
    (tmp_path / "book.txt").write_text("甲\n\n乙\n", encoding="utf-8")
    write_jsonl(tmp_path / "deep" / "er" / "rows.jsonl", [{"text": "丙"}])
    write_jsonl(tmp_path / "rows.json", ['[{"text": "丁"}, {"text": "戊"}]'])
    (tmp_path / "README.md").write_text("己\n", encoding="utf-8")

    loaded = load_texts(DataArguments(str(tmp_path)), "blank_line", SEED)

    assert sorted(keys([*loaded.train, *loaded.validation])) == sorted("甲乙丙丁戊")
    assert [file.name for file in loaded.files] == ["book.txt", "rows.jsonl", "rows.json"]


def test_one_file_can_stand_for_a_folder(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", talks(4))
    write_jsonl(tmp_path / "b.jsonl", talks(9))

    assert rows_of(load(file))["read"] == 4


@pytest.mark.parametrize("content", [[], ["", "  "]], ids=["no-byte", "blank-lines"])
def test_empty_file_is_refused(tmp_path: Path, write_jsonl: WriteJsonl, content: list[str]) -> None:
    write_jsonl(tmp_path / "a.jsonl", talks(4))
    file = write_jsonl(tmp_path / "b.jsonl", content)

    assert refusal(lambda: load(tmp_path)).startswith(f"{file}:1: expected data, found an empty")


def test_folder_without_data_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("头痛", encoding="utf-8")

    assert refusal(lambda: load(tmp_path)).startswith(
        f"{tmp_path}: expected at least one file of .txt, .jsonl, .json, "
    )


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "nowhere"

    assert refusal(lambda: load(folder)).startswith(f"{folder}: expected a folder or file")


def test_missing_validation_folder_is_refused(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    write_jsonl(tmp_path / "a.jsonl", talks(4))
    folder = tmp_path / "nowhere"

    message = refusal(lambda: load(tmp_path, validation_file_dir=str(folder)))

    assert message.startswith(f"{folder}: ")


# -- samples


def test_samples_are_limited_counted_seeded_and_in_file_order(
    tmp_path: Path, write_jsonl: WriteJsonl
) -> None:
    write_jsonl(tmp_path / "a.jsonl", talks(100))
    options = {"max_train_samples": 7, "max_eval_samples": 2}

    loaded, same, other = (load(tmp_path, seed, **options) for seed in (1, 1, 2))

    assert rows_of(loaded) == {
        "read": 100,
        "rejected": {},
        "not_sampled": 91,
        "train": 7,
        "validation": 2,
        "mixed": 0,
    }
    lines = [record.source.line for record in loaded.train]
    assert lines == sorted(lines)
    assert keys(loaded.train) == keys(same.train)
    assert keys(loaded.train) != keys(other.train)
    assert lines != list(range(lines[0], lines[0] + 7))  # chosen, not the first seven


def test_sampling_does_not_move_the_split(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    write_jsonl(tmp_path / "a.jsonl", talks(100))

    whole, part = load(tmp_path), load(tmp_path, max_train_samples=10)

    assert keys(part.validation) == keys(whole.validation)
    assert set(keys(part.train)) < set(keys(whole.train))


def test_limit_above_the_number_of_rows_keeps_all(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    write_jsonl(tmp_path / "a.jsonl", talks(10))

    assert rows_of(load(tmp_path, max_train_samples=9))["not_sampled"] == 0
