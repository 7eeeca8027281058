"""Domain words that become one token each: --add_tokens, a file with one word a line.

They are text, no control tokens: whatever a person writes is encoded with them. A word is matched
as it stands in the file, anywhere in a text, and the longest one wins.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase

from medtune.common.errors import DataError
from medtune.common.log import logger
from medtune.data.encoding import MARKUP, PlainEncoder


def add_tokens(tokenizer: PreTrainedTokenizerBase, file: str | None) -> list[str]:
    """Add a file's words to the tokenizer and return those that it did not have, in order.

    file: one word a line in UTF-8, or a JSON list of words (.json); None adds nothing.
    Blank lines, repeated words and words that are one token already are counted and left out.
    Raises DataError with `file:line`: a file that cannot be read or has no word, a word that is or
    holds a control token, one that the tokenizer would not give back as it was.
    """
    if file is None:
        return []
    counts: Counter[str] = Counter()
    places: dict[str, str] = {}  # word -> where it stands
    for where, word in read_words(Path(file)):
        if not word:
            counts["blank"] += 1
        elif word in places:
            counts["repeated"] += 1
        else:
            places[word] = where
    if not places:
        raise DataError(f"{file}: expected one word a line, found none.")
    encoder = PlainEncoder(tokenizer)
    for word, where in places.items():
        check_plain(word, where, encoder)
    new = [word for word in places if not is_one_token(tokenizer, word)]
    counts["known to the tokenizer"] = len(places) - len(new)
    tokenizer.add_tokens([AddedToken(word, normalized=False, special=False) for word in new])
    for word in new:
        check_round_trip(tokenizer, word, places[word])
    left_out = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    logger.info(
        "--add_tokens %s: added %s tokens%s",
        file, f"{len(new):,}", f" (left out: {left_out})" if left_out else "",
    )  # fmt: skip
    return new


def read_words(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (where, word) of a file, blanks around the words taken off."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a text in UTF-8 that can be read: {error}") from error
    if path.suffix != ".json":
        for number, line in enumerate(text.split("\n"), 1):
            # What ends the last line begins no other.
            if line or number <= text.count("\n"):
                yield f"{path}:{number}", line.strip()
        return
    try:
        words = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: expected a JSON list of words: {error}") from error
    if not isinstance(words, list):
        raise DataError(f"{path}: expected a JSON list of words, found {type(words).__name__}.")
    for number, word in enumerate(words, 1):
        if not isinstance(word, str):
            raise DataError(f"{path}: item {number}: expected a word in quotes, found {word!r}.")
        yield f"{path}: item {number}", word.strip()


def check_plain(word: str, where: str, encoder: PlainEncoder) -> None:
    """Raise DataError for a word that would be taken for a control token, or would hide one."""
    held = [name for name in encoder.controls if name in word]
    if held or MARKUP.fullmatch(word):
        what = f"it holds the control token {held[0]}" if held else "it looks like a control token"
        raise DataError(
            f"{where}: expected a word of plain text, found {word!r}: {what}, which text can never "
            "be. Take the line out, or the brackets around the word."
        )


def is_one_token(tokenizer: PreTrainedTokenizerBase, word: str) -> bool:
    """True if the tokenizer has the word already, by its name or as the one piece it makes of it.

    A byte-level vocabulary holds words under other names than their own.
    """
    if tokenizer.convert_tokens_to_ids(word) not in (None, tokenizer.unk_token_id):
        return True
    ids = tokenizer(word, add_special_tokens=False)["input_ids"]
    return len(ids) == 1 and ids[0] != tokenizer.unk_token_id


def check_round_trip(tokenizer: PreTrainedTokenizerBase, word: str, where: str) -> None:
    """Raise DataError for a word that comes back as another text, or that is no token of its own.

    Byte-level tokenizers read letters such as the micro sign as bytes.
    """
    ids = tokenizer(word, add_special_tokens=False)["input_ids"]
    back = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    token_id = tokenizer.convert_tokens_to_ids(word)
    if token_id not in ids or back.strip() != word:
        raise DataError(
            f"{where}: expected a word that this tokenizer gives back as it was, found {word!r}, "
            f"which comes back as {back!r}; take the line out: its pieces do as before."
        )
