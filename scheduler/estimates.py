"""What this peer has learnt about asks in general: how long answers are, and what a missing adapter costs."""

from __future__ import annotations

_INERTIA = 16
_SCALE = 1_024
_GUESSED_TOKENS = 128
_GUESSED_HELD_MS = 500
_GUESSED_MISSED_MS = 1_500
_LEAST_LOAD_MS = 10


class Estimates:
    """Moving averages over whole answers, kept in 1024ths. Experience replaces the first guesses."""

    __slots__ = ("_held", "_missed", "_tokens")

    def __init__(self) -> None:
        self._tokens = _GUESSED_TOKENS * _SCALE
        self._held = _GUESSED_HELD_MS * _SCALE
        self._missed = _GUESSED_MISSED_MS * _SCALE

    @property
    def tokens(self) -> int:
        """Output tokens of an answer, at least 1."""
        return max(1, self._tokens // _SCALE)

    @property
    def load_ms(self) -> int:
        """How much later the first token comes where an adapter has to be fetched and loaded."""
        return max(_LEAST_LOAD_MS, (self._missed - self._held) // _SCALE)

    def learn(self, tokens: int, ttft_ms: int, *, held: bool) -> None:
        """A whole answer: its output tokens, its time to first token, and whether its worker held the
        adapters.
        """
        self._tokens += (tokens * _SCALE - self._tokens) // _INERTIA
        if held:
            self._held += (ttft_ms * _SCALE - self._held) // _INERTIA
        else:
            self._missed += (ttft_ms * _SCALE - self._missed) // _INERTIA
