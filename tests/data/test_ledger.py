"""Rows and tokens are accounted for in each file: rendered, cut, rejected, mixed, screened.

Reference: the files as the test wrote them, and the ids that stand in the rows.
"""

import random
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from medtune.arguments import DataArguments
from medtune.common.errors import DataError
from medtune.data.preparation import prepare_blocks, prepare_conversations
from medtune.data.rendering import IGNORE_INDEX, ChatRenderer
from medtune.data.rows import SOURCE, Rows, row_lengths
from medtune.models.families import GLM
from tests.conftest import WriteJsonl

SEED = 3
MAX_LENGTH = 24


@pytest.fixture
def renderer(tokenizer: PreTrainedTokenizerBase) -> ChatRenderer:
    return ChatRenderer(tokenizer, GLM.turn_end)


def talk(question: str, answer: str = "休息") -> dict[str, Any]:
    return {
        "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    }


def write_talks(write_jsonl: WriteJsonl, path: Path, count: int, bad: int = 0) -> Path:
    """Talks of many lengths, some of them over MAX_LENGTH, and `bad` with an empty answer."""
    rng = random.Random(path.stem)  # not the folder, which has another name in every run
    rows = [
        talk(f"{path.stem}{number}" + "痛" * rng.randrange(6), "休息" * rng.randrange(1, 12))
        for number in range(count)
    ]
    return write_jsonl(path, [*rows, *(talk(f"{path.stem}空{n}", " ") for n in range(bad))])


def arguments(folder: Path, **more: Any) -> DataArguments:
    return DataArguments(str(folder), **{"max_rejected_percentage": 100} | more)


def test_each_file_has_its_rows_and_tokens(
    tmp_path: Path, write_jsonl: WriteJsonl, renderer: ChatRenderer
) -> None:
    sizes = {"a": (30, 2), "b": (40, 0), "deep/c": (25, 5)}
    for name, (count, bad) in sizes.items():
        write_talks(write_jsonl, tmp_path / "own" / f"{name}.jsonl", count, bad)
    general = write_talks(write_jsonl, tmp_path / "general" / "g.jsonl", 50, 1)

    rows = prepare_conversations(
        arguments(tmp_path / "own", mix=[f"{general.parent}=20"], max_train_samples=60),
        renderer, MAX_LENGTH, SEED,
    )  # fmt: skip

    files = {file["path"]: file for file in rows.ledger["files"]}
    assert len(files) == 4
    for name, (count, bad) in sizes.items():
        file = files[str(tmp_path / "own" / f"{name}.jsonl")]
        assert (file["read"], file["rejected"]) == (
            count + bad,
            {"empty_content": bad} if bad else {},
        )
        assert file["mixed"] == 0
    assert files[str(general)]["mixed"] == 50
    assert files[str(general)]["train"] == files[str(general)]["validation"] == 0
    for part, dataset in (("train", rows.train), ("validation", rows.validation)):
        own = dataset.select(range(rows.ledger["training_rows"][part]))
        counts = [file["tokens"].get(part, {}) for file in files.values()]
        labels = [label for row in own["labels"] for label in row]
        assert sum(count.get("kept", 0) for count in counts) == len(labels)
        num_supervised = len(labels) - labels.count(IGNORE_INDEX)
        assert sum(count.get("supervised", 0) for count in counts) == num_supervised
        assert sum(count.get("truncated", 0) for count in counts) > 0 or part == "validation"
    assert rows.ledger["rows"]["train"] == 60
    assert rows.ledger["rows"]["not_sampled"] > 0


def test_each_book_has_its_tokens_of_the_blocks(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    rng = random.Random(1)
    for name in "abc":
        texts = [f"{name}{n}" + "咳嗽" * rng.randrange(1, 40) for n in range(20)]
        (tmp_path / f"{name}.txt").write_text("\n\n".join(texts), encoding="utf-8")

    rows = prepare_blocks(arguments(tmp_path), tokenizer, "blank_line", 32, SEED)

    for part, dataset in (("train", rows.train), ("validation", rows.validation)):
        counts = [file["tokens"].get(part, {}) for file in rows.ledger["files"]]
        labels = [label for row in dataset["labels"] for label in row]
        assert sum(count.get("read", 0) for count in counts) == len(labels)
        num_supervised = len(labels) - labels.count(IGNORE_INDEX)
        assert sum(count.get("supervised", 0) for count in counts) == num_supervised


# -- mixing


def share_of(rows: Rows, folder: Path) -> float:
    """Percent of the tokens of an epoch that the mixed rows have, counted in the rows."""
    lengths = row_lengths(rows.train)
    num_own = rows.ledger["training_rows"]["train"]
    assert sum(lengths) == rows.ledger["epoch"]["tokens"]
    assert len(lengths) == rows.ledger["epoch"]["rows"]
    assert len(lengths) - num_own == rows.ledger["epoch"]["mix"][str(folder)]["rows"]
    return 100 * sum(lengths[num_own:]) / sum(lengths)


@pytest.mark.parametrize("percent", [1, 10, 33.3, 80, 95])
def test_mixed_folder_has_its_percentage_of_the_tokens(
    tmp_path: Path, write_jsonl: WriteJsonl, renderer: ChatRenderer, percent: float
) -> None:
    write_talks(write_jsonl, tmp_path / "own" / "a.jsonl", 100)
    general = write_talks(write_jsonl, tmp_path / "general" / "g.jsonl", 80).parent
    own = prepare_conversations(arguments(tmp_path / "own"), renderer, MAX_LENGTH, SEED)

    mixed = [
        prepare_conversations(
            arguments(tmp_path / "own", mix=[f"{general}={percent}"]), renderer, MAX_LENGTH, SEED
        )
        for _ in range(2)
    ]

    rows = mixed[0]
    num_own = len(own.train)
    assert rows.train.select(range(num_own)).to_list() == own.train.to_list()
    assert rows.validation.to_list() == own.validation.to_list()
    half_a_row = 100 * MAX_LENGTH / 2 / rows.ledger["epoch"]["tokens"]
    assert share_of(rows, general) == pytest.approx(percent, abs=half_a_row)
    assert mixed[1].train.to_list() == rows.train.to_list()
    drawn = [str(row) for row in rows.train.select(range(num_own, len(rows.train))).to_list()]
    known = [str(row) for row in rows.mixed[str(general)].remove_columns(SOURCE).to_list()]
    assert len(set(known)) == len(known) == 80
    counts = [drawn.count(row) for row in known]  # each as often as any other, or once more
    assert sum(counts) == len(drawn)
    assert max(counts) - min(counts) <= 1


def test_percentages_draw_from_the_same_cached_rows(
    tmp_path: Path, write_jsonl: WriteJsonl, renderer: ChatRenderer
) -> None:
    write_talks(write_jsonl, tmp_path / "own" / "a.jsonl", 50)
    general = write_talks(write_jsonl, tmp_path / "general" / "g.jsonl", 50).parent
    folders = []
    for percent in (10, 40):
        options = arguments(tmp_path / "own", mix=[f"{general}={percent}"])
        rows = prepare_conversations(options, renderer, MAX_LENGTH, SEED)
        folders.append(rows.mixed[str(general)].cache_files)

    assert folders[0] == folders[1]


def test_mixed_row_that_is_validated_on_is_left_out(
    tmp_path: Path, write_jsonl: WriteJsonl, renderer: ChatRenderer
) -> None:
    rows = [talk(f"问题{number}") for number in range(40)]
    write_jsonl(tmp_path / "own" / "a.jsonl", rows)
    write_jsonl(tmp_path / "general" / "g.jsonl", rows)

    mixed = prepare_conversations(
        arguments(tmp_path / "own", mix=[f"{tmp_path / 'general'}=10"]), renderer, None, SEED
    )

    num_validation = mixed.ledger["rows"]["validation"]
    assert num_validation > 0
    assert mixed.ledger["rows"]["rejected"] == {"in_validation": num_validation}
    assert mixed.ledger["rows"]["mixed"] == 40 - num_validation
    validated = {str(row["input_ids"]) for row in mixed.validation.to_list()}
    assert not validated & {str(row["input_ids"]) for row in mixed.train.to_list()}


# -- what no row may hold


def test_stage_leaves_out_evaluation_items_or_refuses(
    tmp_path: Path, write_jsonl: WriteJsonl, renderer: ChatRenderer
) -> None:
    item = "下列哪一项不是川崎病的主要诊断标准之一"
    write_jsonl(tmp_path / "exam" / "test.jsonl", [{"question": item, "option": {"A": "发热"}}])
    rows = [talk(f"孩子咳嗽{number}天了怎么办") for number in range(40)]
    path = write_jsonl(tmp_path / "own" / "a.jsonl", [*rows, talk(item)])
    evaluated = [str(tmp_path / "exam")]
    validation = write_jsonl(tmp_path / "val" / "v.jsonl", [talk("头痛"), talk(item + "？")])
    given: dict[str, Any] = {
        "eval_files": evaluated, "validation_file_dir": str(validation),
    }  # fmt: skip

    with pytest.raises(DataError, match=rf"{path}:41: expected training data without") as caught:
        prepare_conversations(arguments(tmp_path / "own", **given), renderer, None, SEED)
    assert "prepare_data.py" in str(caught.value)
    prepared = prepare_conversations(
        arguments(tmp_path / "own", max_contaminated_percentage=5, **given), renderer, None, SEED
    )

    assert prepared.ledger["rows"]["rejected"] == {"contaminated": 1}
    assert prepared.ledger["contamination"]["rows_checked"] == 41
    assert prepared.matches is not None
    assert [(m["file"], m["line"]) for m in prepared.matches] == [(str(path), 41)]
    assert prepared.ledger["rows"]["validation"] == 2


@pytest.mark.parametrize("mode", ["report", "mask", "drop"])
def test_patients_data_in_a_stage(
    tmp_path: Path, write_jsonl: WriteJsonl, renderer: ChatRenderer, mode: str
) -> None:
    rows = [talk(f"问题{number}") for number in range(40)]
    write_jsonl(tmp_path / "a.jsonl", [*rows, talk("我的电话是13912345678，请回复")])

    options = arguments(tmp_path, patients_data=mode, validation_split_percentage=1)
    prepared = prepare_conversations(options, renderer, None, SEED)

    (file,) = prepared.ledger["files"]
    assert file["patients_data"] == {"mobile_number": 1}
    assert file["rejected"] == ({"patients_data": 1} if mode == "drop" else {})
    texts = "".join(
        renderer.tokenizer.decode(row["input_ids"])
        for row in [*prepared.train.to_list(), *prepared.validation.to_list()]
    )
    assert ("13912345678" in texts) == (mode == "report")
    assert ("【手机号】" in texts) == (mode == "mask")
    assert "13912345678" not in str(prepared.ledger) + str([r.to_dict() for r in prepared.rejects])
