"""What is to be drawn of a kind of experiment, said without drawing it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes. `metrics` are columns of the summary (two: a median and a tail, or a measured and a
    computed value); `unit` is `ms`, `share` (0 to 1), `gain` (a share of what one has anyway) or what stands
    at the axis; `names` say what the metrics are. `sparse`: series that are 0 throughout say nothing here."""

    title: str
    metrics: tuple[str, ...]
    unit: str = ""
    log: bool = False
    names: tuple[str, ...] = ("p50", "p99")
    sparse: bool = False


@dataclass(frozen=True, slots=True)
class Figures:
    """`rows` draws a row an arm; otherwise lines over the numeric swept key named in `x` (or the last one).

    `curve` names a table and its columns x and y, drawn as a curve an arm, of the first seed.
    """

    panels: tuple[Panel, ...]
    rows: bool = False
    x: str = ""
    log_x: bool = False
    curve: tuple[str, str, str] | None = None
    curve_title: str = ""
