"""Which state of a training is asked: adapters after single steps, and means over steps, on worlds that
nothing is reported on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from commonlore.worker.factory.early import EarlyMean

from .batched import batched_index
from .faithful import Table, add_to
from .measures import Truth
from .methods import Subject
from .ours import Setting, scored
from .training import EARLY, Learner, State
from .world import World

WINDOWS = (
    *(range(step, step + 1) for step in (12, 24, 36, 48)),
    *(
        range(22, 25),
        range(18, 25),
        range(1, 25),
        range(6, 25),
        range(12, 25),
        range(6, 37),
        range(12, 37),
        range(24, 49),
    ),
)
"""Of 96 steps, 24 to an epoch."""


def measure_windows(world: World, truth: Truth) -> dict[str, Any]:
    """Steps → how faithful ours is at the mean of the adapters after them."""
    learner, table = Learner(world), Table()
    for name, state in states_over(learner).items():
        subject = Subject(learner, world.rows, {EARLY: state})
        index = batched_index(subject, Setting())
        add_to(table, name, scored(index, world.owner, len(world.contributors)), (world, truth))
    return {name: each.message() for name, each in table.faithful.items()}


def states_over(learner: Learner) -> Mapping[str, State]:
    """The means over WINDOWS, of one training."""
    means = {name_of(window): EarlyMean(window) for window in WINDOWS}
    found: dict[str, State] = {}
    for step in learner.steps(learner.world.rows):
        for name, mean in means.items():
            if state := mean.add(step, learner.parameters):
                found[name] = state
        if len(found) == len(means):
            break
    return found


def name_of(window: range) -> str:
    """`step 24`, or `steps 6 to 24`."""
    first, last = window[0], window[-1]
    return f"step {last}" if first == last else f"steps {first} to {last}"
