"""ROUGE-1, ROUGE-2 and ROUGE-L of two lists of tokens, and the tokens of BERT's basic tokenizer."""

import unicodedata
from collections.abc import Sequence
from functools import cache

CJK_BLOCKS = (  # first and last character
    ("\u3400", "\u4dbf"),
    ("\u4e00", "\u9fff"),
    ("\uf900", "\ufaff"),
    ("\U00020000", "\U0002a6df"),
    ("\U0002a700", "\U0002b73f"),
    ("\U0002b740", "\U0002b81f"),
    ("\U0002b820", "\U0002ceaf"),
    ("\U0002f800", "\U0002fa1f"),
)
EPSILON = 1e-8  # rouge_chinese adds it to precision + recall; a perfect score is 0.999999995


def basic_tokens(text: str) -> list[str]:
    """Return words in lower case without accents; CJK and punctuation stand alone.

    Source: BERT's BasicTokenizer (google-research/bert, tokenization.py) with its defaults.
    Example: "Café 0.3g。" -> ["cafe", "0", ".", "3g", "。"]
    """
    cleaned = unicodedata.normalize("NFC", "".join(map(cleaned_character, text)))
    words = (without_accents(word.lower()) for word in cleaned.split())
    return "".join(f" {''.join(map(split_punctuation, word))} " for word in words).split()


@cache
def cleaned_character(character: str) -> str:
    """Return a character as the tokenizer sees it: blanks around CJK, no control characters."""
    category = unicodedata.category(character)
    if character in "\t\n\r" or category == "Zs":
        return " "
    if character == "\ufffd" or category.startswith("C"):
        return ""
    is_cjk = any(first <= character <= last for first, last in CJK_BLOCKS)
    return f" {character} " if is_cjk else character


@cache
def split_punctuation(character: str) -> str:
    """Return punctuation with blanks around it; all of ASCII that is no letter or digit is."""
    is_symbol = character.isascii() and character.isprintable() and not character.isalnum()
    is_punctuation = is_symbol or unicodedata.category(character).startswith("P")
    return f" {character} " if is_punctuation else character


def without_accents(text: str) -> str:
    """Return a text without combining marks."""
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFD", text)
    return "".join(c for c in decomposed if unicodedata.category(c) != "Mn")


def rouge_f(predicted: Sequence[str], gold: Sequence[str]) -> tuple[float, float, float]:
    """Return F of ROUGE-1, ROUGE-2 and ROUGE-L, each 0-1.

    n-grams are sets, so repetitions count once; the longest common subsequence is of the whole
    lists. Neither list may be empty.   Source: rouge_chinese 1.0.3.
    """
    common = common_length(predicted, gold)
    return (
        ngram_f(predicted, gold, 1),
        ngram_f(predicted, gold, 2),
        f_measure(common / len(predicted), common / len(gold)),
    )


def ngram_f(predicted: Sequence[str], gold: Sequence[str], size: int) -> float:
    """Return F over the sets of n-grams; 0 where one of them has none."""
    found, wanted = ngrams(predicted, size), ngrams(gold, size)
    if not found or not wanted:
        return 0.0
    num_common = len(found & wanted)
    return f_measure(num_common / len(found), num_common / len(wanted))


def ngrams(tokens: Sequence[str], size: int) -> set[tuple[str, ...]]:
    """Return the set of runs of `size` tokens."""
    return set(zip(*(tokens[start:] for start in range(size)), strict=False))


def f_measure(precision: float, recall: float) -> float:
    """Return the harmonic mean as rouge_chinese rounds it down."""
    return 2.0 * (precision * recall / (precision + recall + EPSILON))


def common_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence of two lists.

    One bit per token of the first list, all updated by one addition per token of the second.
    Source: Hyyro, "Bit-parallel LCS-length computation revisited" (2004).
    """
    places: dict[str, int] = {}
    for place, token in enumerate(first):
        places[token] = places.get(token, 0) | 1 << place
    all_bits = (1 << len(first)) - 1
    unmatched = all_bits
    for token in second:
        hits = unmatched & places.get(token, 0)
        unmatched = (unmatched + hits | unmatched - hits) & all_bits
    return len(first) - unmatched.bit_count()
