"""What this peer has learnt about answers of one base: how long they are, and when first tokens come."""

from __future__ import annotations

from enum import Enum

_INERTIA = 16
_SCALE = 1_024
_GUESSED_TOKENS = 128
_GUESSED_ANSWER_MS = 3_000
_GUESSED_HELD_MS = 500
_GUESSED_FETCH_MS = 1_000
_GUESSED_RELOAD_MS = 50
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
    """Moving averages over whole answers. Experience replaces the first guesses.

    `tokens` are the output tokens of an answer, at least 1; `answer_ms` is how long a worker has an ask;
    `held_ms` the time to the first token where nothing is in its way, `fetch_ms` how much later it comes where
    an adapter has to be fetched, `reload_ms` where it was held before; `slow_ms` a time that one first token in `SLOW_SHARE` takes
    longer than: a quantile by stochastic approximation (Robbins and Monro 1951).
    """

    __slots__ = (
        "_answer",
        "_fetch",
        "_held","_miss","miss_ms",
        "_reload",
        "_slow",
        "_tokens",
        "answer_ms",
        "fetch_ms",
        "held_ms",
        "reload_ms",
        "slow_ms",
        "tokens",
    )

    def __init__(self) -> None:
        self._tokens = _GUESSED_TOKENS * _SCALE
        self._answer = _GUESSED_ANSWER_MS * _SCALE
        self._held = _GUESSED_HELD_MS * _SCALE
        self._fetch = _GUESSED_FETCH_MS * _SCALE
        self._miss = _GUESSED_FETCH_MS * _SCALE
        self.miss_ms = _GUESSED_FETCH_MS
        self._reload = _GUESSED_RELOAD_MS * _SCALE
        self._slow = 4 * _GUESSED_HELD_MS * _SCALE
        self.tokens = _GUESSED_TOKENS
        self.answer_ms = _GUESSED_ANSWER_MS
        self.held_ms = _GUESSED_HELD_MS
        self.fetch_ms = _GUESSED_FETCH_MS
        self.reload_ms = _GUESSED_RELOAD_MS
        self.slow_ms = 4 * _GUESSED_HELD_MS

    def learn(self, tokens: int, ttft_ms: int, total_ms: int, way: Way, wait_ms: int) -> None:
        """A whole answer: its output tokens, its times, what its worker had to do for the adapters, and the
        wait that was expected beside that."""
        ttft, late = ttft_ms * _SCALE, (ttft_ms - wait_ms) * _SCALE - self._held
        self._tokens += (tokens * _SCALE - self._tokens) // _INERTIA
        self._answer += (total_ms * _SCALE - self._answer) // _INERTIA
        if way is Way.HELD:
            if not wait_ms:
                self._held += (ttft - self._held) // _INERTIA
                self.held_ms = self._held // _SCALE
        elif way is Way.FETCH:
            self._miss += (ttft - self._held - self._miss) // _INERTIA
            self.miss_ms = max(_LEAST_LOAD_MS, self._miss // _SCALE)
            self._fetch += (late - self._fetch) // _INERTIA
            self.fetch_ms = max(_LEAST_LOAD_MS, self._fetch // _SCALE)
        else:
            self._reload += (late - self._reload) // _INERTIA
            self.reload_ms = max(_LEAST_LOAD_MS, self._reload // _SCALE)
        step = (self._slow >> _SLOW_SHIFT) + 1
        self._slow += step * (SLOW_SHARE - 1) if ttft > self._slow else -step
        self.tokens = self._tokens // _SCALE or 1
        self.answer_ms = self._answer // _SCALE
        self.slow_ms = self._slow // _SCALE
