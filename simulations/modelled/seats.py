"""One modelled worker in closed form, at the cost of one event an answer.

Rules of this file: an answer that arrives takes the seat that is free first and waits for its adapter if that
is not in a slot; its times are fixed then, by the batch as it will be at its start. So later arrivals do not
slow it, which `workers` models and this does not. Times are whole microseconds.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right, insort

from .workers import EngineSpeed


class Seats:
    """One worker's state in closed form; times are microseconds. `starts` are those of answers that may not
    have got their seat; `fetched` counts adapters that came over the network."""

    __slots__ = ("_disk", "_free", "_line_free_us", "_slots", "_speed", "fetched", "starts")

    def __init__(self, speed: EngineSpeed) -> None:
        self._speed = speed
        self._free = array("q", [0] * speed.max_batch)  # in order: the first is free first
        self.starts: list[int] = []
        self._slots: dict[int, int] = {}  # when it is ready; the least recently used first
        self._disk: dict[int, None] = {}
        self._line_free_us = 0
        self.fetched = 0

    def queued(self, now_us: int) -> int:
        """Answers that have not got their seat."""
        if self.starts:
            self.starts = [start for start in self.starts if start > now_us]
        return len(self.starts)

    def running(self, now_us: int) -> int:
        """Seats taken."""
        return len(self._free) - bisect_right(self._free, now_us)

    def resident(self, now_us: int) -> list[int]:
        """Adapters ready, the most recently used first."""
        return [adapter for adapter, ready_us in reversed(self._slots.items()) if ready_us <= now_us]

    def take(
        self, now_us: int, adapter: int, prompt_tokens: int, output_tokens: int
    ) -> tuple[int, int, int, bool]:
        """An answer comes: when its prompt is read, the times of its first and last token, and whether its
        adapter was ready."""
        speed, free = self._speed, self._free
        ready_us = now_us if adapter < 0 else self._ready(now_us, adapter)
        start_us = now_us if now_us > ready_us else ready_us
        if free[0] > start_us:
            start_us = free[0]
        first_us = start_us + speed.overhead_us + prompt_tokens * speed.prefill_us_per_token
        running = 1 + len(free) - bisect_right(free, start_us)
        last_us = first_us + (output_tokens - 1) * (speed.step_us + running * speed.step_us_per_sequence)
        if start_us > now_us:
            self.starts.append(start_us)
        del free[0]
        insort(free, last_us)
        return start_us, first_us, last_us, ready_us <= now_us

    def die(self) -> None:
        """What runs is gone, and what is in memory; the disk stays."""
        self._free = array("q", [0] * self._speed.max_batch)
        self.starts.clear()
        self._slots.clear()

    def _ready(self, now_us: int, adapter: int) -> int:
        """When an adapter is in its slot; the least recently used makes room."""
        slots = self._slots
        ready_us = slots.pop(adapter, -1)
        if ready_us < 0:
            ready_us = self._load(now_us, adapter)
            if len(slots) >= self._speed.slots:
                del slots[next(iter(slots))]
        slots[adapter] = ready_us
        return ready_us

    def _load(self, now_us: int, adapter: int) -> int:
        disk = self._disk
        if adapter in disk:
            del disk[adapter]
            disk[adapter] = None
            return now_us + self._speed.load_us
        self._line_free_us = max(self._line_free_us, now_us) + self._speed.download_us
        self.fetched += 1
        disk[adapter] = None
        if len(disk) > self._speed.disk:
            del disk[next(iter(disk))]
        return self._line_free_us + self._speed.load_us


def given_by(first_us: int, last_us: int, death_us: int, tokens: int) -> int:
    """Output tokens that came before a death, when they come evenly."""
    if death_us < first_us:
        return 0
    return min(tokens - 1, 1 + (death_us - first_us) * (tokens - 1) // max(1, last_us - first_us))
