"""Lines over a swept number, one a combination of the other swept keys, with bands over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .figures import Figures, Panel
from .measures import interval
from .results import ArmResult, RunResult
from .scenario import Experiment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, GRID = "#1f2933", "#7b8794", "#e4e7eb"
COLOURS = ("#0b7285", "#e8590c", "#5f3dc4", "#2b8a3e", "#c2255c", "#e67700", "#1864ab", "#495057")
DASHES = ("-", "--", ":")
MOST_SERIES = len(COLOURS)
Groups = dict[str, dict[float, list[ArmResult]]]


def numeric_keys(experiment: Experiment) -> list[str]:
    """The swept keys whose values are all numbers, and more than one."""
    values: dict[str, set[Any]] = {}
    for arm in experiment.arms:
        for key, value in arm.choice:
            values.setdefault(key, set()).add(value)
    return [
        key
        for key, found in values.items()
        if len(found) > 1
        and all(isinstance(each, int | float) and not isinstance(each, bool) for each in found)
    ]


def draw_lines(figure: Figure, experiment: Experiment, results: Sequence[RunResult]) -> None:
    """Every panel of the experiment's kind, side by side."""
    figures = experiment.kind.figures
    keys = numeric_keys(experiment)
    x = figures.x if figures.x in keys else keys[-1]
    groups = _group(results, x)
    panels = figures.panels
    figure.set_size_inches(4.2 * max(2, len(panels) + bool(figures.curve)), 4.6)
    drawn = figure.subplots(1, len(panels) + bool(figures.curve), squeeze=False)[0]
    for axes, panel in zip(drawn, panels, strict=False):
        _draw_panel(axes, panel, groups)
        axes.set_xlabel(x, color=INK, fontsize=9)
        if figures.log_x and min(value for group in groups.values() for value in group) > 0:
            axes.set_xscale("log")
    if figures.curve:
        _draw_curve(drawn[-1], figures, results)
    if len(groups) > 1:
        figure.legend(
            *drawn[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False
        )


def _group(results: Sequence[RunResult], x: str) -> Groups:
    """Arms of all seeds by series, and by x within it; at most so many series as there are colours."""
    groups: Groups = {}
    for result in results:
        for arm in result.arms:
            choice = dict(arm.choice)
            value = float(choice.pop(x))
            name = ", ".join(f"{key.rpartition('.')[2]}={each}" for key, each in choice.items())
            groups.setdefault(name, {}).setdefault(value, []).append(arm)
    return dict(list(groups.items())[:MOST_SERIES])


def _draw_panel(axes: Axes, panel: Panel, groups: Groups) -> None:
    lowest = math.inf
    for (name, points), colour in zip(groups.items(), COLOURS, strict=False):
        places = sorted(points)
        for metric, dash in zip(panel.metrics, DASHES, strict=False):
            found = [interval([arm.figure(metric) for arm in points[place]]) for place in places]
            means = [each.mean for each in found]
            lowest = min(lowest, *means)
            text = name if metric == panel.metrics[0] else None
            axes.plot(
                places, means, dash, color=colour, marker="o", markersize=3.5, linewidth=1.5, label=text
            )
            axes.fill_between(
                places,
                [each.low for each in found],
                [each.high for each in found],
                color=colour,
                alpha=0.15,
                linewidth=0,
            )
    if len(panel.metrics) > 1:
        key = "     ".join(f"{dash} {name}" for dash, name in zip(("──", "╌╌"), panel.names, strict=False))
        axes.text(0, 1.02, key, color=FAINT, transform=axes.transAxes, fontsize=8.5, va="bottom")
    if panel.log:
        axes.set_yscale("log" if lowest > 0 else "symlog")
    if panel.unit == "share":
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    dress(axes, panel.title + (f" ({panel.unit})" if panel.unit not in ("", "share") else ""), "both")


def _draw_curve(axes: Axes, figures: Figures, results: Sequence[RunResult]) -> None:
    """A curve an arm, of the first seed; those that are alike once."""
    assert figures.curve is not None
    table, x, y = figures.curve
    curves: dict[tuple[float, ...], tuple[str, list[float]]] = {}
    for arm in results[0].arms:
        columns = arm.outcome.tables[table]
        curves.setdefault(tuple(columns[y]), (arm.arm, columns[x]))
    for (heights, (name, places)), colour in zip(curves.items(), COLOURS, strict=False):
        axes.plot(places, heights, color=colour, linewidth=1.3, label=name)
    axes.set_xlabel(x.replace("_", " "), color=INK, fontsize=9)
    axes.legend(fontsize=7, frameon=False)
    dress(axes, y.replace("_", " "), "both")


def dress(axes: Axes, title: str, grid: Any) -> None:
    """The house's look."""
    axes.set_title(title, loc="left", color=INK, fontsize=10, pad=22)
    axes.grid(axis=grid, color=GRID, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(colors=FAINT, labelsize=8.5, length=0)
    axes.tick_params(axis="y", labelsize=9.5, labelcolor=INK)
    for side in axes.spines.values():
        side.set_visible(False)
