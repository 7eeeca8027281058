"""What two lists of tokens have in common: n-grams, the longest common subsequence, ROUGE's F.

The F here is rouge_chinese's, of one text: a tiny number in its divisor keeps two zeros from
dividing by zero, and a perfect score is 0.999999995. The F1 of tuples, labels and trees is another
one: exact, of counts summed over texts (`promptcblue`). All values are 0 to 1; who wants 0 to 100,
as ChatGLM2's and GLM-4's code does, multiplies.
"""

from collections.abc import Iterator, Sequence

EPSILON = 1e-8


def rouge_f(tokens: Sequence[str], reference: Sequence[str]) -> tuple[float, float, float]:
    """Return F of ROUGE-1, ROUGE-2 and ROUGE-L, each 0-1.

    n-grams are sets, so repetitions count once; the longest common subsequence is of the whole
    lists.   Source: rouge_chinese 1.0.3.
    """
    common = longest_common_subsequence(tokens, reference)
    return (
        rouge_n(tokens, reference, 1),
        rouge_n(tokens, reference, 2),
        smoothed_f(common, len(tokens), len(reference)),
    )


def rouge_n(tokens: Sequence[str], reference: Sequence[str], order: int) -> float:
    """Return F over sets of n-grams, 0 where one of them has none."""
    own, others = set(n_grams(tokens, order)), set(n_grams(reference, order))
    return smoothed_f(len(own & others), len(own), len(others))


def smoothed_f(common: int, predicted: int, reference: int) -> float:
    """Return F of precision common/predicted and recall common/reference; x/0 counts as 0."""
    precision = common / predicted if predicted else 0.0
    recall = common / reference if reference else 0.0
    return 2.0 * (precision * recall / (precision + recall + EPSILON))


def n_grams(tokens: Sequence[str], order: int) -> Iterator[tuple[str, ...]]:
    """Yield the runs of `order` tokens."""
    return zip(*(tokens[start:] for start in range(order)), strict=False)


def longest_common_subsequence(tokens: Sequence[str], reference: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, a row of the table in one integer.

    Source: H. Hyyro, Bit-parallel LCS-length computation revisited, AWOCA 2004.
    """
    places: dict[str, int] = {}
    for place, token in enumerate(reference):
        places[token] = places.get(token, 0) | 1 << place
    row = full = (1 << len(reference)) - 1
    for token in tokens:
        matches = row & places.get(token, 0)
        row = (row + matches | row - matches) & full
    return len(reference) - row.bit_count()
