"""Which state of a training is asked: adapters after single steps, and means over steps. All windows on
worlds that nothing is reported on; on the others only what is used and what was chosen against it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from commonlore.worker.factory.early import EarlyMean

from .batched import batched_index
from .faithful import Table, add_to, difference
from .measures import Truth
from .methods import Subject
from .ours import Index, Indexer, Setting, scored
from .training import EARLY, Learner, State
from .world import World

USED, CHOSEN = range(22, 25), range(6, 37)
"""The window that nodes use, and the one that development seeds prefer: a quarter of an epoch to one and a
half."""
WINDOWS = (
    *(range(step, step + 1) for step in (12, 24, 36, 48)),
    USED,
    *(range(18, 25), range(1, 25), range(6, 25), range(12, 25)),
    CHOSEN,
    *(range(12, 37), range(24, 49)),
)
"""Of 96 steps, 24 to an epoch."""
REAL_USED, REAL_CHOSEN = range(3, 6), range(2, 8)
"""The same two on the real base, by the same parts of an epoch: of 15 steps, five to an epoch."""
COMPARED, REAL_COMPARED = (USED, CHOSEN), (REAL_USED, REAL_CHOSEN)
"""Where a window costs more, or nothing may be chosen."""
Windows = Sequence[range]
AsIndex = Callable[[Subject], Index]


def measure_windows(world: World, truth: Truth, windows: Windows = WINDOWS) -> dict[str, Any]:
    """On the tiny base, with many examples to a pass."""
    return _measure(world, truth, windows, lambda subject: batched_index(subject, Setting()))


def measure_real_windows(world: World, truth: Truth, windows: Windows = REAL_COMPARED) -> dict[str, Any]:
    """On the real base, by the attributor's own code."""
    indexer = Indexer(world)
    return _measure(world, truth, windows, lambda subject: indexer.index(subject, Setting()))


def _measure(world: World, truth: Truth, windows: Windows, index: AsIndex) -> dict[str, Any]:
    """`windows`: steps → how faithful ours is at the mean of the adapters after them; `less_used`: that less
    what the window in use reaches, question by question."""
    learner, table = Learner(world), Table()
    for name, state in states_over(learner, windows).items():
        found = index(Subject(learner, world.rows, {EARLY: state}))
        add_to(table, name, scored(found, world.owner, len(world.contributors)), (world, truth))
    by_window = table.faithful
    used = by_window.get(name_of(USED), by_window.get(name_of(REAL_USED)))
    return {
        "windows": {name: each.message() for name, each in by_window.items()},
        "less_used": {name: difference(each, used) for name, each in by_window.items() if used},
    }


def states_over(learner: Learner, windows: Windows) -> Mapping[str, State]:
    """The means over windows, of one training."""
    means = {name_of(window): EarlyMean(window) for window in windows}
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
