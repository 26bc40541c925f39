"""Progress bars with honest labels: on a terminal a bar that moves, elsewhere a line when a stage ends.

Bars go to stderr, so that stdout stays what a program may read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from .printing import console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


class Advance(Protocol):
    """Tells of a stage; its first call begins its bar, `done` equal to `total` ends it.

    `detail` is the newest figure.
    """

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None: ...


@contextmanager
def bars(on: Console | None = None) -> Iterator[Advance]:
    """Bars for the stages of one job, while the block lasts; on stderr unless a console is given."""
    screen = on or console(stderr=True)
    if not screen.is_terminal:
        yield _Lines(screen)
        return
    from .progress_line import lines_of

    with lines_of(screen) as progress:
        yield _Bars(progress)


class _Bars:
    """A bar a stage."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=None, detail="")
        self._progress.update(self._tasks[stage], completed=done, total=max(total, 1), detail=detail)


class _Lines:
    """A line a stage, when it ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None:
        began = self._began.setdefault(stage, time.monotonic())
        if done >= total and began >= 0:
            took = f"{time.monotonic() - began:.1f} s"
            self._console.print(f"   {stage}: {took}{', ' + detail if detail else ''}")
            self._began[stage] = -1.0
