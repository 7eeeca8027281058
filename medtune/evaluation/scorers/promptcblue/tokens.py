"""The tokens of BERT's basic tokenizer, by which PromptCBLUE compares texts."""

import unicodedata
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
