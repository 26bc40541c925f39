"""What this peer has learnt about answers of one base: how long they are, and when first tokens come."""

from __future__ import annotations

from enum import Enum

_INERTIA_SHIFT = 4
_SHIFT = 10
_SCALE = 1 << _SHIFT
_LEAST_LOAD_MS = 10
_SLOW_SHIFT = 8
SLOW_SHARE = 20
"""One first token in so many is to be later than the slow mark: each that is moves it up, each other down."""


class Way(Enum):
    """What a worker has to do for an ask's adapters."""

    HELD = "nothing"
    RELOAD = "load what it once held"
    FETCH = "fetch from the network"


class Estimates:
    """Moving averages over whole answers, in whole tokens, milliseconds and microseconds; experience replaces
    the first guesses.

    `tokens` are the output tokens of an answer, at least 1; `answer_ms` is how long a worker has an ask;
    `held_ms` the time to the first token where nothing is in its way, `prompt_us` at most what a prompt's
    token adds to it; `fetch_ms` is how much later it comes where an adapter has to be fetched, `reload_ms`
    where it was held before, `miss_ms` by how much a fetch delayed it of late, with all that it waited for;
    `slow_ms` is a time that one first token in `SLOW_SHARE` takes longer than: a quantile by stochastic
    approximation (Robbins and Monro 1951).
    """

    __slots__ = (
        "_answer",
        "_fetch",
        "_held",
        "_miss",
        "_prompt",
        "_reload",
        "_slow",
        "_tokens",
        "fetch_ms",
        "held_ms",
        "miss_ms",
        "reload_ms",
        "tokens",
    )

    def __init__(self) -> None:
        self.tokens, self.held_ms = 128, 500
        self.fetch_ms, self.reload_ms, self.miss_ms = 1_000, 50, 1_000
        self._tokens, self._answer, self._slow = self.tokens * _SCALE, 3_000 * _SCALE, 2_000 * _SCALE
        self._held, self._prompt = 500 * _SCALE, 500 * _SCALE
        self._fetch, self._reload, self._miss = 1_000 * _SCALE, 50 * _SCALE, 1_000 * _SCALE

    @property
    def answer_ms(self) -> int:
        return self._answer >> _SHIFT

    @property
    def prompt_us(self) -> int:
        return self._prompt >> _SHIFT or 1

    @property
    def slow_ms(self) -> int:
        return self._slow >> _SHIFT

    def learn(self, tokens: int, ttft_ms: int, total_ms: int) -> None:
        """A whole answer: its output tokens, and its times."""
        mean, answer, slow = self._tokens, self._answer, self._slow
        self._tokens = mean = mean + ((tokens << _SHIFT) - mean >> _INERTIA_SHIFT)
        self.tokens = mean >> _SHIFT or 1
        self._answer = answer + ((total_ms << _SHIFT) - answer >> _INERTIA_SHIFT)
        step = (slow >> _SLOW_SHIFT) + 1
        self._slow = slow + step * (SLOW_SHARE - 1) if ttft_ms << _SHIFT > slow else slow - step

    def learn_first(self, way: Way, ttft_ms: int, wait_ms: int, prompt_tokens: int) -> None:
        """When its first token came, what its worker had to do for the adapters, and the wait that was
        expected before that."""
        late = (ttft_ms << _SHIFT) - self._held
        if way is Way.HELD:
            if not wait_ms:
                self._held += late >> _INERTIA_SHIFT
                self.held_ms = self._held >> _SHIFT
                prompt = (ttft_ms * 1000 << _SHIFT) // (prompt_tokens or 1)
                self._prompt += prompt - self._prompt >> _INERTIA_SHIFT
        elif way is Way.FETCH:
            self._miss += late - self._miss >> _INERTIA_SHIFT
            self.miss_ms = max(_LEAST_LOAD_MS, self._miss >> _SHIFT)
            self._fetch += late - (wait_ms << _SHIFT) - self._fetch >> _INERTIA_SHIFT
            self.fetch_ms = max(_LEAST_LOAD_MS, self._fetch >> _SHIFT)
        else:
            self._reload += late - (wait_ms << _SHIFT) - self._reload >> _INERTIA_SHIFT
            self.reload_ms = max(_LEAST_LOAD_MS, self._reload >> _SHIFT)
