"""What this peer has learnt about answers of one base: how long they are, and when first tokens come."""

from __future__ import annotations

from enum import Enum

_INERTIA = 16
_SCALE = 1_024
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
        "answer_ms",
        "fetch_ms",
        "held_ms",
        "miss_ms",
        "prompt_us",
        "reload_ms",
        "slow_ms",
        "tokens",
    )

    def __init__(self) -> None:
        self.tokens, self.answer_ms, self.slow_ms = 128, 3_000, 2_000
        self.held_ms, self.prompt_us = 500, 500
        self.fetch_ms, self.reload_ms, self.miss_ms = 1_000, 50, 1_000
        self._tokens, self._answer, self._slow = self.tokens * _SCALE, 3_000 * _SCALE, 2_000 * _SCALE
        self._held, self._prompt = 500 * _SCALE, 500 * _SCALE
        self._fetch, self._reload, self._miss = 1_000 * _SCALE, 50 * _SCALE, 1_000 * _SCALE

    def learn(self, tokens: int, ttft_ms: int, total_ms: int) -> None:
        """A whole answer: its output tokens, and its times."""
        self._tokens += (tokens * _SCALE - self._tokens) // _INERTIA
        self.tokens = self._tokens // _SCALE or 1
        self._answer += (total_ms * _SCALE - self._answer) // _INERTIA
        self.answer_ms = self._answer // _SCALE
        step = (self._slow >> _SLOW_SHIFT) + 1
        self._slow += step * (SLOW_SHARE - 1) if ttft_ms * _SCALE > self._slow else -step
        self.slow_ms = self._slow // _SCALE

    def learn_first(self, way: Way, ttft_ms: int, wait_ms: int, prompt_tokens: int) -> None:
        """When its first token came, what its worker had to do for the adapters, and the wait that was
        expected before that."""
        late = ttft_ms * _SCALE - self._held
        if way is Way.FETCH:
            self._miss += (late - self._miss) // _INERTIA
            self.miss_ms = max(_LEAST_LOAD_MS, self._miss // _SCALE)
            self._fetch += (late - wait_ms * _SCALE - self._fetch) // _INERTIA
            self.fetch_ms = max(_LEAST_LOAD_MS, self._fetch // _SCALE)
        elif way is Way.RELOAD:
            self._reload += (late - wait_ms * _SCALE - self._reload) // _INERTIA
            self.reload_ms = max(_LEAST_LOAD_MS, self._reload // _SCALE)
        elif not wait_ms:
            self._held += late // _INERTIA
            self.held_ms = self._held // _SCALE
            self._prompt += (ttft_ms * 1000 * _SCALE // (prompt_tokens or 1) - self._prompt) // _INERTIA
            self.prompt_us = self._prompt // _SCALE or 1
