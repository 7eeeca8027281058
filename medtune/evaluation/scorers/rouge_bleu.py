"""ROUGE-1/2/L and BLEU-4 of a text against a reference, as ChatGLM2-6B and GLM-4 count them.

Both cut with jieba and take ROUGE x 100. ChatGLM2's BLEU-4 counts characters (x 100), GLM-4's
counts words (0 to 1). ROUGE is that of rouge_chinese 1.0.3, BLEU that of nltk's sentence_bleu with
method3; the tests compare with both. They are not called: rouge_chinese keeps a table of all pairs
of words, which for two texts of 2,000 characters takes 1.2 s and 0.2 GB; all is done here in 0.02 s
(2 cores, 2026-11).
Source: compute_metrics of ChatGLM2-6B ptuning/main.py and of GLM-4 finetune_demo/finetune.py.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from medtune.data.privacy.dictionary import dictionary
from medtune.evaluation.scorers.overlap import n_grams, rouge_f

BLEU_ORDERS = (1, 2, 3, 4)
DECIMALS = 4

# Where rouge_chinese begins a new line; what follows the sign must not be a closing quote.
LINE_BREAKS = (
    (re.compile(r"([。！？?])([^”’])"), r"\1\n\2"),
    (re.compile(r"(\.{6})([^”’])"), r"\1\n\2"),
    (re.compile(r"(…{2})([^”’])"), r"\1\n\2"),
    (re.compile(r"([。！？?][”’])([^，。！？?])"), r"\1\n\2"),
)


class TextScores(NamedTuple):
    """The numbers of one text by one definition: ROUGE F in 0-100, BLEU-4 in the definition's unit.

    is_scored: False for a blank text or reference. The official code ends there with a ValueError;
    here all numbers are 0.
    """

    rouge_1: float
    rouge_2: float
    rouge_l: float
    bleu_4: float
    is_scored: bool = True

    def named(self) -> dict[str, float]:
        """Return the numbers under the names that the official code gives them."""
        return dict(zip(OFFICIAL_NAMES, self[:4], strict=True))


class PairScores(NamedTuple):
    """The numbers of one text by both definitions; GLM-4's code strips blanks from its ends."""

    chatglm2: TextScores
    glm4: TextScores

    def rounded(self) -> "PairScores":
        """Return the numbers as the official code rounds them: all but GLM-4's BLEU."""
        chatglm2, glm4 = (
            scores._replace(
                rouge_1=round(scores.rouge_1, DECIMALS),
                rouge_2=round(scores.rouge_2, DECIMALS),
                rouge_l=round(scores.rouge_l, DECIMALS),
            )
            for scores in self
        )
        return PairScores(chatglm2._replace(bleu_4=round(chatglm2.bleu_4, DECIMALS)), glm4)

    def counts(self) -> dict[str, float]:
        """Return columns whose sums give all means: METRIC_NAMES, items, unscored."""
        numbers = (*self.chatglm2[:4], self.glm4.bleu_4)
        named = dict(zip(METRIC_NAMES, numbers, strict=True))
        return {**named, "items": 1, "unscored": int(not self.chatglm2.is_scored)}


OFFICIAL_NAMES = ("rouge-1", "rouge-2", "rouge-l", "bleu-4")
METRIC_NAMES = ("rouge-1", "rouge-2", "rouge-l", "bleu-4-char", "bleu-4-word")
UNSCORED = TextScores(0.0, 0.0, 0.0, 0.0, is_scored=False)


def score_pair(predicted: str, reference: str) -> PairScores:
    """Return the numbers of a text against its reference, not rounded."""
    words, reference_words = words_of(predicted), words_of(reference)
    rouge = score_rouge(words, reference_words)
    if not rouge.is_scored:
        return PairScores(UNSCORED, UNSCORED)
    chatglm2 = rouge._replace(bleu_4=100 * bleu_4(predicted, reference))
    if predicted != predicted.strip() or reference != reference.strip():
        words, reference_words = words_of(predicted.strip()), words_of(reference.strip())
        rouge = score_rouge(words, reference_words)
    return PairScores(chatglm2, rouge._replace(bleu_4=bleu_4(words, reference_words)))


def score_rouge(words: Sequence[str], reference_words: Sequence[str]) -> TextScores:
    """Return ROUGE of a text cut into words; its BLEU-4 is left at 0."""
    tokens, reference = rouge_tokens(words), rouge_tokens(reference_words)
    if not tokens or not reference:
        return UNSCORED
    rouge_1, rouge_2, rouge_l = rouge_f(tokens, reference)
    return TextScores(100 * rouge_1, 100 * rouge_2, 100 * rouge_l, bleu_4=0.0)


def words_of(text: str) -> list[str]:
    """Return the words that jieba cuts a text into, blanks and line breaks among them."""
    return list(dictionary().tokenizer.cut(text, HMM=True))


def rouge_tokens(words: Sequence[str]) -> list[str]:
    """Return the tokens that rouge_chinese sees; none for a text without a visible sign.

    A line of blanks between others counts as one empty token.
    """
    text = " ".join(words)
    for pattern, replacement in LINE_BREAKS:
        text = pattern.sub(replacement, text)
    lines = (line for line in text.rstrip().split("\n") if line)
    return [token for line in lines for token in line.split() or [""]]


def bleu_4(tokens: Sequence[str], reference: Sequence[str]) -> float:
    """Return BLEU-4 in 0-1 with one reference, method3: the k-th order without a match has 1/2^k.

    tokens: words, or a text, whose tokens are its characters.   0 without a common token.
    """
    logs = []
    num_empty = 0
    for order in BLEU_ORDERS:
        own = Counter(n_grams(tokens, order))
        others = Counter(n_grams(reference, order))
        matches = sum((own & others).values())
        if order == 1 and not matches:
            return 0.0
        num_empty += not matches
        count = max(1, sum(own.values()))
        logs.append(math.log(matches / count if matches else 1 / (2**num_empty * count)))
    shortness = min(0.0, 1 - len(reference) / len(tokens))
    return math.exp(shortness) * math.exp(math.fsum(log / len(BLEU_ORDERS) for log in logs))


def mean_scores(scores: Sequence[TextScores]) -> TextScores:
    """Return the plain mean over texts; those that could not be scored count as 0."""
    columns = list(zip(*scores, strict=True))[:4]
    return TextScores(*(sum(column) / len(scores) for column in columns))
