"""A contributor that knows what its rows are worth and puts the better half on a second account: since a
score below zero counts as zero, account by account, dividing rows by their worth may pay.

Rules of this file: what rows are worth is learnt from every other question, and pay is measured on the rest,
in turn; training is not changed by it, so one index tells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from .measures import Floats

Owner = npt.NDArray[np.int64]
PayOf = Callable[[npt.NDArray[np.bool_], Owner, int], Floats]
"""(asked, owner, owners) → (questions, owners): what the questions asked pay to whom."""


def measure_sorting(scores: Floats, owner: Owner, pay: PayOf) -> dict[str, float]:
    """Of the contributor for whom it is worst: `honest_change`, the largest change of another's pay, and
    `honest_loss`; of the one who gains most: `attacker_share`, its gain as a part of what it had."""
    changes = sorting_changes(scores, owner, pay)
    others = changes[~np.eye(len(changes), dtype=bool)]
    return {
        "honest_change": float(np.abs(others).max()),
        "honest_loss": float(max(0.0, -others.min())),
        "attacker_share": float(max(0.0, np.diagonal(changes).max())),
    }


def over_draws(changes: Sequence[Floats]) -> dict[str, float]:
    """`sorting_changes` of several draws of the projection, taken together. `gain` is what the one who gains
    most in the mean of the draws gains in it, `gain_se` that mean's standard error, `largest_gain` what
    anybody gains by any draw; `change`, `change_se` and `largest_change` are the same of what a sorter does
    to another's pay, either way."""
    table = np.stack(changes)
    own = np.eye(table.shape[1], dtype=bool)
    gains, others = table[:, own], table[:, ~own]
    best, worst = int(gains.mean(0).argmax()), int(np.abs(others.mean(0)).argmax())
    return {
        "gain": float(gains[:, best].mean()),
        "gain_se": _error(gains[:, best]),
        "largest_gain": float(gains.max()),
        "change": float(np.abs(others[:, worst].mean())),
        "change_se": _error(others[:, worst]),
        "largest_change": float(np.abs(others).max()),
    }


def _error(values: Floats) -> float:
    return float(values.std(ddof=1) / len(values) ** 0.5)


def sorting_changes(scores: Floats, owner: Owner, pay: PayOf) -> Floats:
    """(sorters, owners): how everybody's pay changes, as a part of what it was, if one of them sorts by these
    scores."""
    halves = np.arange(len(scores)) % 2 == 1
    sorters = range(int(owner.max()) + 1)
    return np.array([_changes(scores, owner, pay, halves, one) for one in sorters])


def _changes(
    scores: Floats, owner: Owner, pay: PayOf, halves: npt.NDArray[np.bool_], sorter: int
) -> npt.NDArray[np.float64]:
    """How everybody's pay changes, as a part of what it was, if one contributor sorts."""
    owners = int(owner.max()) + 1
    before, after = np.zeros(owners), np.zeros(owners)
    for asked in (halves, ~halves):
        before += pay(asked, owner, owners).sum(0)
        paid = pay(asked, sort_rows(scores[~asked], owner, sorter), owners + 1).sum(0)
        after += paid[:owners]
        after[sorter] += paid[owners]
    return np.divide(after, before, out=np.ones(owners), where=before > 0) - 1


def sort_rows(scores: Floats, owner: Owner, sorter: int) -> Owner:
    """Who owns which row once the lesser half of `sorter`'s rows is on another account, the last."""
    own = np.flatnonzero(owner == sorter)
    lesser = own[np.argsort(-scores[:, own].sum(0), kind="stable")][len(own) // 2 :]
    moved = owner.copy()
    moved[lesser] = int(owner.max()) + 1
    return moved
