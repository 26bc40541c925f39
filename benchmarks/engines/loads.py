"""The jobs of the serving benchmark, all drawn from seeds: prompts, which adapter, when.

Rules of this file: no prompt comes twice to an engine, so that no prefix cache answers; all arms get the
same ones.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from .catalogue import FIRST
from .jobs import Ask, Job

ROWS = ("base1", "base8", "same8", "mixed8")
ALONE = 3
"""Answers one after another in a job of batch size 1."""


@dataclass(slots=True)
class Loads:
    """Draws jobs. `vocabulary` bounds the prompt's token ids, of which the first 100 are left out."""

    seed: int
    vocabulary: int
    prompt_tokens: int
    answer_tokens: int
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def row(self, row: str) -> Job:
        """One of ROWS."""
        adapters: list[int | None]
        match row:
            case "base1":
                return self._job([None] * ALONE, 1)
            case "base8":
                adapters = [None] * FIRST
            case "same8":
                adapters = [0] * FIRST
            case _:
                adapters = list(range(FIRST))
        return self._job(adapters, FIRST)

    def power_law(self, asks: int, adapters: int, concurrency: int) -> Job:
        """Adapter k with a probability that goes with 1 / (k + 1)."""
        weights = [1 / (adapter + 1) for adapter in range(adapters)]
        return self._job(self._random.choices(range(adapters), weights, k=asks), concurrency)

    def arriving(self, adapters: int, times: list[float]) -> Job:
        """An ask at each of these times, for any of the first `adapters` with equal probability."""
        drawn = [self._random.randrange(adapters) for _ in times]
        return Job(self._asks(drawn), self.answer_tokens, len(times), tuple(times))

    def times(self, asks: int, per_s: float) -> list[float]:
        """Of a Poisson process."""
        now, times = 0.0, []
        for _ in range(asks):
            now += self._random.expovariate(per_s)
            times.append(now)
        return times

    def prompts(self, count: int) -> list[list[int]]:
        """Prompts alone."""
        return [list(self._prompt()) for _ in range(count)]

    def _job(self, adapters: list[int] | list[int | None], concurrency: int) -> Job:
        return Job(self._asks(adapters), self.answer_tokens, concurrency)

    def _asks(self, adapters: list[int] | list[int | None]) -> tuple[Ask, ...]:
        return tuple(Ask(self._prompt(), adapter) for adapter in adapters)

    def _prompt(self) -> tuple[int, ...]:
        return tuple(
            self._random.randrange(100, min(40_000, self.vocabulary)) for _ in range(self.prompt_tokens)
        )
