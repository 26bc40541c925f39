"""One modelled worker in closed form, at the cost of one event an answer.

Rules of this file: an answer that arrives takes the seat that is free first and waits for its adapter if that
is not in a slot; its times are fixed then, by the batch as it will be at its start. So later arrivals do not
slow it, which `workers` models and this does not. Times are whole microseconds.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import OrderedDict

from .workers import EngineSpeed


class Seats:
    """One worker's state in closed form; times are microseconds."""

    __slots__ = ("_disk", "_free", "_line_free_us", "_slots", "_speed", "_starts", "fetched")

    def __init__(self, speed: EngineSpeed) -> None:
        self._speed = speed
        self._free = [0] * speed.max_batch  # in order: the first is free first
        self._starts: list[int] = []
        self._slots: OrderedDict[int, int] = OrderedDict()
        self._disk: OrderedDict[int, None] = OrderedDict()
        self._line_free_us = 0
        self.fetched = 0

    def queued(self, now_us: int) -> int:
        """Answers that have not got their seat."""
        if self._starts:
            self._starts = [start for start in self._starts if start > now_us]
        return len(self._starts)

    def running(self, now_us: int) -> int:
        """Seats taken."""
        return len(self._free) - bisect_right(self._free, now_us)

    def resident(self, now_us: int) -> list[int]:
        """Adapters ready, the most recently used first."""
        return [adapter for adapter, ready_us in reversed(self._slots.items()) if ready_us <= now_us]

    def take(
        self, now_us: int, adapter: int, prompt_tokens: int, output_tokens: int
    ) -> tuple[int, int, bool]:
        """An answer comes: the times of its first and last token, and whether its adapter was ready."""
        speed = self._speed
        ready_us = now_us if adapter < 0 else self._ready(now_us, adapter)
        start_us = max(now_us, self._free[0], ready_us)
        first_us = start_us + self.prefill_us(prompt_tokens)
        step_us = speed.step_us + (1 + self.running(start_us)) * speed.step_us_per_sequence
        last_us = first_us + (output_tokens - 1) * step_us
        if start_us > now_us:
            self._starts.append(start_us)
        del self._free[0]
        insort(self._free, last_us)
        return first_us, last_us, ready_us <= now_us

    def prefill_us(self, prompt_tokens: int) -> int:
        """How long it reads a prompt."""
        return self._speed.overhead_us + prompt_tokens * self._speed.prefill_us_per_token

    def die(self) -> None:
        """What runs is gone, and what is in memory; the disk stays."""
        self._free = [0] * self._speed.max_batch
        self._starts.clear()
        self._slots.clear()

    def _ready(self, now_us: int, adapter: int) -> int:
        """When an adapter is in its slot; the least recently used makes room."""
        ready_us = self._slots.get(adapter)
        if ready_us is None:
            ready_us = self._load(now_us, adapter)
            if len(self._slots) >= self._speed.slots:
                self._slots.popitem(last=False)
            self._slots[adapter] = ready_us
        else:
            self._slots.move_to_end(adapter)
        return ready_us

    def _load(self, now_us: int, adapter: int) -> int:
        if adapter in self._disk:
            self._disk.move_to_end(adapter)
            return now_us + self._speed.load_us
        self._line_free_us = max(self._line_free_us, now_us) + self._speed.download_us
        self.fetched += 1
        self._disk[adapter] = None
        if len(self._disk) > self._speed.disk:
            self._disk.popitem(last=False)
        return self._line_free_us + self._speed.load_us


def given_by(first_us: int, last_us: int, death_us: int, tokens: int) -> int:
    """Output tokens that came before a death, when they come evenly."""
    if death_us < first_us:
        return 0
    return min(tokens - 1, 1 + (death_us - first_us) * (tokens - 1) // max(1, last_us - first_us))
