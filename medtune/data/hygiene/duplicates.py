"""Equal and nearly equal texts, found by hashes: no text is kept.

Equal texts have equal 64-bit hashes; that any two different ones of ten million share one has a
chance of 3e-6. How near two texts are is the Jaccard index of their sets of character n-grams
(Chinese has no spaces to find words by), estimated from MinHash signatures (Broder 1997) that
`rensa` computes.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter

import numpy as np
from rensa import RMinHash

NUM_PERM = (
    128  # values of a signature: the estimate's standard error is below 0.035 at an index of 0.8
)
BAND_BYTES = 8  # a band's values and its number in one 64-bit key
MIN_RECALL = 0.98
BATCH_CHARACTERS = 1 << 15


def hash_text(text: str) -> int:
    """Return 64 bits that stand for a text, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


MULTIPLIER = np.uint64(hash_text("character n-grams") | 1)


def first_places(keys: np.ndarray) -> np.ndarray:
    """Return for each key the place where it occurs first.

    Example: [7, 5, 7, 5] -> [0, 1, 0, 1].
    """
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first[inverse]


def count_partners(keys: np.ndarray, partners: np.ndarray) -> np.ndarray:
    """Return for each row how many different partners the rows with its key have.

    Example: keys [7, 7, 5, 7], partners [1, 2, 1, 1] -> [2, 2, 1, 2].
    """
    if not len(keys):
        return np.zeros(0, np.int64)
    order = np.lexsort((partners, keys))
    is_new_key = np.append(True, np.diff(keys[order]) != 0)
    is_new_pair = is_new_key | np.append(True, np.diff(partners[order]) != 0)
    key_number = np.cumsum(is_new_key) - 1
    counts = np.empty(len(keys), np.int64)
    counts[order] = np.bincount(key_number, weights=is_new_pair)[key_number]
    return counts


def hash_ngrams(texts: Sequence[str], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a 64-bit hash of each run of `size` characters of each text, and the texts' limits.

    The hashes of text n are those from limits[n] to limits[n + 1]. A text shorter than `size` is
    one run. All at once with numpy, which is much faster than cutting strings.
    """
    texts = [text.ljust(size) for text in texts]
    ends = np.cumsum([len(text) for text in texts])
    characters = np.frombuffer("".join(texts).encode("utf-32-le"), "<u4").astype(np.uint64)
    num_runs = len(characters) - size + 1
    hashes = characters[:num_runs]
    for offset in range(1, size):
        hashes = hashes * MULTIPLIER + characters[offset : offset + num_runs]
    is_in_one_text = np.ones(num_runs, bool)
    for back in range(1, size):
        is_in_one_text[ends[:-1] - back] = False
    limits = np.append(0, ends - np.arange(1, len(ends) + 1) * (size - 1))
    return hashes[is_in_one_text], limits.astype(np.uint64)


class Signatures:
    """MinHash signatures of texts in the order of adding, NUM_PERM bytes each.

    One byte of each value is enough: two different values share it by chance once in 256 times,
    which raises an estimate of 0.8 by 0.0008.
    """

    def __init__(self, ngram_characters: int, seed: int) -> None:
        """Start without texts; `seed` chooses the permutations."""
        self._ngram_characters = ngram_characters
        self._seed = seed
        self._bytes = bytearray()
        self._waiting: list[str] = []
        self._num_waiting_characters = 0

    def add(self, text: str) -> None:
        """Take the next text; it is forgotten once a batch is full."""
        self._waiting.append(text)
        self._num_waiting_characters += len(text)
        if self._num_waiting_characters >= BATCH_CHARACTERS:
            self._flush()

    def to_array(self) -> np.ndarray:
        """Return the signatures (texts, NUM_PERM), uint8; no text can be added after."""
        self._flush()
        return np.frombuffer(self._bytes, np.uint8).reshape(-1, NUM_PERM)

    def _flush(self) -> None:
        if self._waiting:
            hashes, limits = hash_ngrams(self._waiting, self._ngram_characters)
            digests = RMinHash.digest_matrix_from_flat_token_hashes(
                hashes, limits, NUM_PERM, self._seed
            )
            self._bytes += np.array(digests.to_rows(), np.uint32).astype(np.uint8).tobytes()
        self._waiting, self._num_waiting_characters = [], 0


def first_near_places(signatures: np.ndarray, threshold: float) -> np.ndarray:
    """Return for each text the place of the kept text that it is near to, or its own place.

    In the order of reading a text is kept unless it is near to a kept one: its signature agrees in
    a share of at least `threshold`. Of several, the first is named. Pairs that lie at the threshold
    are looked at with a chance of at least MIN_RECALL, nearer ones with a higher chance.
    """
    first = np.arange(len(signatures))
    kept: dict[int, list[int]] = defaultdict(list)
    min_equal = threshold * NUM_PERM
    for place, keys in shared_keys(signatures, values_per_band(threshold)):
        candidates = np.array(sorted({other for key in keys for other in kept[key]}), np.int64)
        num_equal = np.count_nonzero(signatures[candidates] == signatures[place], axis=1)
        near = candidates[num_equal >= min_equal]
        if len(near):
            first[place] = near[0]
        else:
            for key in keys:
                kept[key].append(place)
    return first


def values_per_band(threshold: float) -> int:
    """Return the longest band that still finds pairs at the threshold with MIN_RECALL.

    A pair with index J agrees in all r values of one of b bands with a chance of
    1 - (1 - J^r)^b (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, section 3.4.2).
    Example: 0.8 -> 7, which makes 18 bands and a chance of 0.985; at an index of 0.85 it is 0.999.
    """
    lengths = [
        length
        for length in range(1, BAND_BYTES)
        if 1 - (1 - threshold**length) ** (NUM_PERM // length) >= MIN_RECALL
    ]
    return max(lengths, default=1)


def shared_keys(signatures: np.ndarray, band_length: int) -> Iterator[tuple[int, list[int]]]:
    """Yield (place, keys) of the texts that agree in a band with another one, in order.

    key: a band's values and its number. Texts that share no key are left out, so that what is
    built from the rest stays small.
    """
    places, keys = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
    for band in range(NUM_PERM // band_length):
        packed = np.zeros((len(signatures), BAND_BYTES), np.uint8)
        packed[:, :band_length] = signatures[:, band * band_length : (band + 1) * band_length]
        packed[:, -1] = band
        key = packed.view(np.uint64)[:, 0]
        _, inverse, counts = np.unique(key, return_inverse=True, return_counts=True)
        is_shared = counts[inverse] > 1
        places.append(np.flatnonzero(is_shared))
        keys.append(key[is_shared])
    place, key = np.concatenate(places), np.concatenate(keys)
    order = np.argsort(place, kind="stable")
    rows = zip(place[order].tolist(), key[order].tolist(), strict=True)
    for number, group in groupby(rows, key=itemgetter(0)):
        yield number, [key for _, key in group]


# -- what of all rows is found: a bool for each, and the place of the first one of its group

Found = tuple[np.ndarray, np.ndarray]


def find_repeated(first: np.ndarray) -> Found:
    """Find the rows that are not the first of their group."""
    return first != np.arange(len(first)), first


def find_shared(keys: np.ndarray, partners: np.ndarray, max_partners: int) -> Found:
    """Find the rows whose key occurs with more than `max_partners` different partners."""
    return count_partners(keys, partners) > max_partners, first_places(keys)


def find_opposite(pairs: np.ndarray, swapped: np.ndarray) -> Found:
    """Find the pairs that another row has with its answers exchanged.

    A pair whose two answers are the same once normalised is its own opposite: that is not meant.
    """
    is_found = np.isin(swapped, pairs) & (swapped != pairs)
    return is_found, first_places(np.minimum(pairs, swapped))
