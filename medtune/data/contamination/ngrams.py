"""Text brought to one form, and an index from its character n-grams to the items that hold them."""

import re
from collections.abc import Iterator

import numpy as np

from medtune.common.text import nfkc

NOT_IN_A_WORD = re.compile(r"[\W_]+")
BASE = np.uint64(3**40)  # of 64 bits, and odd: multiplication modulo 2**64 then loses nothing
SLOTS_PER_NGRAM = 8
HASH_BITS = 64


def normalize(text: str) -> str:
    """Return the letters and digits alone, in NFKC and lower case.

    White space, punctuation, symbols and combining marks are gone, and full-width forms, circled
    numbers and units such as U+2103 are written with their plain characters.
    Example: "PH  is (7.35)!" -> "phis735".
    """
    return NOT_IN_A_WORD.sub("", nfkc(text).lower())


def hash_ngrams(text: str, length: int) -> np.ndarray:
    """Return the 64-bit hash of each n-gram of `length` characters, in order (uint64).

    A text shorter than `length` has none. Of a million n-grams against a billion, some two that
    differ share a hash with a chance of 1 in 18,000.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    count = len(codes) - length + 1
    if count < 1:
        return np.empty(0, np.uint64)
    hashes = codes[:count].copy()
    for place in range(1, length):
        hashes *= BASE
        hashes += codes[place : place + count]
    return hashes


def windows(text: str, step: int) -> Iterator[str]:
    """Yield pieces of at most 2 * `step` characters, each beginning `step` after the last.

    Every passage of at most `step` characters lies whole in one of them.
    """
    for start in range(0, max(1, len(text) - step), step):
        yield text[start : start + 2 * step]


class NgramIndex:
    """What is known of an n-gram, given its hash: numbers of items, or places in them."""

    def __init__(self, hashes: np.ndarray, values: np.ndarray) -> None:
        """Take n-grams that may repeat, and one value for each."""
        order = np.argsort(hashes, kind="stable")
        self.hashes, self.values = hashes[order], values[order]
        # Most n-grams of a training text are in no item, and one look into a table says so; only
        # what is left is searched for.
        bits = max(10, (len(hashes) * SLOTS_PER_NGRAM).bit_length())
        self.shift = np.uint64(HASH_BITS - bits)
        self.is_possible = np.zeros(1 << bits, np.bool_)
        self.is_possible[self.hashes >> self.shift] = True

    def find(self, hashes: np.ndarray) -> np.ndarray:
        """Return the values of these n-grams, once however often an n-gram occurs."""
        possible = hashes[self.is_possible[hashes >> self.shift]]
        if not len(possible):
            return self.values[:0]
        possible = np.unique(possible)
        first = np.searchsorted(self.hashes, possible, "left")
        count = np.searchsorted(self.hashes, possible, "right") - first
        if not count.any():
            return self.values[:0]
        ends = np.cumsum(count)
        return self.values[np.repeat(first - ends + count, count) + np.arange(ends[-1])]


def join_hashes(hashes: list[np.ndarray]) -> np.ndarray:
    """Return several arrays of hashes as one (uint64); of none, an empty one."""
    return np.concatenate([np.empty(0, np.uint64), *hashes])
