"""Which records are validated on, and which are used: by content and seed, never by file order.

A record takes part with its key (a question or a text), of which 16 bytes of a seeded hash stand
for the whole: equal keys have equal hashes, and the order of the hashes is the order of choice.
"""

import hashlib
from collections.abc import Iterable
from heapq import nsmallest

import numpy as np

from medtune.common.errors import DataError

KEY_BYTES = 16  # two different keys of a billion share a hash with a chance of 1e-21


def seeded_order(key: str, seed: int) -> bytes:
    """Return what keys are sorted by: the SHA-256 of seed and content."""
    return hashlib.sha256(f"{seed}\0{key}".encode()).digest()


def ordered_key(key: str, seed: int) -> bytes:
    """Return the KEY_BYTES that stand for a key."""
    return seeded_order(key, seed)[:KEY_BYTES]


def split_keys(keys: np.ndarray, validation_percentage: float) -> np.ndarray:
    """Return a bool for each record: True for `validation_percentage` of the distinct keys.

    keys: (records,) of ordered keys. At least one key is chosen. Records with the same key stay
    together, so no question or document is on both sides.
    Raises DataError if there are not two distinct keys.
    """
    distinct = np.unique(keys)
    if len(distinct) < 2:
        raise DataError(
            f"expected at least two different rows to split, found {len(distinct)}; give "
            "--validation_file_dir, or for text a finer --doc_separator (blank_line)."
        )
    num_chosen = max(1, round(len(distinct) * validation_percentage / 100))
    return keys <= distinct[num_chosen - 1]


def sample(keys: Iterable[str], limit: int, seed: int) -> list[int]:
    """Return the places of at most `limit` records, chosen by the seed, in their order."""
    order = ((seeded_order(f"{key}{place}", seed), place) for place, key in enumerate(keys))
    return sorted(place for _, place in nsmallest(limit, order))
