"""Rows that work against their own contributor's others, told by influence: mislabelled or poisoned ones.

Rules of this file:
- Two rows' influence on each other is the dot product of their index vectors: positive where training on the
  one makes the other likelier. What a contributor teaches in one row should hold in its others.
- A row is flagged whose influence on its contributor's other rows, summed, lies below zero by more than SURE
  times the spread of all rows' (their median absolute deviation): a row that is merely about something else
  has an influence near zero. Whoever holds an index finds the same.
- A flag is for people: nothing is dropped, and nobody's pay changes by it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .sketch import Int8s

SURE = 3.0
_TO_SIGMA = 1.4826
"""A normal distribution's standard deviation in median absolute deviations."""


def influences_on_own(vectors: Int8s, owners: Sequence[bytes]) -> list[int]:
    """Each row's influence on its owner's other rows: exact integers from (rows, width) int8."""
    rows = vectors.astype(np.int64)
    sums: dict[bytes, npt.NDArray[np.int64]] = {}
    for owner, row in zip(owners, rows, strict=True):
        sums[owner] = sums.get(owner, np.zeros_like(row)) + row
    return [int(row @ (sums[owner] - row)) for owner, row in zip(owners, rows, strict=True)]


def flag_rows(influences: Sequence[int]) -> list[int]:
    """The rows (by number) that work against their own kind, the worst first."""
    if not influences:
        return []
    values = np.asarray(influences, np.float64)
    spread = _TO_SIGMA * float(np.median(np.abs(values - np.median(values))))
    worst_first: list[int] = np.argsort(values, kind="stable").tolist()
    return [number for number in worst_first if values[number] < -max(SURE * spread, 0.5)]
