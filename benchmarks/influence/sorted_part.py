"""What sorting rows over accounts brings over several draws of the projection: nobody knows the draw when
rows are committed, so the mean over draws is what a contributor can count on.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .batched import batched_indexes
from .measures import Floats
from .methods import Subject
from .ours import Index, Setting, receipt_shares, scores_of, seed_for
from .sorting import PayOf, over_draws, sorting_changes
from .training import Learner
from .world import World

DRAWS = 8
FIRST = 1
"""The epoch within which the early checkpoint is taken: no more of a training is needed."""


def measure_sorted(world: World, draws: int = DRAWS) -> dict[str, Any]:
    """`seen`: rows are sorted by what the draw that pays makes of them. `unseen`: by the mean of the other
    draws, which is the most that is known before the draw."""
    learner = Learner(world)
    subject = Subject(learner, world.rows, learner.fit(world.rows, stop=FIRST).states)
    indexes = list(batched_indexes(subject, Setting(), [_seed(world, number) for number in range(draws)]))
    scores = [scores_of(each) for each in indexes]
    total = np.sum(scores, axis=0)
    pays = [payer_by(each) for each in indexes]
    seen = [sorting_changes(own, world.owner, pay) for own, pay in zip(scores, pays, strict=True)]
    unseen = [sorting_changes(total - own, world.owner, pay) for own, pay in zip(scores, pays, strict=True)]
    return {"draws": draws, "seen": over_draws(seen), "unseen": over_draws(unseen)}


def _seed(world: World, number: int) -> bytes:
    """Draw 0 is the one that all other tables have."""
    first = seed_for(world, "sketch")
    return hashlib.sha256(first + bytes([number])).digest() if number else first


def payer_by(index: Index) -> PayOf:
    """What this index pays to accounts that rows are given to."""

    def pay(asked: npt.NDArray[np.bool_], owner: npt.NDArray[np.int64], owners: int) -> Floats:
        return receipt_shares(replace(index, questions=index.questions[asked]), owner, owners)

    return pay
