"""jieba's dictionary: where words end, what they are, and how common."""

import warnings
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple, Protocol

COMMON = 100  # times that a word stands in the texts that were counted for the dictionary


class Tokenizer(Protocol):
    """What is used of jieba.Tokenizer."""

    def cut(self, sentence: str, *, HMM: bool) -> Iterator[str]:  # noqa: N803
        """Yield the words of a text."""


class Dictionary(NamedTuple):
    """jieba's tokenizer, how often its words stand, and their parts of speech.

    counts: without names and without words of one character.
    """

    tokenizer: Tokenizer
    counts: dict[str, int]
    tags: dict[str, str]

    def is_common(self, word: str, least: int = COMMON) -> bool:
        """True for a word that is no name and stands at least that often."""
        return self.counts.get(word, 0) >= least

    def words_of(self, text: str) -> dict[int, str]:
        """Return the words of a text by where they start; a name falls into its characters."""
        place, word_at = 0, {}
        for word in self.tokenizer.cut(text, HMM=False):  # True would look for unknown words
            word_at[place] = word
            place += len(word)
        return word_at

    def part_of_speech(self, word: str) -> str:
        """Return the first letter of a word's tag: v for verbs; x for what is not known."""
        return self.tags.get(word, "x")[0]


@cache
def dictionary() -> Dictionary:
    """Return jieba's dictionary; it is read when the first doubtful name comes, within a second."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import jieba
    tokenizer = jieba.Tokenizer()
    # Its own way logs, and leaves a file in /tmp that it would load whoever wrote it.
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    counts, tags = {}, {}
    with tokenizer.get_dict_file() as lines:
        for line in lines:
            word, count, tag = line.decode().split()
            tags[word] = tag
            if len(word) > 1 and not tag.startswith("nr"):
                counts[word] = int(count)
    return Dictionary(tokenizer, counts, tags)
