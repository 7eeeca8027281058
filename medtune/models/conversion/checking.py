"""A converted tokenizer compared with the library that the old model used."""

from pathlib import Path

from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer

from medtune.common.errors import CheckpointError

TEXTS = (
    "",
    "a",
    "头痛三天，怎么办？",
    "患者男，45岁，BP 130/85 mmHg，体温38.5℃；既往有高血压病史。",
    "The esophagus and bisoprolol 5mg q.d., e.g. 12,345.67 units",
    "  leading and trailing  ",
    "two  spaces\tand a tab\n\nand lines\r\n",
    "   \n   ",
    "\u2581 \u2581\u2581",
    "全角　空格，“引号”（括号）《书名》【药品】",
    "😀👨‍👩‍👧‍👦🏥 emoji e\u0301 \u00a0\u200b\ufeff",
    "龘𠀀𪚥 rare",
    "\x00\x01\x1b[0m\x7f",
    "<0x0A><s>[Round 1]",
    "----------======== ........ 哈哈哈哈哈哈哈",
    "def f(x):\n    return x ** 2  # comment",
    "α-葡萄糖苷酶 ≥ 3.5 mmol/L × 2",
)


def check_ids(path: Path, backend: Tokenizer) -> None:
    """Compare ids with sentencepiece's own: of TEXTS, as contents of a chat, and of every piece.

    path: the sentencepiece model that the fast tokenizer was made from.
    Raises CheckpointError naming the first text with other ids.
    """
    original = SentencePieceProcessor(model_file=str(path))
    texts = [*TEXTS, *(f"a{piece}b{piece}" for piece in typed_pieces(original))]
    expected = original.encode(texts)
    # In a chat of ChatGLM3 a line break, which is a text of its own, comes before each content.
    contents = [number for number, text in enumerate(TEXTS) if text.strip()]
    line_break = original.encode("\n")
    texts += [f"\n {TEXTS[number]}" for number in contents]
    expected += [line_break + expected[number] for number in contents]
    encodings = backend.encode_batch(texts, add_special_tokens=False)
    for text, encoding, ids in zip(texts, encodings, expected, strict=True):
        if encoding.ids != ids:
            raise CheckpointError(
                f"{path}: expected a fast tokenizer with sentencepiece's ids, found other ids for "
                f"{text!r}: {encoding.ids} instead of {ids}. This model has something that is not "
                "known here; please report it."
            )


def typed_pieces(model: SentencePieceProcessor) -> list[str]:
    """Return the pieces that a text may be made of: no control symbols, no bytes."""
    numbers = range(model.get_piece_size())
    return [
        model.id_to_piece(number)
        for number in numbers
        if not (model.is_control(number) or model.is_unknown(number) or model.is_byte(number))
    ]
