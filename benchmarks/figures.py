"""Numbers out of samples: medians, percentiles, ranges."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured number, and the lowest and highest of the rounds it stands for."""

    value: float
    low: float
    high: float


def median(samples: Sequence[float]) -> Figure:
    """The median of rounds and their range. `samples` is not empty."""
    return Figure(statistics.median(samples), min(samples), max(samples))


def percentile(samples: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile. `samples` is not empty."""
    ranked = sorted(samples)
    rank = -(-len(ranked) * percent // 100)
    return ranked[max(0, int(rank) - 1)]


def rounded(value: float) -> float:
    """With four significant digits: more would be noise."""
    return float(f"{value:.4g}")
