"""The same rows trained in other orders of batches: how far pay moves, and what averaging buys."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from .batched import batched_index
from .measures import Truth
from .methods import Subject
from .order import averaged
from .ours import Setting, receipt_scores
from .training import EARLY, Learner
from .world import World

ORDERS = 4
LATER = 2


def measure_order(world: World, truth: Truth, orders: int = ORDERS) -> dict[str, Any]:
    """Way of averaging → what is left."""
    runs, learner, owners = [], Learner(world), len(world.contributors)
    for order in range(orders):
        subject = Subject(learner, world.rows, learner.fit(world.rows, 1_000 + order, LATER).states)
        sums = {}
        for epoch in (EARLY, LATER):
            index = batched_index(subject, Setting(epoch=epoch))
            sums[epoch] = receipt_scores(index, world.owner, owners)
        runs.append(sums)
    return {name: asdict(each) for name, each in averaged(runs, truth, EARLY, LATER).items()}
