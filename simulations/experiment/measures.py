"""Statistics of runs: percentiles and ratios rounded the same everywhere, and intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_T_975 = (
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.160,
    2.145,
    2.131,
)
"""Student's t for 95 % intervals with 1, 2, … degrees of freedom; 1.96 beyond."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over seeds and its 95 % confidence interval (Student's t); the mean itself where there is one
    seed.
    """

    mean: float
    low: float
    high: float


def ratio(part: int, whole: int) -> float:
    """part / whole to six places; 0 of nothing is 0."""
    return round(part / whole, 6) if whole else 0.0


def percentile_ms(values_us: Iterable[int] | Ints, percent: int) -> float:
    """The nearest-rank percentile of microseconds, in milliseconds; 0 of nothing."""
    return percentile(np.asarray(values_us, np.int64), percent) / 1000


def percentile(values: Ints | Floats, percent: int) -> float:
    """The nearest-rank percentile; 0 of nothing."""
    if not len(values):
        return 0.0
    at = max(0, -(-len(values) * percent // 100) - 1)
    return float(np.partition(values, at)[at])


def gini(amounts: Sequence[int]) -> float:
    """The Gini coefficient: 0 where all are equal, towards 1 where one has everything; 0 of nothing."""
    ordered, whole = sorted(amounts), sum(amounts)
    weighted = sum(rank * amount for rank, amount in enumerate(ordered, 1))
    count = len(ordered)
    return ratio(2 * weighted - (count + 1) * whole, count * whole)


def jain(amounts: Sequence[int]) -> float:
    """Jain's fairness index: 1 where all are equal, 1/n where one has everything."""
    squares = sum(amount * amount for amount in amounts)
    return ratio(sum(amounts) ** 2, len(amounts) * squares)


def interval(values: Sequence[float]) -> Interval:
    """The mean over seeds, with its interval."""
    mean = sum(values) / len(values)
    if len(values) == 1:
        return Interval(mean, mean, mean)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    freedom = len(values) - 1
    t = _T_975[freedom - 1] if freedom <= len(_T_975) else 1.96
    half = t * math.sqrt(variance / len(values))
    return Interval(mean, mean - half, mean + half)
