"""How much each adapter is asked for, as this peer sees it: a count that halves every half-life."""

from __future__ import annotations

from collections import OrderedDict

from ..protocol.ids import Cid

HALF_LIFE_MS = 30_000
MAX_COUNTED = 8_192
_ONE = 1 << 20
_PPM = 1_000_000
_LN2_PPM = 693_147
"""At a steady rate the count settles at rate · half-life / ln 2."""


class Count:
    """Asks for one adapter, kept in 2^-20ths."""

    __slots__ = ("_count", "_since_ms")

    def __init__(self) -> None:
        self._count = self._since_ms = 0

    def note(self, now_ms: int) -> None:
        """One more ask."""
        age_ms = now_ms - self._since_ms
        if age_ms > 0:
            self._since_ms = now_ms
            self._count = _faded(self._count, age_ms) + _ONE
        else:
            self._count += _ONE

    def rate_mhz(self, now_ms: int) -> int:
        """Asks in 1,000 seconds."""
        return _faded(self._count, now_ms - self._since_ms) * _LN2_PPM // HALF_LIFE_MS // _ONE


class Demand:
    """The counts of adapters; the one that was asked for the longest ago makes room."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: OrderedDict[Cid, Count] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    def note(self, now_ms: int, adapter: Cid) -> None:
        """One more ask for it."""
        count = self._counts.get(adapter)
        if count is None:
            count = self._counts[adapter] = Count()
            if len(self._counts) > MAX_COUNTED:
                self._counts.popitem(last=False)
        count.note(now_ms)
        self._counts.move_to_end(adapter)

    def rate_mhz(self, now_ms: int, adapter: Cid) -> int:
        """Asks in 1,000 seconds."""
        count = self._counts.get(adapter)
        return 0 if count is None else count.rate_mhz(now_ms)

    def rates_mhz(self, now_ms: int) -> dict[Cid, int]:
        """All that are still asked for."""
        rates = {adapter: count.rate_mhz(now_ms) for adapter, count in self._counts.items()}
        return {adapter: rate for adapter, rate in rates.items() if rate}


def _faded(count: int, age_ms: int) -> int:
    """What is left of a count: halved for every half-life, for the rest by 1 / (1 + x + x²/2) ≈ e^-x."""
    if age_ms >= HALF_LIFE_MS:
        halvings, age_ms = divmod(age_ms, HALF_LIFE_MS)
        count >>= min(halvings, 60)
    x_ppm = age_ms * _LN2_PPM // HALF_LIFE_MS
    return count * _PPM // (_PPM + x_ppm + x_ppm * x_ppm // (2 * _PPM))
