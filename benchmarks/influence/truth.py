"""Ground truth: the adapter retrained on half of the rows, and on every subset of contributors.

Rules of this file:
- Every retraining is one file, written under another name and then moved, so that whoever comes next takes up
  what is missing.
- A subset of contributors may be trained in several orders of batches. Each gives Shapley values of its own;
  how far apart those are is how well the truth itself is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..child import note
from .measures import Floats, Truth, shapley_values
from .training import Learner
from .world import World

ORDERS_APART = 1_000
"""Between the orders of one subset's trainings."""


def ground_truth(world: World, halves: int, orders: int = 1) -> Truth:
    """Of a world, every subset of contributors trained in so many orders; computes what its folder lacks."""
    learner: list[Learner] = []

    def lazily() -> Learner:
        if not learner:
            learner.append(Learner(world))
        return learner[0]

    members = half_subsets(world.seed, len(world.rows), halves)
    values = [_kept(world, f"half-{k}", lazily, rows, k) for k, rows in enumerate(members)]
    by_order = [
        [
            _kept(world, _subset_name(code, order), lazily, rows, code + ORDERS_APART * order)
            for code, rows in enumerate(contributor_subsets(world))
        ]
        for order in range(orders)
    ]
    return Truth(members, np.stack(values), np.stack([shapley_values(np.stack(each)) for each in by_order]))


def _subset_name(code: int, order: int) -> str:
    return f"subset-{code}" if order == 0 else f"subset-{code}-order-{order}"


def half_subsets(seed: int, rows: int, halves: int) -> npt.NDArray[np.bool_]:
    """(halves, rows): which rows are in, half of them each time."""
    rng = np.random.default_rng([seed, 77])
    members = np.zeros((halves, rows), bool)
    for subset in members:
        subset[rng.permutation(rows)[: rows // 2]] = True
    return members


def contributor_subsets(world: World) -> Iterator[npt.NDArray[np.bool_]]:
    """The rows of every subset of contributors, numbered by its bits."""
    for code in range(2 ** len(world.contributors)):
        yield (code >> world.owner & 1).astype(bool)


def _kept(
    world: World, name: str, learner: Callable[[], Learner], members: npt.NDArray[np.bool_], order: int
) -> Floats:
    path: Path = world.folder / f"{name}.npy"
    if not path.exists():
        rows = [world.rows[i] for i in np.flatnonzero(members)]
        values = learner().fit(rows, order).values
        partly = path.with_suffix(".partial.npy")
        np.save(partly, values)
        partly.rename(path)
        note(f"{world.name} {world.seed}: {name}")
    return np.asarray(np.load(path), np.float64)
