"""Streamed text is the text of all ids, and no piece of it holds half a character.

References: the tokenizers' own decoding of all ids at once.
"""

from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from medtune.chat.text_stream import TextStream

TEXT = st.text(st.sampled_from("头痛 ab\n😊👨‍⚕️。é"), max_size=24)


@pytest.fixture(scope="module")
def sentencepiece() -> PreTrainedTokenizerFast:
    """A tokenizer as transformers makes it of a sentencepiece model: words with their blank,
    characters that it does not know as bytes.
    """
    pieces = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"头痛ab\n。"]
    pieces += ["▁a", "▁头"]
    backend = Tokenizer(
        BPE(
            {piece: number for number, piece in enumerate(pieces)},
            [("▁", "a"), ("▁", "头")],
            byte_fallback=True,
            unk_token="<unk>",
        )
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    backend.add_special_tokens([AddedToken("</s>", special=True)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", clean_up_tokenization_spaces=False
    )


def streamed(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> list[str]:
    stream = TextStream(tokenizer)
    return [*map(stream.add, ids), stream.finish()]


def whole(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    """The text of all ids without what their last ones leave incomplete."""
    return tokenizer.decode(ids, skip_special_tokens=True).rstrip("\ufffd").strip()


def check(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> None:
    pieces = streamed(tokenizer, ids)
    text = whole(tokenizer, ids)

    assert "".join(pieces) == text
    assert all(text.startswith(so_far) for so_far in accumulate(pieces))


@settings(deadline=None)
@given(text=TEXT)
def test_pieces_are_the_text_of_byte_level_ids(
    tokenizer: PreTrainedTokenizerFast, text: str
) -> None:
    check(tokenizer, tokenizer(text, add_special_tokens=False)["input_ids"])


@settings(deadline=None)
@given(ids=st.lists(st.integers(0, 4009), max_size=30))
def test_pieces_are_the_text_of_any_ids_with_bytes_that_are_no_character(
    tokenizer: PreTrainedTokenizerFast, ids: list[int]
) -> None:
    check(tokenizer, ids)


@settings(deadline=None)
@given(text=TEXT)
def test_pieces_are_the_text_of_sentencepiece_ids(
    sentencepiece: PreTrainedTokenizerFast, text: str
) -> None:
    ids = sentencepiece(text, add_special_tokens=False)["input_ids"]

    assert whole(sentencepiece, ids) == text.strip()
    check(sentencepiece, ids)


def bytes_of(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """One id for each byte of the text, as no encoder writes it but any model may."""
    alphabet = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    signs = alphabet.pre_tokenize_str(text)[0][0]
    return [tokenizer.convert_tokens_to_ids(sign) for sign in signs]


def test_character_comes_with_its_last_byte(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = bytes_of(tokenizer, "a痛😊")

    assert len(ids) == 8
    assert streamed(tokenizer, ids) == ["a", "", "", "痛", "", "", "", "😊", ""]


def test_character_of_byte_pieces_comes_with_its_last(
    sentencepiece: PreTrainedTokenizerFast,
) -> None:
    ids = sentencepiece("头😊", add_special_tokens=False)["input_ids"]

    assert len(ids) == 5
    assert streamed(sentencepiece, ids) == ["头", "", "", "", "😊", ""]


def test_half_a_character_at_the_end_never_comes(tokenizer: PreTrainedTokenizerFast) -> None:
    assert "".join(streamed(tokenizer, bytes_of(tokenizer, "a痛")[:-1])) == "a"


def test_white_space_comes_with_the_text_after_it(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = bytes_of(tokenizer, "\n a \n b \n")

    assert streamed(tokenizer, ids) == ["", "", "a", "", "", "", " \n b", "", "", ""]


def test_control_tokens_are_no_text(tokenizer: PreTrainedTokenizerFast) -> None:
    control = tokenizer.convert_tokens_to_ids("<|assistant|>")
    ids = tokenizer("头痛", add_special_tokens=False)["input_ids"]

    assert "".join(streamed(tokenizer, [control, *ids, control, control, *ids])) == "头痛头痛"
