"""Progress on terminals of every width: whole figures, and nothing that is not known yet."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from commonlore.cli.progress import bars
from commonlore.cli.progress_line import Parts, figures_of, fitting

LONG = "pulling the rows, every signature checked"
PARTS = Parts("training alice/three", 24, "20/40", "1:02", "left 1:03", "loss 0.52")


def drawn(width: int, *updates: tuple[str, int, int, str]) -> list[str]:
    """The last picture of a terminal of this width, as lines without colours."""
    screen = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, height=30)
    with bars(screen) as advance:
        for update in updates:
            advance(*update)
    pictures = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\x00", screen.file.getvalue()).split("\x00")
    lines = [line.rstrip() for text in pictures for line in text.splitlines() if line.strip()]
    return lines[-len({update[0] for update in updates}) :]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_figure_is_cut(width: int) -> None:
    updates = (("training alice/three", 20, 40, "loss 0.52"), (LONG, 1, 1, ""))
    training, pulling = drawn(width, *updates)
    assert "20/40" in training
    assert len(training) <= width
    assert len(pulling) <= width
    assert "…" not in training
    if width >= 60:
        assert "left" in training
        assert LONG in pulling
    if width >= 80:
        assert re.search(r"20/40 0:00 left (-:--|0:\d\d) loss 0\.52$", training)
    assert not re.search(r"\d…|left …", training)


def test_nothing_is_counted_before_the_number_is_known() -> None:
    (loading,) = drawn(80, ("loading the base", 0, 1, ""))
    assert re.fullmatch(r"   loading the base ━{24} 0:00", loading)
    assert figures_of(0, None) == ""


def test_a_wide_terminal_shows_everything_and_a_narrow_one_what_matters() -> None:
    assert fitting(PARTS, 100) == PARTS
    eighty = fitting(PARTS, 72)
    assert (eighty.passed, eighty.left, eighty.detail) == ("1:02", "left 1:03", "loss 0.52")
    assert 8 <= eighty.bar < 24
    sixty = fitting(PARTS, 60)
    assert (sixty.bar, sixty.figures, sixty.left) == (0, "20/40", "left 1:03")
    narrow = fitting(PARTS, 20)
    assert (narrow.figures, narrow.width) == ("20/40", 20)
    assert narrow.stage.endswith("…")


@pytest.mark.parametrize(
    ("done", "total", "shown"),
    [(3, 120, "  3/120"), (0, 1, ""), (12_345_678, 269_000_000, " 12/269 MB"), (40, 40, "40/40")],
)
def test_figures(done: int, total: int, shown: str) -> None:
    assert figures_of(done, total) == shown
