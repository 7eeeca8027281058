"""What is left of a row within --max_length, --max_source_length and --max_target_length.

References: what the renderer makes of the shorter conversation, and lengths counted by hand. Lone
letters and line ends are one token each. GLM-4's prompt of one question: [gMASK] <sop> <|user|> \\n
… <|assistant|>, five tokens and the question; its reply: \\n … <|user|>.
"""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from medtune.arguments import DataArguments
from medtune.common.errors import ConfigError
from medtune.common.log import logger
from medtune.data.limits import Limits, fit_conversation, fit_pair, limits_of
from medtune.data.preparation import prepare_blocks, prepare_conversations, prepare_pairs
from medtune.data.records import Conversation, Message, PreferencePair
from medtune.data.rendering import IGNORE_INDEX, ChatRenderer, Rendered
from tests.conftest import WriteJsonl
from tests.data.test_rendering import SOURCE, random_content, talk


def letters(number: int) -> str:
    """Text of so many tokens: letters with line ends between them, which merge with nothing."""
    assert number % 2
    return "\n".join("a" * (number // 2 + 1))


def fit(
    glm: ChatRenderer, record: Conversation, *limits: int | None
) -> tuple[Rendered | None, Counter[str]]:
    tokens: Counter[str] = Counter()
    return fit_conversation(glm, record, glm.conversation(record), Limits(*limits), tokens), tokens


def test_question_is_cut_at_its_end_and_the_header_stays(glm: ChatRenderer) -> None:
    whole, short = talk(letters(9), "b"), talk(letters(5), "b")

    kept, tokens = fit(glm, whole, None, 5 + 5)
    assert kept == glm.conversation(short)
    assert len(kept.input_ids) == 10 + 3
    assert tokens == {
        "read": 14 + 3, "kept": 10 + 3, "truncated": 4, "supervised": 3, "truncated_rows": 1,
    }  # fmt: skip


@pytest.mark.parametrize("limit", range(1, 19))
def test_prompt_of_every_limit_is_that_of_the_longest_question_that_fits(
    glm: ChatRenderer, limit: int
) -> None:
    record = talk(letters(9), "b", system="c")  # 2 + \n c and the role's token + the question's 12

    kept, _ = fit(glm, record, None, limit)
    if limit < 3 + 5 + 1:
        assert kept is None
    else:
        text = letters(9)[: limit - 3 - 5]
        assert kept == glm.conversation(talk(text, "b", system="c"))


def test_oldest_turns_go_before_the_question_is_cut(glm: ChatRenderer) -> None:
    record = talk("a", "b", "c", "d", "e", "f", system="g")
    last = glm.prompt_ids(record.messages[:-1])  # 3 of the system's + 5 + 1, and twice 3 + 3

    for limit, turns in ((len(last), "abcdef"), (len(last) - 1, "cdef"), (12, "ef"), (9, "ef")):
        kept, tokens = fit(glm, record, None, limit)
        assert kept == glm.conversation(talk(*turns, system="g"))
        assert tokens["kept"] == len(kept.input_ids)
        assert tokens["read"] == len(glm.conversation(record).input_ids)
    assert fit(glm, record, None, 8)[0] is None


def test_reply_is_cut_without_an_end_and_a_whole_one_keeps_its_end(glm: ChatRenderer) -> None:
    record = talk("a", "b", "c", letters(5))  # the last reply: \n and 5, and its end
    whole = glm.conversation(record)

    for target, missing in ((7, 0), (6, 0), (5, 2), (1, 6)):
        kept, tokens = fit(glm, record, None, None, target)
        end = len(whole.input_ids) - missing
        assert kept == Rendered(whole.input_ids[:end], whole.labels[:end])
        assert tokens["truncated"] == missing


def test_without_limits_nothing_is_cut_and_the_whole_s_limit_holds_with_them(
    glm: ChatRenderer,
) -> None:
    record = talk(letters(9), letters(9))
    whole = glm.conversation(record)

    assert fit(glm, record)[0] == whole
    assert fit(glm, record, 16, 99, 99)[0] == Rendered(whole.input_ids[:16], whole.labels[:16])
    kept, _ = fit(glm, record, 12, 10, 4)
    assert kept is not None
    assert len(kept.input_ids) == 12


@pytest.mark.parametrize("seed", range(20))
def test_rows_keep_to_their_limits_and_to_what_chat_writes(glm: ChatRenderer, seed: int) -> None:
    rng = random.Random(seed)
    record = talk(*[random_content(rng) for _ in range(2 * rng.randint(1, 3))])
    source, target = rng.randint(6, 25), rng.randint(1, 12)

    kept, tokens = fit(glm, record, None, source, target)
    assert kept is not None
    start = len(kept.labels) - kept.labels[::-1].index(IGNORE_INDEX)
    assert start <= source
    assert len(kept.labels) - start <= target + 1
    ends = kept.input_ids[-1] in glm.encoder.control_ids
    assert ends or len(kept.labels) - start == target
    assert tokens["kept"] == len(kept.input_ids)
    whole = glm.conversation(record).input_ids
    assert tokens["truncated"] == len(whole) - len(kept.input_ids)


def test_limits_of_a_pair_are_those_of_prompt_and_each_answer(glm: ChatRenderer) -> None:
    prompt = talk("a", "b", letters(9), "").messages[:-1]
    record = PreferencePair(prompt, letters(5), letters(3), SOURCE)
    short = PreferencePair(talk(letters(5), "").messages[:-1], letters(5), letters(3), SOURCE)
    tokens: Counter[str] = Counter()

    row = fit_pair(glm, record, glm.pair(record), Limits(None, 10, 4), tokens)
    prompt_ids, chosen, rejected = glm.pair(short)
    assert row == {"prompt_ids": prompt_ids, "chosen_ids": chosen[:4], "rejected_ids": rejected}
    assert tokens["kept"] == 10 + 4 + 5
    assert tokens["read"] == sum(map(len, glm.pair(record)))
    # \n a \n is what both answers begin with.
    assert fit_pair(glm, record, glm.pair(record), Limits(None, 10, 3)) is None
    assert fit_pair(glm, record, glm.pair(record), Limits(None, 5)) is None


# -- the options


def options(folder: Path, **given: object) -> DataArguments:
    return DataArguments(train_file_dir=str(folder), validation_split_percentage=50, **given)  # type: ignore[arg-type]


@pytest.fixture
def rows(tmp_path: Path, write_jsonl: WriteJsonl) -> Path:
    """Consultations in ChatGLM2's columns, each of another length."""
    lines = [
        {"content": f"{'头痛' * number}？", "summary": f"{'休息' * number}。"}
        for number in range(3, 15)
    ]
    return write_jsonl(tmp_path / "rows" / "train.json", lines).parent


def test_options_reach_the_rows_and_their_cache(
    glm: ChatRenderer, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDTUNE_CACHE", str(tmp_path / "cache"))
    columns = {"prompt_column": "content", "response_column": "summary"}
    longest = []
    for limits in ({}, {"max_source_length": 9}, {"max_source_length": 9, "max_target_length": 4}):
        built = prepare_conversations(options(rows, **columns, **limits), glm, 1024, 1)
        longest.append(max(map(len, built.train["input_ids"])))
    assert longest[0] > longest[1] > longest[2] == 9 + 4
    assert built.ledger["tokens"]["train"]["truncated"] > 0
    json.dumps(built.ledger)


def test_pairs_and_texts_get_what_they_can_have(
    glm: ChatRenderer, tmp_path: Path, write_jsonl: WriteJsonl
) -> None:
    pairs = [
        {"question": "头" * n, "response_chosen": "好" * n, "response_rejected": "坏" * n}
        for n in range(3, 15)
    ]
    folder = write_jsonl(tmp_path / "pairs" / "a.jsonl", pairs).parent
    arguments = options(folder, max_source_length=9, max_target_length=4)

    built = prepare_pairs(arguments, glm, 1024, 1)
    for row in (*built.train, *built.validation):
        assert len(row["prompt_ids"]) <= 9
        assert max(len(row["chosen_ids"]), len(row["rejected_ids"])) <= 5
    with pytest.raises(ConfigError, match="found text for pretraining"):
        prepare_blocks(arguments, glm.tokenizer, "line", 8, 1)


def test_whole_that_is_shorter_than_its_parts_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logger, "propagate", True)
    arguments = options(tmp_path, max_source_length=1024, max_target_length=512)

    assert limits_of(arguments, 1024) == (1024, 1024, 512)
    assert "--max_length 1,024 cuts rows" in caplog.text
    assert "1,537 tokens" in caplog.text
    caplog.clear()
    assert limits_of(arguments, 1537) == (1537, 1024, 512)
    assert not caplog.text


@pytest.mark.parametrize("name", ["max_source_length", "max_target_length"])
def test_length_below_one_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"--{name}: expected 1 or more, found 0"):
        options(tmp_path, **{name: 0})


def test_question_of_one_character_that_does_not_fit_leaves_nothing(glm: ChatRenderer) -> None:
    record = Conversation((Message("user", "a"), Message("assistant", "b")), SOURCE)

    assert fit(glm, record, None, 5)[0] is None
