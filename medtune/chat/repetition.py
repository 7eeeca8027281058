"""An answer that goes round in circles, which small models and greedy ones fall into."""

from collections.abc import Sequence

MAX_UNIT_TOKENS = 64
MIN_ROUNDS = 4
MIN_LOOP_TOKENS = 64


def is_loop(ids: Sequence[int]) -> bool:
    """Whether the last tokens are a few, repeated: at least 4 rounds, and 64 tokens in all.

    Example: 64 times the same id; 4 rounds of the same 16.
    """
    if len(ids) < MIN_LOOP_TOKENS:
        return False
    for unit in range(1, MAX_UNIT_TOKENS + 1):
        length = max(MIN_LOOP_TOKENS, MIN_ROUNDS * unit)
        if len(ids) >= length and list(ids[-length + unit :]) == list(ids[-length:-unit]):
            return True
    return False
