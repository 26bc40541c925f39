"""One world, every method: how well each foretells what retraining does, and at what cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..child import note
from .batched import batched_index, observe
from .measures import Faithfulness, Truth, assess
from .methods import OWN, Scored, Subject
from .ours import Indexer, Setting, scored
from .peers import ARMS, ArmFailed, run_arm
from .training import Learner
from .world import World

OURS = "ours"
Message = dict[str, Any]


@dataclass(slots=True, eq=False)
class Table:
    """By method: how faithful it was and what it cost; and which could not be run, with the reason."""

    faithful: dict[str, Faithfulness] = field(default_factory=dict)
    scored: dict[str, Scored] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def message(self) -> Message:
        """For JSON."""
        return {
            "methods": {
                name: each.message() | costs(self.scored[name]) for name, each in self.faithful.items()
            },
            "against_ours": {
                name: difference(self.faithful[OURS], each)
                for name, each in self.faithful.items()
                if OURS in self.faithful and name != OURS
            },
            "absent": self.absent,
        }


def costs(scored: Scored) -> Message:
    """What a method stores and takes."""
    return {
        "bytes_per_example": scored.bytes_per_example,
        "index_seconds": scored.index_seconds,
        "seconds_per_query": scored.query_seconds,
    }


def difference(ours: Faithfulness, theirs: Faithfulness) -> Message:
    """Ours less theirs, question by question, with its standard error over questions and subsets."""
    lds, left = ours.lds - theirs.lds, ours.left_out - theirs.left_out
    pay = ours.pay_error - theirs.pay_error
    subsets = (len(left) - 1) / len(left) * ((left - left.mean()) ** 2).sum()
    return {
        "lds": float(lds.mean()),
        "lds_se": float(np.sqrt(lds.var(ddof=1) / len(lds) + subsets)),
        "pay_error": float(pay.mean()),
        "pay_error_se": float(pay.std(ddof=1) / len(pay) ** 0.5),
    }


def trained(world: World, order: int = 0) -> Subject:
    """The adapter that is asked about: trained on every row."""
    learner = Learner(world)
    return Subject(learner, world.rows, learner.fit(world.rows, order).states)


def compare(
    world: World,
    truth: Truth,
    settings: Mapping[str, Setting],
    own: Iterable[str] = OWN,
    arms: Sequence[str] = (),
    batched: Mapping[str, Setting] | None = None,
) -> Table:
    """All methods on one adapter. `settings` are ours, by the name that each has in the table, with the
    attributor's own code; `batched` with many examples to a pass."""
    batched = batched or {}
    subject, table = trained(world), Table()
    indexer, owners = Indexer(world), len(world.contributors)
    for name, setting in settings.items():
        add_to(table, name, scored(indexer.index(subject, setting), world.owner, owners), (world, truth))
    for name in own:
        add_to(table, name, OWN[name](subject), (world, truth))
    for epoch in sorted({setting.epoch for setting in batched.values()}):
        observed = observe(subject, epoch)
        for name, setting in batched.items():
            if setting.epoch == epoch:
                index = batched_index(subject, setting, observed)
                add_to(table, name, scored(index, world.owner, owners), (world, truth))
    texts = [entry.text for entry in world.entries]
    for name in arms:
        try:
            found = run_arm(name, subject, texts, world.folder / "arms")
        except ArmFailed as failed:
            table.absent[name] = str(failed)
            note(f"{name} is absent: {str(failed)[-300:]}")
            continue
        add_to(table, name, found, (world, truth))
    return table


def add_to(table: Table, name: str, found: Scored, against: tuple[World, Truth]) -> None:
    """Hold a method against a world's truth."""
    world, truth = against
    table.scored[name] = found
    table.faithful[name] = assess(found.scores, world.owner, truth, found.shares)
    reached = table.faithful[name].message()
    note(f"{world.name} {world.seed}: {name}: LDS {reached['lds']:.3f}, pay error {reached['pay_error']:.3f}")


ALL_ARMS = tuple(ARMS)
