"""What datatrove's duplicate search compares: our normalised turns, and characters for words.

datatrove's words of Chinese come from spaCy with jieba; three characters each need neither, and are
what prepare_data.py compares.
"""

from datatrove.data import Document
from datatrove.pipeline.dedup.exact_dedup import ExactDedupConfig
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.utils.hashing import HashConfig
from datatrove.utils.text import TextNormConfig
from datatrove.utils.word_tokenizers import WordTokenizer

from medtune.data.hygiene.content import texts_of
from medtune.data.hygiene.rules import HygieneOptions
from medtune.data.pipeline.documents import record_of


class Characters(WordTokenizer):
    """Each character but white space as a word; a document is one sentence."""

    def word_tokenize(self, text: str) -> list[str]:
        """Return the characters."""
        return list("".join(text.split()))

    def sent_tokenize(self, text: str) -> list[str]:
        """Return the text as one sentence."""
        return [text]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Return the place of that sentence."""
        return [(0, len(text))]


def said_in(document: Document) -> str:
    """Return who says what, normalised: documents with the same are exact duplicates."""
    return "\0".join(part for turn in texts_of(record_of(document)).said for part in turn)


SHA1 = HashConfig(hash_fc="sha1")  # datatrove 0.10 gives xxhash text, which xxhash 4 refuses
EXACT = ExactDedupConfig(content_getter=said_in, hash_config=SHA1)

NEAR = MinhashConfig(
    n_grams=HygieneOptions.ngram_characters,
    # datatrove takes rows for near that agree in one bucket and looks no further, so a bucket is
    # twice as long as prepare_data.py's: two rows with an index of 0.5 are taken for near with a
    # chance of 0.002, of 0.7 with 0.16, of 0.9 with 0.998.
    num_buckets=25,
    hashes_per_bucket=14,
    # datatrove takes every number for 0: rows that differ in a dose alone would be the same.
    norm_config=TextNormConfig(norm_numbers=False),
    hash_config=SHA1,
)
