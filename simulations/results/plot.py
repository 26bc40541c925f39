"""One figure of an experiment, over seeds: a row an arm, or lines over a swept number.

matplotlib is imported only here and in `plot_lines`, and only when a figure is drawn; it never opens a
window.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...protocol.errors import MissingDependency
from ..experiment.figures import Panel
from ..experiment.measures import Interval, interval
from ..experiment.scenario import Experiment
from .formats import ArmResult, RunResult, by_arm, write_bytes
from .plot_lines import FAINT, GRID, INK, draw_lines, dress, left_out, numeric_keys

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Arms = dict[str, list[ArmResult]]
_FAST, _SLOW, _BAR = "#0b7285", "#e8590c", "#bac8ff"


def draw(experiment: Experiment, results: Sequence[RunResult], path: Path) -> None:
    """Draw the figure into `path` (its suffix says the format); the same results give the same bytes.

    Raises MissingDependency without matplotlib.
    """
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency("plots need matplotlib: pip install 'commonlore[simulate]'") from error
    figures = experiment.kind.figures
    figure = Figure(dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    if figures.rows or not numeric_keys(experiment):
        _draw_rows(figure, experiment, results)
    else:
        draw_lines(figure, experiment, results)
    figure.suptitle(
        experiment.about or experiment.name, x=0.01, ha="left", color=INK, fontsize=13, fontweight="bold"
    )
    figure.supxlabel(_caption(experiment, results), x=0.01, ha="left", color=FAINT, fontsize=8.5)
    metadata = {".png": {"Software": None}, ".svg": {"Date": None}}.get(path.suffix)
    with mpl.rc_context({"svg.hashsalt": "commonlore"}):
        drawn = io.BytesIO()
        figure.savefig(drawn, format=path.suffix[1:], metadata=metadata)
    write_bytes(path, drawn.getvalue())


def _draw_rows(figure: Figure, experiment: Experiment, results: Sequence[RunResult]) -> None:
    arms = by_arm(experiment, results)
    panels = experiment.kind.figures.panels
    labels = [label.replace("policy=", "") for label in arms]
    width = 12 + 0.08 * max(0, max(map(len, labels)) - 24)  # the labels take no room of the panels
    figure.set_size_inches(width, 1.9 + min(0.5, 15 / len(arms)) * len(arms))
    widths = [4 if panel.log else 3 for panel in panels]
    drawn = figure.subplots(1, len(panels), sharey=True, width_ratios=widths, squeeze=False)[0]
    for axes, panel in zip(drawn, panels, strict=True):
        if panel.unit == "share":
            _draw_share(axes, arms, panel)
        else:
            _draw_times(axes, arms, panel)
    drawn[0].set_yticks(range(len(arms)), labels, color=INK)
    drawn[0].set_ylim(len(arms) - 0.4, -0.6)


def _draw_times(axes: Axes, arms: Arms, panel: Panel) -> None:
    """Each arm's metrics (a median and a tail, on a logarithmic scale), milliseconds as seconds."""
    found = [_intervals(arms, metric) for metric in panel.metrics]
    for row, values in enumerate(zip(*found, strict=True)):
        axes.plot(
            [_to_s(value.mean) for value in values], [row] * len(values), color=GRID, linewidth=6, zorder=1
        )
        for value, colour in zip(values, (_FAST, _SLOW), strict=False):
            _draw_point(axes, row, value, colour)
    _scale(axes, log=panel.log)
    for place, (name, colour) in enumerate(zip(panel.names, (_FAST, _SLOW), strict=False)):
        axes.text(
            place * (0.04 * len(panel.names[0]) + 0.12),
            1.02,
            f"● {name}",
            color=colour,
            transform=axes.transAxes,
            fontsize=8.5,
            va="bottom",
        )
    dress(axes, panel.title, "x")


def _scale(axes: Axes, *, log: bool) -> None:
    """Seconds along x: few ticks, none of which touch."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    if log:
        axes.set_xscale("log")
    else:
        axes.set_xlim(0, 1.06 * axes.get_xlim()[1])
    low_s, high_s = axes.get_xlim()
    few = MaxNLocator(3, steps=[1, 2, 5, 10])
    axes.xaxis.set_major_formatter(_seconds)
    wide = LogLocator(subs=(1, 2, 5) if high_s < 60 * low_s else (1, 3) if high_s < 300 * low_s else (1,))
    axes.xaxis.set_major_locator(wide if log and high_s > 5 * low_s else few)
    axes.xaxis.set_minor_locator(NullLocator())


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


def _draw_share(axes: Axes, arms: Arms, panel: Panel) -> None:
    """A share of each arm as a bar from 0 to 1."""
    for row, value in enumerate(_intervals(arms, panel.metrics[0])):
        axes.barh(row, value.mean, height=0.5, color=_BAR, zorder=2)
        axes.plot([max(0.0, value.low), min(1.0, value.high)], [row, row], color=INK, linewidth=1.6, zorder=3)
        axes.text(1.49, row, f"{value.mean:.1%}", va="center", ha="right", color=INK, fontsize=8.5, zorder=4)
    axes.set_xlim(0, 1.5)
    axes.set_xticks([0, 0.5, 1])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    dress(axes, panel.title, "x")


def _intervals(arms: Arms, name: str) -> list[Interval]:
    """A summary's column for each arm, over seeds."""
    return [interval([each.figure(name) for each in seeds]) for seeds in arms.values()]


def _seconds(value: float, _: object) -> str:
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:g} s"


def _caption(experiment: Experiment, results: Sequence[RunResult]) -> str:
    arms = [arm for result in results for arm in result.arms]
    money = [arm.figure("conserved") for arm in arms if "conserved" in arm.outcome.summary]
    kept = "" if not money else "every unit accounted for; " if all(money) else "MONEY NOT CONSERVED; "
    seeds = (
        f"{len(results)} seeds, thin lines and bands are 95 % intervals"
        if len(results) > 1
        else f"seed {results[0].seed}"
    )
    count = len(experiment.arms)
    lines = "" if experiment.kind.figures.rows else left_out(experiment, results)
    return f"{experiment.name}: {count} arm{'s' * (count > 1)}; {kept}{seeds}{lines}"
