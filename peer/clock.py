"""Where time comes from. Everything below `peer` takes `now` as an argument; here it is read.

Times are Unix milliseconds or seconds. Epochs are chain time: the chain's clock may run apart from this
machine's (a development chain jumps over windows), so `ChainClock` keeps the offset seen at the newest block.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """A source of wall time."""

    def now_ms(self) -> int:
        """Unix milliseconds."""
        ...


class WallClock:
    """This machine's clock."""

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return time.time_ns() // 1_000_000


class ManualClock:
    """A clock that moves only when told to: for tests and replays."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return self._now_ms

    def advance(self, milliseconds: int) -> None:
        """Move forward."""
        self._now_ms += milliseconds


class ChainClock:
    """Chain time: wall time plus the offset of the newest block that was seen.

    Before any was seen in this run, that offset is a guess: what an earlier run saw, or what a worker says.
    """

    def __init__(self, clock: Clock, genesis: int, epoch_length: int) -> None:
        """`genesis` in Unix seconds of the chain, `epoch_length` in seconds (> 0)."""
        self._clock = clock
        self._genesis = genesis
        self._epoch_length = epoch_length
        self.offset_ms = 0
        """What chain time is ahead of this machine's. A node restores it at its start."""
        self.is_seen = False
        """Whether the chain has told its time in this run."""
        self._first_guess_ms: int | None = None

    @property
    def epoch_length(self) -> int:
        """Seconds."""
        return self._epoch_length

    def observe(self, block_time: int) -> None:
        """Take the newest block's timestamp, in seconds, as the chain's present."""
        self.offset_ms = block_time * 1000 - self._clock.now_ms()
        self.is_seen = True

    def suppose(self, epoch: int) -> bool:
        """Go by another's word for the present epoch until the chain answers; whether that changed anything.

        It never does once the chain was seen, nor for an epoch before the one of this clock's own guess: a
        chain's time runs ahead of it, if at all, and whose beacon is known already is nobody's to choose.
        """
        if self._first_guess_ms is None:
            self._first_guess_ms = self.offset_ms
        least = self.epoch_at((self._clock.now_ms() + self._first_guess_ms) // 1000)
        if self.is_seen or epoch == self.epoch() or epoch < least:
            return False
        self.offset_ms = (self._genesis + epoch * self._epoch_length) * 1000 - self._clock.now_ms()
        return True

    def now(self) -> int:
        """Unix seconds of the chain."""
        return (self._clock.now_ms() + self.offset_ms) // 1000

    def epoch_at(self, seconds: int) -> int:
        """The epoch in which a chain time falls; times before genesis are in epoch 0."""
        return max(0, seconds - self._genesis) // self._epoch_length

    def epoch(self) -> int:
        """The present epoch."""
        return self.epoch_at(self.now())
