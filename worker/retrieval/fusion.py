"""Several rankings as one: reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009), in integers."""

from __future__ import annotations

from collections.abc import Sequence

_RANK_OFFSET = 60
_UNIT = 10**9


def fuse(rankings: Sequence[Sequence[int]], count: int) -> list[int]:
    """The `count` numbers with the greatest sum of 1 / (60 + rank) over the rankings, ties to the lowest."""
    scores: dict[int, int] = {}
    for ranking in rankings:
        for rank, number in enumerate(ranking, 1):
            scores[number] = scores.get(number, 0) + _UNIT // (_RANK_OFFSET + rank)
    return sorted(scores, key=lambda number: (-scores[number], number))[:count]
