"""What this peer has learnt about answers of one base: how long they are, and when first tokens come."""

from __future__ import annotations

_INERTIA = 16
_SCALE = 1_024
_GUESSED_TOKENS = 128
_GUESSED_ANSWER_MS = 3_000
_GUESSED_HELD_MS = 500
_GUESSED_MISSED_MS = 1_500
_LEAST_LOAD_MS = 10
_SLOW_SHIFT = 8
SLOW_SHARE = 20
"""One first token in so many is to be later than the slow mark: each that is moves it up, each other down."""


class Estimates:
    """Moving averages over whole answers. Experience replaces the first guesses.

    `tokens` are the output tokens of an answer, at least 1; `answer_ms` is how long a worker has an ask;
    `held_ms` the time to the first token where nothing has to be loaded, `load_ms` how much later it comes
    where an adapter has to be fetched and loaded; `slow_ms` a time that one first token in `SLOW_SHARE` takes
    longer than: a quantile by stochastic approximation (Robbins and Monro 1951).
    """

    __slots__ = (
        "_answer",
        "_held",
        "_missed",
        "_slow",
        "_tokens",
        "answer_ms",
        "held_ms",
        "load_ms",
        "slow_ms",
        "tokens",
    )

    def __init__(self) -> None:
        self._tokens = _GUESSED_TOKENS * _SCALE
        self._answer = _GUESSED_ANSWER_MS * _SCALE
        self._held = _GUESSED_HELD_MS * _SCALE
        self._missed = _GUESSED_MISSED_MS * _SCALE
        self._slow = 4 * _GUESSED_HELD_MS * _SCALE
        self.tokens = _GUESSED_TOKENS
        self.answer_ms = _GUESSED_ANSWER_MS
        self.held_ms = _GUESSED_HELD_MS
        self.load_ms = _GUESSED_MISSED_MS - _GUESSED_HELD_MS
        self.slow_ms = 4 * _GUESSED_HELD_MS

    def learn(self, tokens: int, ttft_ms: int, total_ms: int, *, held: bool) -> None:
        """A whole answer: its output tokens, its times, and whether its worker held the adapters."""
        ttft = ttft_ms * _SCALE
        self._tokens += (tokens * _SCALE - self._tokens) // _INERTIA
        self._answer += (total_ms * _SCALE - self._answer) // _INERTIA
        if held:
            self._held += (ttft - self._held) // _INERTIA
        else:
            self._missed += (ttft - self._missed) // _INERTIA
        step = (self._slow >> _SLOW_SHIFT) + 1
        self._slow += step * (SLOW_SHARE - 1) if ttft > self._slow else -step
        self.tokens = self._tokens // _SCALE or 1
        self.answer_ms = self._answer // _SCALE
        self.held_ms = self._held // _SCALE
        self.load_ms = max(_LEAST_LOAD_MS, (self._missed - self._held) // _SCALE)
        self.slow_ms = self._slow // _SCALE
