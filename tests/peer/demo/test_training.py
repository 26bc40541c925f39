"""How much of the planned training a slow machine does."""

from __future__ import annotations

import pytest

from commonlore.peer.demo.training import FEWEST_ROWS, FEWEST_STEPS, Effort

PLANNED = Effort(40, 120)


@pytest.mark.parametrize("steps", [128.0, 1000.0, float("inf")])
def test_what_fits_is_left_as_planned(steps: float) -> None:
    assert PLANNED.cost == pytest.approx(127.4)
    assert PLANNED.within(steps) == PLANNED


def test_rows_shrink_before_steps_do() -> None:
    assert PLANNED.within(95.0) == Effort(40, 62)
    assert PLANNED.within(50.0) == Effort(9, 36)


@pytest.mark.parametrize("steps", [0.0, -5.0, 3.0])
def test_there_is_always_something_to_show(steps: float) -> None:
    assert PLANNED.within(steps) == Effort(FEWEST_STEPS, FEWEST_ROWS)


def test_a_plan_that_is_small_is_not_made_larger() -> None:
    assert Effort(2, 3).within(0.5) == Effort(2, 3)


def test_only_what_is_less_is_told() -> None:
    assert Effort(40, 62).told_beside(PLANNED) == "62 rows indexed instead of 120"
    assert Effort(9, 36).told_beside(PLANNED) == "9 steps instead of 40, 36 rows indexed instead of 120"
