"""A token bucket: how often something may happen."""

from __future__ import annotations


class Bucket:
    """`rate` tokens a second, at most `burst` saved. Times are seconds of any one clock."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, now: float) -> bool:
        """Whether there was a token at `now`, which is gone then."""
        self._fill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def pause(self, now: float) -> float:
        """Seconds from `now` until there is a token."""
        self._fill(now)
        return max(0.0, 1 - self._tokens) / self._rate

    def _fill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
