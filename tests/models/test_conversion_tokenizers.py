"""Converted tokenizers: ids of sentencepiece and tiktoken, chats as the models know them."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from sentencepiece import SentencePieceProcessor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from medtune.common.errors import CheckpointError, ConfigError, DataError
from medtune.data.records import Conversation, Message, Source
from medtune.data.rendering import IGNORE_INDEX, ChatRenderer
from medtune.models.conversion.byte_pairs import find_pairs
from medtune.models.conversion.generations import (
    CHATGLM2,
    CHATGLM3,
    GLM4,
    find_generation,
    read_old_tokenizer,
)
from medtune.models.families import family_of
from medtune.models.loading import read_tokenizer
from medtune.models.tiny import SPECIAL_TOKENS, SPLIT_PATTERN
from tests.models.chatglm import (
    ROLE_TOKENS,
    sample_texts,
    tiktoken_lines,
    train_sentencepiece,
)
from tests.models.chatglm import SPECIAL_TOKENS as OLD_SPECIAL_TOKENS

NUM_TEXTS = 10_000
WORDS = (
    "the", "esophagus", "sop eop", "Bisoprolol", "don't", "I'LL", "we've", "3.14", "1234567",
    "https://a.b/c?d=1", "mg/kg", "CT", "</", "<0x0A>", "[Round", "α-β", "naïve",
)  # fmt: skip
SPACES = (
    " ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", "\u3000", "\u00a0", "\u200b", "\u2028", "\x0b",
    "\x0c", "\x85", "\x1c", "\x1f", "\u2581",
)  # fmt: skip
EMOJI = ("😀", "🏥", "👩\u200d⚕\ufe0f", "❤\ufe0f", "👨\u200d👩\u200d👧", "🇨🇳")
MARKS = "-=.,!?。，！？~*#_'\"()（）“”"
PLANES = ((0, 0x100), (0x100, 0xD800), (0xE000, 0x10000), (0x10000, 0x110000))


def random_text(generator: random.Random, chinese: list[str]) -> str:
    """Chinese, English, numbers, emoji, all sorts of space, runs of marks and rare characters."""
    pieces = []
    for _ in range(generator.randint(0, 12)):
        text = generator.choice(chinese)
        start, length = generator.randrange(len(text)), generator.randint(1, 20)
        word = generator.choice(WORDS)
        kinds = (
            text[start : start + length],
            generator.choice((word, word.upper(), word.title())),
            generator.choice(SPACES) * generator.randint(1, 4),
            generator.choice(EMOJI),
            chr(generator.randrange(*generator.choice(PLANES))),
            generator.choice(MARKS) * generator.randint(1, 9),
            str(generator.randrange(10 ** generator.randint(1, 9))),
        )
        pieces.append(generator.choice(kinds) + generator.choice(("", "", " ")))
    return "".join(pieces)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    generator = random.Random(42)
    chinese = [text for text in sample_texts() if text][:2000]
    return [random_text(generator, chinese) for _ in range(NUM_TEXTS)]


def build(folder: Path, model: bytes, generation: Any) -> PreTrainedTokenizerFast:
    """The converted tokenizer as it is loaded again."""
    (folder / "tokenizer.model").write_bytes(model)
    read_old_tokenizer(folder, generation, 512).save_pretrained(folder / "new")
    (folder / "new/config.json").write_text('{"model_type": "glm"}')
    return AutoTokenizer.from_pretrained(folder / "new", trust_remote_code=False)


def ids_of(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False)["input_ids"]


# -- plain text


@pytest.mark.parametrize(
    "options",
    [{}, {"remove_extra_whitespaces": True}, {"user_defined_symbols": ["<n>", "▁▁", "--", "头痛"]}],
    ids=["as_published", "spaces_removed", "symbols_of_the_user"],
)
def test_ids_are_those_of_sentencepiece(
    tmp_path: Path, texts: list[str], options: dict[str, Any]
) -> None:
    model = train_sentencepiece(sample_texts(), **options)
    tokenizer = build(tmp_path, model, CHATGLM3)
    original = SentencePieceProcessor(model_proto=model)

    assert ids_of(tokenizer, texts) == original.encode(texts)
    prefix = [original.piece_size() + 1, original.piece_size() + 3]
    assert tokenizer(texts[:9])["input_ids"] == [prefix + ids for ids in original.encode(texts[:9])]


def test_ids_are_those_of_tiktoken(
    tmp_path: Path, texts: list[str], tokenizer: PreTrainedTokenizerFast
) -> None:
    model, ranks = tiktoken_lines(tokenizer)
    original = tiktoken.Encoding(
        "glm4", pat_str=SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens={}
    )

    found = build(tmp_path, model, GLM4)

    assert ids_of(found, texts) == original.encode_ordinary_batch(texts)
    assert found.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(range(4000, 4010))


def test_text_is_read_back(tmp_path: Path, texts: list[str], sentencepiece_model: bytes) -> None:
    tokenizer = build(tmp_path, sentencepiece_model, CHATGLM2)
    original = SentencePieceProcessor(model_proto=sentencepiece_model)

    for text in texts[:500]:
        ids = original.encode(text)
        assert tokenizer.decode(ids) == original.decode(ids)


def test_words_with_the_letters_of_sop_are_words(
    tmp_path: Path, sentencepiece_model: bytes
) -> None:
    tokenizer = build(tmp_path, sentencepiece_model, CHATGLM3)
    original = SentencePieceProcessor(model_proto=sentencepiece_model)

    for text in ("esophagus", "bisoprolol sop eop"):
        assert list(ChatRenderer(tokenizer).encoder.ids(text)) == original.encode(text)


def test_last_pair_of_each_piece_is_the_one_that_makes_it() -> None:
    ranks = {"ab": 0, "bc": 1, "abc": 2, "cab": 3, "abcab": 4, "aa": 5, "aaa": 6, "xyz": 7}
    ranks |= {letter: 10 for letter in "abcxyz"}

    # "cab" is c + ab (not ca + b); "abcab" is abc + ab, for ab + cab comes after abc; nothing makes
    # two parts of "xyz".
    assert find_pairs(ranks) == [
        ("a", "b"), ("b", "c"), ("ab", "c"), ("c", "ab"), ("abc", "ab"), ("a", "a"), ("aa", "a"),
    ]  # fmt: skip


# -- special tokens and generations


@pytest.mark.parametrize(
    ("generation", "names"),
    [
        (CHATGLM2, ["[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"]),
        (CHATGLM3, ["[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", *ROLE_TOKENS]),
    ],
)
def test_special_ids_follow_the_vocabulary(
    tmp_path: Path, sentencepiece_model: bytes, generation: Any, names: list[str]
) -> None:
    tokenizer = build(tmp_path, sentencepiece_model, generation)

    assert tokenizer.convert_tokens_to_ids(names) == list(range(2000, 2000 + len(names)))
    assert len(tokenizer) == 2000 + len(names)
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 2)
    assert tokenizer.decode([2001, 2003, 820, 2], skip_special_tokens=True) == tokenizer.decode(820)


def test_glm4_special_tokens_of_the_folder_keep_their_ids(
    tmp_path: Path, tiktoken_model: bytes
) -> None:
    names = [*SPECIAL_TOKENS, "<|begin_of_image|>", "<|end_of_image|>"]
    listed = {str(4000 + n): {"content": name, "special": True} for n, name in enumerate(names)}
    write_json(tmp_path / "tokenizer_config.json", {"added_tokens_decoder": listed})

    tokenizer = build(tmp_path, tiktoken_model, GLM4)

    assert tokenizer.convert_tokens_to_ids(names) == list(range(4000, 4012))
    del listed["4003"]
    write_json(tmp_path / "tokenizer_config.json", {"added_tokens_decoder": listed})
    with pytest.raises(CheckpointError, match="added_tokens_decoder to begin with"):
        build(tmp_path, tiktoken_model, GLM4)


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("tokenization_chatglm.py", 'roles = ["<|system|>", "<|assistant|>"]', "chatglm3"),
        ("tokenization_chatglm.py", "def build_prompt(): ...", "chatglm2"),
        ("tokenizer_config.json", '{"name_or_path": "THUDM/chatglm2-6b"}', "chatglm2"),
        ("tokenizer_config.json", '{"name_or_path": "/m/ChatGLM3-6B-base"}', "chatglm3"),
        ("tokenizer_config.json", '{"chat_template": "<|assistant|>"}', "chatglm3"),
        ("config.json", '{"_name_or_path": "THUDM/chatglm3-6b"}', "chatglm3"),
    ],
)
def test_generation_is_told_by_the_files(
    tmp_path: Path, sentencepiece_model: bytes, file: str, text: str, expected: str
) -> None:
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model)
    (tmp_path / file).write_text(text)

    assert find_generation(tmp_path, "auto").name == expected
    assert find_generation(tmp_path, "chatglm2").name == "chatglm2"
    with pytest.raises(ConfigError, match="--model_type glm4: .* found a sentencepiece model"):
        find_generation(tmp_path, "glm4")


def test_generation_that_nothing_tells_is_asked_for(
    tmp_path: Path, sentencepiece_model: bytes
) -> None:
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model)

    with pytest.raises(ConfigError, match="give --model_type chatglm2 or chatglm3"):
        find_generation(tmp_path, "auto")


# -- refused


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "unigram"}, "byte pairs"),
        ({"byte_fallback": False}, "byte_fallback"),
        ({"add_dummy_prefix": False}, "add_dummy_prefix"),
        ({"normalization_rule_name": "nmt_nfkc"}, "identity normalisation"),
        ({"treat_whitespace_as_suffix": True}, "spaces before words"),
    ],
)
def test_other_sentencepiece_models_are_refused_by_name(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    with pytest.raises(CheckpointError, match=f"as ChatGLM2 .* have it, with .*{named}"):
        build(tmp_path, train_sentencepiece(sample_texts(), **change), CHATGLM2)


def test_piece_with_the_name_of_a_special_token_is_refused(tmp_path: Path) -> None:
    model = train_sentencepiece(sample_texts(), user_defined_symbols=["[gMASK]"])

    with pytest.raises(CheckpointError, match=r"no piece named \[gMASK\]"):
        build(tmp_path, model, CHATGLM2)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (b"not a model", "expected a sentencepiece model"),
        (b"QQ== 0\nnonsense\n", "tokenizer.model:2: expected a base64 token and its rank"),
        (b"QQ== 0\nQg== 7\n", "expected the ranks 0 to 1"),
        (b"QQ== 0\nQg== 1\n", "a token for each of the 256 bytes, found none for 0"),
    ],
)
def test_damaged_tokenizers_are_refused(tmp_path: Path, model: bytes, named: str) -> None:
    (tmp_path / "tokenizer.model").write_bytes(model)
    generation = find_generation(tmp_path, "auto") if b"QQ" in model else CHATGLM2

    with pytest.raises(CheckpointError, match=named):
        build(tmp_path, model, generation)


# -- chats


SYSTEM = Message("system", "你是医生。")
TURNS = (
    Message("user", "头痛三天，  怎么办？"),
    Message("assistant", "“多休息”，多喝水。\n\n不要熬夜。"),
    Message("user", "esophagus <|user|>?"),
    Message("assistant", "1. Rest."),
)
ROUNDS = (
    "[Round 1]\n\n问：头痛三天，  怎么办？\n\n答：",
    " “多休息”，多喝水。\n\n不要熬夜。",
    "\n\n[Round 2]\n\n问：esophagus <|user|>?\n\n答：",
    " 1. Rest.",
)


def renderer_of(folder: Path, model: bytes, generation: Any) -> ChatRenderer:
    build(folder, model, generation)
    tokenizer = read_tokenizer(str(folder / "new"))
    return ChatRenderer(tokenizer, family_of(tokenizer).turn_end)


def test_chatglm3_chats_have_the_ids_of_its_own_messages(
    tmp_path: Path, sentencepiece_model: bytes
) -> None:
    """A message is its role's token, the ids of metadata and a line break, those of the content."""
    original = SentencePieceProcessor(model_proto=sentencepiece_model)
    ids = {name: 2000 + n for n, name in enumerate([*OLD_SPECIAL_TOKENS, *ROLE_TOKENS])}
    messages = (SYSTEM, *(turn for turn in TURNS[:2]), Message("user", "  两个空格 "), TURNS[3])

    def published(message: Message) -> list[int]:
        return [
            ids[f"<|{message.role}|>"], *original.encode("\n"), *original.encode(message.content)
        ]  # fmt: skip

    renderer = renderer_of(tmp_path, sentencepiece_model, CHATGLM3)
    rendered = renderer.conversation(Conversation(messages, Source("a", 1)))

    whole = [id_ for message in messages for id_ in published(message)]
    assert rendered.input_ids == [ids["[gMASK]"], ids["sop"], *whole, ids["<|user|>"]]
    first = 2 + len(published(messages[0]) + published(messages[1])) + 1
    replies = [published(messages[place])[1:] + [ids["<|user|>"]] for place in (2, 4)]
    last = len(rendered.input_ids) - len(replies[1])
    supervised = [IGNORE_INDEX] * len(rendered.input_ids)
    supervised[first : first + len(replies[0])] = replies[0]
    supervised[last:] = replies[1]
    assert rendered.labels == supervised
    assert renderer.prompt_ids(messages[:4]) == rendered.input_ids[:last]
    assert renderer.tokenizer.apply_chat_template(
        [message.to_dict() for message in messages[:4]], add_generation_prompt=True
    )["input_ids"] == renderer.prompt_ids(messages[:4])


def test_chatglm2_chats_are_rounds_and_the_last_answer_learns_to_end(
    tmp_path: Path, sentencepiece_model: bytes
) -> None:
    """An answer is supervised with the ids that it has by itself, then the end of text."""
    original = SentencePieceProcessor(model_proto=sentencepiece_model)
    renderer = renderer_of(tmp_path, sentencepiece_model, CHATGLM2)

    rendered = renderer.conversation(Conversation(TURNS, Source("a", 1)))

    prompt, whole = [2001, 2003, *original.encode(ROUNDS[0])], original.encode("".join(ROUNDS))
    answers = [original.encode(TURNS[place].content) for place in (1, 3)]
    assert rendered.input_ids == [2001, 2003, *whole, 2]
    assert renderer.prompt_ids(TURNS[:1]) == prompt
    assert renderer.prompt_ids(TURNS[:3]) == rendered.input_ids[: -len(answers[1]) - 1]
    # The first answer goes on with the next round, so that its end could not be learnt.
    masked = len(rendered.input_ids) - len(answers[1]) - 1
    assert rendered.labels == [IGNORE_INDEX] * masked + [*answers[1], 2]


def test_chatglm2_one_round_is_what_its_own_training_code_writes(
    tmp_path: Path, sentencepiece_model: bytes
) -> None:
    original = SentencePieceProcessor(model_proto=sentencepiece_model)
    renderer = renderer_of(tmp_path, sentencepiece_model, CHATGLM2)

    rendered = renderer.conversation(Conversation(TURNS[:2], Source("a", 1)))

    prompt, answer = original.encode(ROUNDS[0]), original.encode(TURNS[1].content)
    assert rendered.input_ids == [2001, 2003, *prompt, *answer, 2]
    assert rendered.labels == [IGNORE_INDEX] * (2 + len(prompt)) + [*answer, 2]


def test_chatglm2_system_message_comes_before_the_rounds(
    tmp_path: Path, sentencepiece_model: bytes
) -> None:
    renderer = renderer_of(tmp_path, sentencepiece_model, CHATGLM2)
    original = SentencePieceProcessor(model_proto=sentencepiece_model)

    text = f"{SYSTEM.content}\n\n{ROUNDS[0]}"
    assert renderer.prompt_ids((SYSTEM, TURNS[0])) == [2001, 2003, *original.encode(text)]


def test_glm4_chats_have_the_ids_of_its_own_messages(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    model, ranks = tiktoken_lines(tokenizer)
    original = tiktoken.Encoding(
        "glm4", pat_str=SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens={}
    )
    ids = {name: 4000 + number for number, name in enumerate(SPECIAL_TOKENS)}

    renderer = renderer_of(tmp_path, model, GLM4)
    rendered = renderer.conversation(Conversation((SYSTEM, *TURNS[:2]), Source("a", 1)))

    contents = [original.encode_ordinary(f"\n{one.content}") for one in (SYSTEM, *TURNS[:2])]
    prompt = [ids["[gMASK]"], ids["<sop>"], ids["<|system|>"], *contents[0], ids["<|user|>"]]
    prompt += [*contents[1], ids["<|assistant|>"]]
    reply = [*contents[2], ids["<|user|>"]]
    assert rendered.input_ids == prompt + reply
    assert rendered.labels == [IGNORE_INDEX] * len(prompt) + reply


def test_without_a_family_rounds_are_refused(tmp_path: Path, sentencepiece_model: bytes) -> None:
    tokenizer = build(tmp_path, sentencepiece_model, CHATGLM2)

    with pytest.raises(DataError, match="writes no end token"):
        ChatRenderer(tokenizer).conversation(Conversation(TURNS, Source("a", 1)))
