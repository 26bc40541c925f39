"""Engines that share a machine's processors."""

from __future__ import annotations

from typing import Protocol

PPM = 1_000_000


class Sharing(Protocol):
    """Whoever works at the machine's pace: told before the pace changes, and after."""

    def settle(self) -> None: ...
    def replan(self) -> None: ...


class Machine:
    """Its engines' times are stretched while several of them work: by `contention_ppm` millionths for each
    other one that does. 0: each has processors of its own; a million: they take turns on one.
    """

    __slots__ = ("_contention_ppm", "_sharing", "_working")

    def __init__(self, contention_ppm: int = 0) -> None:
        self._contention_ppm = contention_ppm
        self._sharing: list[Sharing] = []
        self._working = 0

    def join(self, engine: Sharing) -> None:
        """One more engine lives here."""
        self._sharing.append(engine)

    @property
    def pace_ppm(self) -> int:
        """How long what takes a million at an idle machine takes now."""
        return PPM + self._contention_ppm * max(0, self._working - 1)

    def work(self, engines: int) -> None:
        """So many engines more began to work; stopped, where negative."""
        if self._contention_ppm == 0:
            self._working += engines
            return
        for each in self._sharing:
            each.settle()
        self._working += engines
        for each in self._sharing:
            each.replan()
