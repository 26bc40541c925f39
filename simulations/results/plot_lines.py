"""Lines over a swept number, one a combination of the other swept keys, with bands over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..experiment.figures import Figures, Panel
from ..experiment.measures import Interval, interval
from ..experiment.scenario import Experiment, short_names
from .formats import ArmResult, RunResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, GRID = "#1f2933", "#7b8794", "#e4e7eb"
COLOURS = ("#0b7285", "#e8590c", "#5f3dc4", "#2b8a3e", "#c2255c", "#e67700", "#1864ab", "#495057")
DASHES = ("-", "--", ":")
MOST_SERIES = len(COLOURS)
MOST_TICKS, MOST_LETTERS = 10, 22
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
    from matplotlib.lines import Line2D

    figures = experiment.kind.figures
    x = _x_of(experiment)
    groups = dict(list(_group(results, x).items())[:MOST_SERIES])
    panels = figures.panels
    figure.set_size_inches(4.2 * max(2, len(panels) + bool(figures.curve)), 4.6)
    drawn = figure.subplots(1, len(panels) + bool(figures.curve), squeeze=False)[0]
    places = sorted({place for group in groups.values() for place in group})
    for axes, panel in zip(drawn, panels, strict=False):
        _draw_panel(axes, panel, groups)
        if figures.log_x and places[0] > 0:
            axes.set_xscale("log")
        _mark(axes, x, places)
    if figures.curve:
        _draw_curve(drawn[-1], figures, results)
    if len(groups) > 1:
        lines = [Line2D([], [], color=colour, marker="o", markersize=3.5) for colour in COLOURS]
        figure.legend(
            lines[: len(groups)], list(groups), loc="outside right upper", fontsize=8, frameon=False
        )


def left_out(experiment: Experiment, results: Sequence[RunResult]) -> str:
    """Says how many series there were no colours for."""
    if not numeric_keys(experiment):
        return ""
    count = len(_group(results, _x_of(experiment)))
    return f"; the first {MOST_SERIES} of {count} series, the table has all" if count > MOST_SERIES else ""


def _x_of(experiment: Experiment) -> str:
    keys = numeric_keys(experiment)
    return experiment.kind.figures.x if experiment.kind.figures.x in keys else keys[-1]


def _group(results: Sequence[RunResult], x: str) -> Groups:
    """Arms of all seeds by series, and by x within it."""
    groups: Groups = {}
    for result in results:
        for arm in result.arms:
            choice = dict(arm.choice)
            value = float(choice.pop(x))
            names = zip(short_names(choice), choice.values(), strict=True)
            name = ", ".join(f"{key}={each}" for key, each in names)
            groups.setdefault(name, {}).setdefault(value, []).append(arm)
    return groups


def _mark(axes: Axes, key: str, places: list[float]) -> None:
    """The swept values along x, where there is room for them; times as people say them."""
    from matplotlib.ticker import NullLocator

    said = duration if key.endswith("_ms") else "{:g}".format
    axes.set_xlabel(key.removesuffix("_ms"), color=INK, fontsize=9)
    if len(places) <= MOST_TICKS:
        crowded = sum(len(said(place)) for place in places) > MOST_LETTERS
        axes.set_xticks(places, [said(place) for place in places], fontsize=6.5 if crowded else 8.5)
        axes.xaxis.set_minor_locator(NullLocator())


def duration(milliseconds: float) -> str:
    """A time in the largest unit that leaves it at least 1."""
    for name, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if milliseconds >= size:
            return f"{milliseconds / size:.3g} {name}"
    return f"{milliseconds:g} ms"


def _draw_panel(axes: Axes, panel: Panel, groups: Groups) -> None:
    lowest, seen = math.inf, set[tuple[float, ...]]()
    for number, ((_, points), colour) in enumerate(zip(groups.items(), COLOURS, strict=False)):
        places = sorted(points)
        for metric, dash in zip(panel.metrics, DASHES, strict=False):
            found = [interval([arm.figure(metric) for arm in points[place]]) for place in places]
            means = tuple(each.mean for each in found)
            if panel.sparse and not any(means):
                continue
            lowest = min(lowest, *means)
            width = 1.3 + 0.35 * (len(groups) - 1 - number)  # a line below another stays visible
            axes.plot(places, means, dash, color=colour, marker="o", markersize=2.2 + width, linewidth=width)
            if means not in seen:
                lows, highs = zip(*(_band(each, panel) for each in found), strict=True)
                axes.fill_between(places, lows, highs, color=colour, alpha=0.15, linewidth=0)
            seen.add(means)
    _name_metrics(axes, panel)
    _dress_panel(axes, panel, lowest)


def _band(value: Interval, panel: Panel) -> tuple[float, float]:
    """An interval, within what the axes can show."""
    if panel.unit == "share":
        return max(0.0, value.low), min(1.0, value.high)
    if panel.log and value.mean > 0:
        return max(value.low, value.mean / 10), value.high
    return value.low, value.high


def _name_metrics(axes: Axes, panel: Panel) -> None:
    if len(panel.metrics) > 1:
        key = "     ".join(f"{dash} {name}" for dash, name in zip(("──", "╌╌"), panel.names, strict=False))
        axes.text(0, 1.02, key, color=FAINT, transform=axes.transAxes, fontsize=8.5, va="bottom")


def _dress_panel(axes: Axes, panel: Panel, lowest: float) -> None:
    if panel.log:
        axes.set_yscale("log" if lowest > 0 else "symlog")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.15g}")
    if panel.unit == "share":
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    if panel.unit == "gain":
        axes.axhline(0, color=FAINT, linewidth=0.8)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:+.0%}" if value else "0%")
    unit = f" ({panel.unit})" if panel.unit not in ("", "share", "gain") else ""
    dress(axes, panel.title + unit, "both")


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
    axes.set_ylabel(y.replace("_", " "), color=INK, fontsize=9)
    axes.legend(fontsize=7, frameon=False)
    dress(axes, figures.curve_title, "both")


def dress(axes: Axes, title: str, grid: Any) -> None:
    """The house's look."""
    axes.set_title(title, loc="left", color=INK, fontsize=10, pad=22)
    axes.grid(axis=grid, color=GRID, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=FAINT, labelsize=8.5, length=0)
    axes.tick_params(axis="y", labelsize=9.5, labelcolor=INK)
    for side in axes.spines.values():
        side.set_visible(False)
