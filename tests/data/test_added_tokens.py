"""Domain words as tokens: which are added, which are counted, which are refused and where."""

import copy
import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from medtune.common.errors import DataError
from medtune.common.log import logger
from medtune.data.added_tokens import add_tokens
from medtune.data.encoding import PlainEncoder
from medtune.data.row_cache import describe


@pytest.fixture
def own(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """A tokenizer that a test may change."""
    return copy.deepcopy(tokenizer)


def words_file(tmp_path: Path, text: str, name: str = "words.txt") -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_words_become_one_token_each_and_the_rest_is_counted(
    own: PreTrainedTokenizerFast,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logger, "propagate", True)
    caplog.set_level("INFO", logger="medtune")
    first = max(own.get_vocab().values()) + 1
    text = "阿司匹林肠溶片\r\n\n  幽门螺杆菌 \n发热\n阿司匹林肠溶片\nCOVID-19 肺炎\n"
    assert len(own("发热", add_special_tokens=False)["input_ids"]) == 1

    assert add_tokens(own, words_file(tmp_path, text)) == [
        "阿司匹林肠溶片", "幽门螺杆菌", "COVID-19 肺炎",
    ]  # fmt: skip

    ids = own("服用阿司匹林肠溶片治幽门螺杆菌", add_special_tokens=False)["input_ids"]
    assert [i for i in ids if i >= first] == [first, first + 1]
    assert own.decode(ids) == "服用阿司匹林肠溶片治幽门螺杆菌"
    assert not {first, first + 1, first + 2} & set(own.all_special_ids)
    assert "added 3 tokens (left out: 1 blank, 1 repeated, 1 known to the tokenizer)" in caplog.text


def test_added_words_are_text_to_the_plain_encoder(
    own: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    add_tokens(own, words_file(tmp_path, "幽门螺杆菌\n"))
    encoder = PlainEncoder(own)
    (ids,) = encoder.batch(["幽门螺杆菌<|user|>幽门螺杆菌"])

    word = own.convert_tokens_to_ids("幽门螺杆菌")
    assert (ids[0], ids[-1], ids.count(word)) == (word, word, 2)
    assert own.convert_tokens_to_ids("<|user|>") not in ids
    assert own.decode(ids, skip_special_tokens=True) == "幽门螺杆菌<|user|>幽门螺杆菌"


def test_a_json_list_and_the_same_words_by_line_add_the_same(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    words = ["幽门螺杆菌", "二甲双胍缓释片"]
    files = [
        words_file(tmp_path, json.dumps(words), "w.json"),
        words_file(tmp_path, "\n".join(words)),
    ]
    found = []
    for file in files:
        own = copy.deepcopy(tokenizer)
        add_tokens(own, file)
        found.append(own.get_vocab())

    assert found[0] == found[1] != tokenizer.get_vocab()


def test_words_that_are_known_change_nothing(own: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    file = words_file(tmp_path, "幽门螺杆菌\n")
    add_tokens(own, file)
    before = own.get_vocab()

    assert add_tokens(own, file) == []
    assert own.get_vocab() == before


REFUSED = {
    "a control token": ("好\n<|user|>\n", r":2: .* holds the control token <\|user\|>"),
    "text around one": ("x<|assistant|>y\n", r":1: .* holds the control token"),
    "markup": ("[肺]\n", r":1: .* looks like a control token"),
    "read as a byte": ("血糖仪\n5µg\n", r":2: .*found '5µg', which comes back as"),
    "empty": ("\n \n", "expected one word a line, found none"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_a_word_is_refused_with_its_line(
    own: PreTrainedTokenizerFast, tmp_path: Path, name: str
) -> None:
    text, message = REFUSED[name]
    with pytest.raises(DataError, match=message) as refused:
        add_tokens(own, words_file(tmp_path, text))
    assert str(tmp_path) in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}', "expected a JSON list of words, found dict"),
        ('["a", 5]', "item 2: expected a word in quotes, found 5"),
        ("[", "expected a JSON list of words"),
    ],
)
def test_json_of_another_kind_is_refused(
    own: PreTrainedTokenizerFast, tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        add_tokens(own, words_file(tmp_path, text, "w.json"))


def test_unreadable_file_is_refused(own: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    (tmp_path / "gb.txt").write_bytes("肺炎".encode("gb18030"))
    for name in ("gb.txt", "absent.txt"):
        with pytest.raises(DataError, match=f"{name}: expected a text in UTF-8"):
            add_tokens(own, str(tmp_path / name))


def test_rows_of_another_vocabulary_are_another_cache_entry(
    own: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    before = describe([], own, {})
    add_tokens(own, words_file(tmp_path, "幽门螺杆菌\n"))

    assert describe([], own, {}) != before
