"""A picture of an explanation: who is paid, by which channel, and which rows stand out.

matplotlib is imported only when a figure is drawn; it never opens a window. Names and rows are strangers'
texts: they are drawn as they are, never read as formulas.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...protocol.errors import ConfigError, MissingDependency
from ...protocol.ids import checksummed
from .explaining import ContributorPart, Explanation, RowPart

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, FAINT, GRID, ROW_COLOUR = "#212529", "#868e96", "#dee2e6", "#74c0fc"
CHANNELS = {"adapter": "#0b7285", "row": "#e8590c", "template": "#9c36b5", "tool": "#868e96"}
LABELS = {
    "adapter": "rows that its adapter learnt",
    "row": "rows in the prompt",
    "template": "prompt template",
    "tool": "tools",
}
SHOWN = 12
_LONGEST = 52


def draw(found: Explanation, receipt: str, path: Path) -> None:
    """Draw the figure into `path`; the same explanation gives the same bytes.

    Raises MissingDependency without matplotlib, ConfigError for a file that is neither .png nor .svg.
    """
    if path.suffix not in (".png", ".svg"):
        raise ConfigError(f"{path} is neither a .png nor a .svg; choose one of them")
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency("plots need matplotlib: pip install 'commonlore[simulate]'") from error
    accounts = _by_account(found.contributors)[:SHOWN]
    rows = found.rows[:SHOWN]
    figure = Figure(
        figsize=(12, 1.9 + 0.36 * max(len(accounts), len(rows), 3)), dpi=130, layout="constrained"
    )
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    _draw_accounts(left, accounts)
    _draw_rows(right, rows)
    figure.suptitle(f"Why receipt {receipt[:14]}… pays whom", x=0.01, ha="left", color=INK, fontweight="bold")
    told = _plain(f"{found.method}: {found.confidence}")
    figure.supxlabel(told, x=0.01, ha="left", color=FAINT, fontsize=8.5)
    metadata = {".png": {"Software": None}, ".svg": {"Date": None}}[path.suffix]
    with mpl.rc_context({"svg.hashsalt": "commonlore"}):
        figure.savefig(path, metadata=metadata)


def _by_account(parts: Sequence[ContributorPart]) -> list[list[ContributorPart]]:
    """The parts of each account, whoever has most first."""
    found: dict[bytes, list[ContributorPart]] = {}
    for part in parts:
        found.setdefault(part.payee, []).append(part)
    return sorted(found.values(), key=lambda each: -sum(part.ppm for part in each))


def _draw_accounts(axes: Axes, accounts: Sequence[Sequence[ContributorPart]]) -> None:
    named: set[str] = set()
    for place, parts in enumerate(accounts):
        reached = 0.0
        for part in parts:
            label = None if part.channel in named else LABELS.get(part.channel, part.channel)
            named.add(part.channel)
            colour = CHANNELS.get(part.channel, INK)
            axes.barh(place, part.ppm / 10_000, left=reached, color=colour, height=0.62, label=label)
            reached += part.ppm / 10_000
        axes.text(reached + 0.8, place, f"{reached:.1f} %", va="center", color=INK, fontsize=8.5)
    names = [parts[0].name or checksummed(parts[0].payee)[:12] for parts in accounts]
    _dress(axes, "part of the contributors' amount", names)
    axes.set_xlim(0, 112)
    axes.set_xticks(range(0, 101, 25), [f"{percent} %" for percent in range(0, 101, 25)])
    if named:
        axes.legend(loc="lower right", frameon=False, fontsize=8.5)


def _draw_rows(axes: Axes, rows: Sequence[RowPart]) -> None:
    axes.barh(range(len(rows)), [row.sigma for row in rows], color=ROW_COLOUR, height=0.62)
    texts = [_label(row) for row in rows]
    _dress(axes, "rows, in standard deviations above the mean row", texts)
    if not rows:
        axes.text(
            0.5, 0.5, "no indexed rows are known here", transform=axes.transAxes, ha="center", color=FAINT
        )


def _dress(axes: Axes, title: str, labels: Sequence[str]) -> None:
    axes.set_title(title, loc="left", fontsize=9.5, color=INK)
    axes.set_yticks(range(len(labels)), [_plain(label) for label in labels], color=INK, fontsize=8.5)
    axes.set_ylim(max(len(labels), 3) - 0.4, -0.6)
    axes.tick_params(axis="x", length=0, colors=FAINT, labelsize=8.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _label(row: RowPart) -> str:
    """Whose it is and how its question ends: rows of one template begin alike, and often answer alike."""
    asked = " ".join(row.question.split())
    room = max(12, _LONGEST - len(row.name) - 2)
    ending = asked if len(asked) <= room else f"…{_from_a_word(asked[1 - room :])}"
    return _shorten(f"{row.name}: {ending}" if asked else row.row.hex())


def _from_a_word(text: str) -> str:
    """Without the piece of a word that it begins with, if more than that is left."""
    _, space, rest = text.partition(" ")
    return f" {rest}" if space and len(rest) > len(text) // 2 else text


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _plain(text: str) -> str:
    """As matplotlib draws it literally, in what its font has."""
    drawn = (c if c == "…" or (c.isprintable() and ord(c) < 0x250) else "?" for c in text)
    return "".join(drawn).replace("$", r"\$")
