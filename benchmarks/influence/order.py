"""What the order of batches alone does to pay, and what averaging buys.

The same rows, trained again in another order, are another adapter: their contributors' pay is compared, of
one training, of two checkpoints of one training, and of two trainings together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .measures import Floats, Truth, shares, total_variation

Sums = Mapping[int, Floats]
"""By epoch: (questions, contributors) scores of one training."""


@dataclass(frozen=True, slots=True)
class Wobble:
    """Between independent estimates: how much a contributor's part of all pay changes (mean and largest), as
    a part of what it is; how much of one answer's pay changes hands; and the estimate's pay error.
    """

    pay_change: float
    largest_pay_change: float
    answer_change: float
    pay_error: float


def wobble(estimates: Sequence[Floats], truth: Truth) -> Wobble:
    """Of several independent estimates of the shares, (questions, contributors) each."""
    paid = [each.mean(0) for each in estimates]
    changes = [abs(b / a - 1) for a, b in combinations(paid, 2)]
    answers = [total_variation(a, b).mean() for a, b in combinations(estimates, 2)]
    errors = [total_variation(each, shares(truth.shapley)).mean() for each in estimates]
    return Wobble(
        float(np.mean(changes)), float(np.max(changes)), float(np.mean(answers)), float(np.mean(errors))
    )


def averaged(runs: Sequence[Sums], truth: Truth, early: int, later: int) -> dict[str, Wobble]:
    """What each way of averaging leaves of the wobble. Needs four runs for two independent pairs."""
    pairs = [runs[i : i + 2] for i in range(0, len(runs) - 1, 2)]
    ways: dict[str, Callable[[], list[Floats]]] = {
        "one checkpoint": lambda: [shares(run[early]) for run in runs],
        "two checkpoints": lambda: [shares(_unit(run[early]) + _unit(run[later])) for run in runs],
        "two trainings": lambda: [shares(_unit(a[early]) + _unit(b[early])) for a, b in pairs],
        "both": lambda: [
            shares(sum(_unit(run[epoch]) for run in pair for epoch in (early, later))) for pair in pairs
        ],
    }
    return {name: wobble(way(), truth) for name, way in ways.items()}


def _unit(sums: Floats) -> Floats:
    """Every question's scores on one scale, so that no estimate outweighs another."""
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return sums / np.where(lengths > 0, lengths, 1.0)
