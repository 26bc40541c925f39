"""The scheduler's own randomness: SplitMix64 on plain integers, so that a seed gives the same choices on
every machine.

It breaks ties and spreads load; nothing secret hangs on it. Reference:
https://prng.di.unimi.it/splitmix64.c
"""

from __future__ import annotations

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


class Prng:
    """A stream of 64-bit integers, fixed by its seed."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def next64(self) -> int:
        """The next integer in [0, 2^64)."""
        self._state = (self._state + _GOLDEN) & _MASK
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return mixed ^ (mixed >> 31)

    def below(self, bound: int) -> int:
        """An integer in [0, bound), `bound` ≥ 1; the bias is below bound / 2^64."""
        return (self.next64() * bound) >> 64

    def draw(self, bound: int, count: int) -> list[int]:
        """`count` distinct integers below `bound` in random order; all of them where `bound` is not
        larger."""
        if bound <= 2 * count:
            return self._shuffled(bound)[:count]
        drawn: dict[int, None] = {}
        while len(drawn) < count:
            drawn[self.below(bound)] = None
        return list(drawn)

    def _shuffled(self, bound: int) -> list[int]:
        order = list(range(bound))
        for last in range(bound - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order
