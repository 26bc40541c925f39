"""Progress bars with honest labels: on a terminal a bar that moves, elsewhere a line when a stage ends.

Bars go to stderr, so that stdout stays what a program may read."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .printing import console, say

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Advance = Callable[[str, int, int], None]
"""(stage, done, total): a stage's first call begins its bar; `done` equal to `total` ends it."""


@contextmanager
def bars() -> Iterator[Advance]:
    """Bars for the stages of one job, while the block lasts."""
    if not sys.stderr.isatty():
        yield _Lines().advance
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("  {task.description}"), BarColumn(24), TaskProgressColumn())
    with Progress(*columns, TimeElapsedColumn(), Remaining(), console=console(stderr=True)) as progress:
        yield _Bars(progress).advance


class _Bars:
    """A bar a stage."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def advance(self, stage: str, done: int, total: int) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage)
        self._progress.update(self._tasks[stage], completed=done, total=max(total, 1))


class _Lines:
    """A line a stage, when it ends."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}

    def advance(self, stage: str, done: int, total: int) -> None:
        began = self._began.setdefault(stage, time.monotonic())
        if done >= total and began >= 0:
            say(f"  {stage}: done in {time.monotonic() - began:.1f} s")
            self._began[stage] = -1.0
