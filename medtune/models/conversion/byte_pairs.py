"""Which two pieces each piece of a vocabulary is joined from: what a fast tokenizer needs to know.

Both libraries of the old tokenizers store pieces with a rank and join, again and again, the two
neighbours whose union has the lowest rank, the left one of equals. Nothing is joined across the
ends of what becomes a piece, so inside a piece the steps are always those of the piece alone: its
last step is the one pair that is needed.
"""

from collections.abc import Mapping
from typing import TypeVar

PieceT = TypeVar("PieceT", str, bytes)


def find_pairs(ranks: Mapping[PieceT, int]) -> list[tuple[PieceT, PieceT]]:
    """Return the pair that makes each piece of two or more parts, lowest rank first.

    ranks: of every piece that may be joined, without two equal ones among those of several parts.
    A piece that cannot come about is left out.
    Example: {"a": 5, "b": 6, "c": 7, "ab": 0, "abc": 1} -> [("a", "b"), ("ab", "c")]
    """
    pairs = []
    for piece in sorted(ranks, key=ranks.__getitem__):
        if len(piece) > 1 and (pair := last_pair(piece, ranks)):
            pairs.append(pair)
    return pairs


def last_pair(piece: PieceT, ranks: Mapping[PieceT, int]) -> tuple[PieceT, PieceT] | None:
    """Return the two pieces that are joined last, None if the joining ends elsewhere."""
    parts = [piece[place : place + 1] for place in range(len(piece))]
    own = ranks[piece]
    while len(parts) > 2:
        unions = [
            ranks.get(left + right, own) for left, right in zip(parts, parts[1:], strict=False)
        ]
        lowest = min(unions)
        if lowest >= own:
            return None
        place = unions.index(lowest)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts[0], parts[1]
