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


class Demand:
    """Counts of asks, kept in 2^-20ths; the adapter that was asked for the longest ago makes room."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: OrderedDict[Cid, list[int]] = OrderedDict()  # [count, as of when]

    def __len__(self) -> int:
        return len(self._counts)

    def note(self, now_ms: int, adapter: Cid) -> None:
        """One more ask for it."""
        entry = self._counts.get(adapter)
        if entry is None:
            self._counts[adapter] = [_ONE, now_ms]
            if len(self._counts) > MAX_COUNTED:
                self._counts.popitem(last=False)
            return
        if now_ms > entry[1]:
            entry[0] = _faded(entry[0], now_ms - entry[1])
            entry[1] = now_ms
        entry[0] += _ONE
        self._counts.move_to_end(adapter)

    def rate_mhz(self, now_ms: int, adapter: Cid) -> int:
        """Asks in 1,000 seconds."""
        count, since_ms = self._counts.get(adapter, (0, now_ms))
        return _faded(count, now_ms - since_ms) * _LN2_PPM // HALF_LIFE_MS // _ONE

    def rates_mhz(self, now_ms: int) -> dict[Cid, int]:
        """All that are still asked for."""
        rates = {adapter: self.rate_mhz(now_ms, adapter) for adapter in self._counts}
        return {adapter: rate for adapter, rate in rates.items() if rate}


def _faded(count: int, age_ms: int) -> int:
    """What is left of a count: halved for every half-life, for the rest by 1 / (1 + x + x²/2) ≈ e^-x."""
    if age_ms >= HALF_LIFE_MS:
        halvings, age_ms = divmod(age_ms, HALF_LIFE_MS)
        count >>= min(halvings, 60)
    x_ppm = age_ms * _LN2_PPM // HALF_LIFE_MS
    return count * _PPM // (_PPM + x_ppm + x_ppm * x_ppm // (2 * _PPM))
