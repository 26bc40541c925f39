"""One figure of an experiment: a row an arm; first token, whole answer, adapter hits and goodput, over seeds.

matplotlib is imported only here and only when a figure is drawn; it never opens a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..protocol.errors import MissingDependency
from .measures import Interval, interval
from .results import RunResult
from .scenario import Experiment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _FAINT, _GRID = "#1f2933", "#7b8794", "#e4e7eb"
_FAST, _SLOW, _BAR = "#0b7285", "#e8590c", "#bac8ff"


def draw(experiment: Experiment, results: Sequence[RunResult], path: Path) -> None:
    """Draw the figure into `path` (its suffix says the format).

    Raises MissingDependency without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency("plots need matplotlib: pip install 'commonlore[simulate]'") from error
    labels = [arm.label for arm in experiment.arms]
    figure = Figure(figsize=(12, 1.9 + 0.5 * len(labels)), dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 4, sharey=True, width_ratios=(4, 4, 3, 3))
    _draw_times(axes[0], results, "time to first token", "ttft_p50_ms", "ttft_p99_ms")
    _draw_times(axes[1], results, "time to whole answer", "total_p50_ms", "total_p99_ms")
    _draw_share(axes[2], results, "adapter already loaded", "hit_rate")
    _draw_share(axes[3], results, "answered within targets", "goodput")
    axes[0].set_yticks(range(len(labels)), [label.removeprefix("policy=") for label in labels], color=_INK)
    axes[0].set_ylim(len(labels) - 0.4, -0.6)
    figure.suptitle(experiment.about, x=0.01, ha="left", color=_INK, fontsize=13, fontweight="bold")
    figure.supxlabel(_caption(experiment, results), x=0.01, ha="left", color=_FAINT, fontsize=8.5)
    figure.savefig(path, metadata={"Software": None} if path.suffix == ".png" else None)


def _draw_times(axes: Axes, results: Sequence[RunResult], title: str, median: str, tail: str) -> None:
    """Median and 99th percentile of each arm on a logarithmic scale, in seconds."""
    from matplotlib.ticker import LogLocator, NullLocator

    medians, tails = _intervals(results, median), _intervals(results, tail)
    for row, (low, high) in enumerate(zip(medians, tails, strict=True)):
        axes.plot([_to_s(low.mean), _to_s(high.mean)], [row, row], color=_GRID, linewidth=6, zorder=1)
        _draw_point(axes, row, low, _FAST)
        _draw_point(axes, row, high, _SLOW)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(_seconds)
    low_s, high_s = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high_s < 60 * low_s else (1, 3)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.text(0, 1.02, "● p50", color=_FAST, transform=axes.transAxes, fontsize=8.5, va="bottom")
    axes.text(0.2, 1.02, "● p99", color=_SLOW, transform=axes.transAxes, fontsize=8.5, va="bottom")
    _dress(axes, title)


def _draw_point(axes: Axes, row: int, value: Interval, colour: str) -> None:
    axes.plot(
        [_to_s(max(value.low, value.mean / 10)), _to_s(value.high)],
        [row, row],
        color=colour,
        linewidth=1.6,
        solid_capstyle="butt",
        zorder=2,
    )
    axes.plot(_to_s(value.mean), row, "o", color=colour, markersize=7, zorder=3)


def _to_s(milliseconds: float) -> float:
    """Seconds, at least one millisecond: a logarithmic scale has no zero."""
    return max(1.0, milliseconds) / 1e3


def _draw_share(axes: Axes, results: Sequence[RunResult], title: str, name: str) -> None:
    """A share of each arm as a bar from 0 to 1."""
    for row, value in enumerate(_intervals(results, name)):
        axes.barh(row, value.mean, height=0.5, color=_BAR, zorder=2)
        axes.plot(
            [max(0.0, value.low), min(1.0, value.high)], [row, row], color=_INK, linewidth=1.6, zorder=3
        )
        axes.text(0.03, row, f"{value.mean:.1%}", va="center", color=_INK, fontsize=8.5, zorder=4)
    axes.set_xlim(0, 1.02)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    _dress(axes, title)


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", color=_INK, fontsize=10, pad=18)
    axes.grid(axis="x", color=_GRID, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_FAINT, labelsize=8.5, length=0)
    axes.tick_params(axis="y", labelsize=9.5, labelcolor=_INK)
    for side in axes.spines.values():
        side.set_visible(False)


def _intervals(results: Sequence[RunResult], name: str) -> list[Interval]:
    """A summary's column for each arm, over seeds."""
    arms = zip(*(result.arms for result in results), strict=True)
    return [interval([float(getattr(each.summary, name)) for each in seeds]) for seeds in arms]


def _seconds(value: float, _: object) -> str:
    return f"{value * 1e3:.0f} ms" if value < 1 else f"{value:g} s"


def _caption(experiment: Experiment, results: Sequence[RunResult]) -> str:
    summaries = [arm.summary for result in results for arm in result.arms]
    scenario = experiment.arms[0].scenario
    money = "every unit accounted for" if all(each.conserved for each in summaries) else "MONEY NOT CONSERVED"
    seeds = (
        f"{len(results)} seeds, thin lines are 95 % intervals"
        if len(results) > 1
        else f"seed {results[0].seed}"
    )
    return (
        f"{experiment.name}: {scenario.workers.count} modelled workers, {scenario.work.rate_per_s:g} asks/s, "
        f"{scenario.work.adapters} adapters ({scenario.work.skew} {scenario.work.exponent:g}); "
        f"{sum(each.asks for each in summaries):,} asks; {money}; {seeds}"
    )
