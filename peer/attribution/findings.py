"""What a check of one level found, gathered sentence by sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...protocol.errors import AttributionFailed, InvalidAdapter, InvalidShard, ProtocolError

REFUSED = (ProtocolError, InvalidAdapter, InvalidShard, AttributionFailed)
"""How evidence fails by itself: it breaks a rule, or nothing can be computed from it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one level found. `showed` and `not_shown` are sentences for people."""

    level: int
    passed: bool
    showed: tuple[str, ...]
    not_shown: tuple[str, ...]


class Checks:
    """Collects what holds; the first thing that does not ends a level."""

    def __init__(self, level: int, not_shown: tuple[str, ...]) -> None:
        self._level, self._not_shown = level, not_shown
        self._showed: list[str] = []
        self._passed = True

    def shows(self, sentence: str) -> None:
        """Something holds, or was found."""
        self._showed.append(sentence)

    def fails(self, sentence: str) -> None:
        """Something does not."""
        self._showed.append(f"WRONG: {sentence}")
        self._passed = False

    def run(self, check: Callable[[], None]) -> Finding:
        """Carry out a level's checks; evidence that is refused is a finding."""
        try:
            check()
        except REFUSED as wrong:
            self.fails(str(wrong))
        return Finding(self._level, self._passed, tuple(self._showed), self._not_shown)
