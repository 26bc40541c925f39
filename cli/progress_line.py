"""A stage as one line of a terminal, whatever its width: what does not fit is left out, no figure is cut.

rich cuts every column a little where a line is too long, and then nothing can be read; here the bar gives way
first, then the newest figure and the time that has passed, and at last the words of the stage are shortened.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task
from rich.table import Column
from rich.text import Text

WIDEST_BAR, NARROWEST_BAR = 24, 8
MEGABYTE = 1_000_000
BYTES_FROM = 10 * MEGABYTE
"""Totals from here on are bytes, and shown in megabytes."""
_GAP, _INDENT = " ", "   "


def lines_of(console: Console) -> Progress:
    """A rich progress whose every task is such a line."""
    line = _Line(Column(no_wrap=True))
    progress = Progress(line, console=console)
    line.progress = progress
    return progress


@dataclass(frozen=True, slots=True)
class Parts:
    """What a line tells; what is empty is not told."""

    stage: str
    bar: int
    figures: str
    passed: str
    left: str
    detail: str

    @property
    def width(self) -> int:
        """Characters of the line."""
        shown = [self.figures, self.passed, self.left, self.detail]
        bar = [" " * self.bar] if self.bar else []
        return len(_INDENT) + len(_GAP.join([self.stage, *bar, *(part for part in shown if part)]))


def fitting(parts: Parts, width: int) -> Parts:
    """The fullest form of a line that fits."""
    for form in _forms(parts):
        if form.width <= width:
            return form
    bare = replace(parts, bar=0, passed="", left="", detail="")
    room = max(1, len(bare.stage) - (bare.width - width) - 1)
    return replace(bare, stage=bare.stage.rstrip()[:room] + "…")


def _forms(parts: Parts) -> Iterator[Parts]:
    """From the fullest on."""
    for bar in range(parts.bar, NARROWEST_BAR - 1, -1):
        yield replace(parts, bar=bar)
    yield (parts := replace(parts, bar=0))
    yield (parts := replace(parts, passed=""))
    yield (parts := replace(parts, stage=parts.stage.rstrip()))
    yield (parts := replace(parts, detail=""))
    yield replace(parts, left="")


class _Line(ProgressColumn):
    """The only column."""

    progress: Progress

    def render(self, task: Task) -> Text:
        widest = max(len(each.description) for each in self.progress.tasks)
        parts = Parts(
            stage=task.description.ljust(widest),
            bar=WIDEST_BAR,
            figures=figures_of(task.completed, task.total),
            passed=_clock(task.finished_time if task.finished else task.elapsed),
            left=f"left {_clock(task.time_remaining)}" if _is_counted(task) and not task.finished else "",
            detail=str(task.fields["detail"]),
        )
        return _drawn(fitting(parts, self.progress.console.width), task.percentage / 100)


def figures_of(done: float, total: float | None) -> str:
    """How many of how many; nothing while that is not known, or where a stage only begins and ends."""
    if total is None or total <= 1:
        return ""
    if total >= BYTES_FROM:
        return f"{done / MEGABYTE:>{len(f'{total / MEGABYTE:.0f}')}.0f}/{total / MEGABYTE:.0f} MB"
    return f"{done:>{len(f'{total:.0f}')}.0f}/{total:.0f}"


def _is_counted(task: Task) -> bool:
    return bool(figures_of(task.completed, task.total))


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _drawn(parts: Parts, share: float) -> Text:
    line = Text(_INDENT + parts.stage)
    if parts.bar:
        filled = round(share * parts.bar)
        line.append(_GAP)
        line.append("━" * filled, "bar.complete")
        line.append("━" * (parts.bar - filled), "bar.back")
    styles = ((parts.figures, "progress.download"), (parts.passed, "progress.elapsed"))
    for text, style in (*styles, (parts.left, "progress.remaining"), (parts.detail, "")):
        if text:
            line.append(_GAP + text, style)
    return line
