"""What level 3 says of a likeness, whatever number it is."""

from __future__ import annotations

import math

import pytest

from commonlore.peer.attribution.findings import Checks
from commonlore.peer.attribution.remade_check import LEAST_ADAPTER, _tell


@pytest.mark.parametrize(
    ("like", "passes"), [(1.0, True), (LEAST_ADAPTER, True), (0.69, False), (-1.0, False), (math.nan, False)]
)
def test_what_is_not_like_enough_is_wrong_and_so_is_what_is_no_number(like: float, passes: bool) -> None:
    checks = Checks(3, ())
    found = checks.run(lambda: _tell(checks, "the early checkpoint", "the rows", like, LEAST_ADAPTER))
    assert found.passed is passes
    assert found.showed[0].startswith("WRONG") is not passes
