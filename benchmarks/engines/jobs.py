"""What an engine under measurement is asked, and what came of it: the same words for every engine.

Rules of this file: the standard library only, because the peers' environment has nothing of this project;
times are seconds on `time.perf_counter`, relative to the job's start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """One answer wanted: prompt token ids, and the number of an adapter (none: the plain base)."""

    prompt: tuple[int, ...]
    adapter: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """Asks of `tokens` greedy tokens each, the end token ignored.

    With `arrivals` (seconds, ascending, one an ask) an ask is made at its time whatever runs; without, at
    most `concurrency` are under way.
    """

    asks: tuple[Ask, ...]
    tokens: int
    concurrency: int
    arrivals: tuple[float, ...] = ()

    @property
    def limit(self) -> int:
        """How many asks may be under way at once."""
        return len(self.asks) if self.arrivals else self.concurrency

    def order(self) -> Message:
        """As it travels to a child."""
        return {
            "do": "run",
            "asks": [[list(ask.prompt), ask.adapter] for ask in self.asks],
            "tokens": self.tokens,
            "concurrency": self.concurrency,
            "arrivals": list(self.arrivals),
        }


def job_of(order: Mapping[str, Any]) -> Job:
    """The job that an order carries."""
    asks = tuple(Ask(tuple(prompt), adapter) for prompt, adapter in order["asks"])
    return Job(asks, order["tokens"], order["concurrency"], tuple(order["arrivals"]))


@dataclass(slots=True)
class Answered:
    """One ask's course: when it was made, its first and last token, and how it begins (a token id, or the
    text where an engine gives only that).
    """

    asked: float = 0.0
    first: float = 0.0
    last: float = 0.0
    tokens: int = 0
    begins: int | str = field(default="")

    def took(self, now: float, tokens: int, begins: int | str = "") -> None:
        """Tokens came."""
        if not self.tokens:
            self.first, self.begins = now, begins
        self.tokens += tokens
        self.last = now

    @property
    def ttft_ms(self) -> float:
        """Time to the first token."""
        return 1000 * (self.first - self.asked)

    @property
    def tpot_ms(self) -> float:
        """Time per further token; 0 when there was one only."""
        return 1000 * (self.last - self.first) / (self.tokens - 1) if self.tokens > 1 else 0.0
