"""The same work for both arms: questions, how long the answers are, how many at once; and what came of it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field

from commonlore.protocol.requests.records import Sampling

from ..child import Message

PLACES = ("a lighthouse", "a railway station", "an orchard", "a harbour", "an observatory", "a mill")


@dataclass(frozen=True, slots=True)
class Load:
    """Questions `first` … `first + count - 1`, `concurrency` of them at a time, `max_tokens` each."""

    first: int
    count: int
    concurrency: int
    max_tokens: int

    @property
    def prompts(self) -> list[str]:
        """About 30 tokens each, different from their first word on, so that no cache answers them."""
        return [_prompt(number) for number in range(self.first, self.first + self.count)]

    @property
    def sampling(self) -> Sampling:
        """Greedy, so that both arms compute the same."""
        return Sampling(seed=0, max_tokens=self.max_tokens)

    def order(self) -> Message:
        """As it travels to a child."""
        return asdict(self)


def _prompt(number: int) -> str:
    place = PLACES[number % len(PLACES)]
    return (
        f"{number} is the number of {place}. Write a long, detailed story about the people who worked there."
    )


@dataclass(slots=True)
class Timing:
    """One request, by this process's monotonic clock."""

    started: float = field(default_factory=time.monotonic)
    first: float = 0.0
    ended: float = 0.0
    tokens: int = 0

    def took(self, tokens: int) -> None:
        """Tokens came."""
        if tokens and not self.first:
            self.first = time.monotonic()
        self.tokens += tokens

    def end(self) -> None:
        """The answer is whole."""
        self.ended = time.monotonic()


def report(timings: list[Timing]) -> Message:
    """What a child answers: seconds from first start to last end, milliseconds to each first token."""
    return {
        "seconds": max(t.ended for t in timings) - min(t.started for t in timings),
        "tokens": sum(t.tokens for t in timings),
        "ttft_ms": [(t.first - t.started) * 1000 for t in timings],
    }
