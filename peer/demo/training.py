"""The demo's training: as planned where there is time, with fewer steps and rows on a slow machine.

Rules of this file: how fast a machine is, is not asked of it beforehand; the first steps of the run itself
tell, and a run that would take too long is ordered anew, smaller.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from ...protocol.errors import DeadlineExceeded
from ...protocol.ids import Cid
from ..datanets.corpus_orders import measured, pairs_of
from ..gateway.control_client import ControlClient
from ..training.train_stages import TrainStages
from .events import Advanced, Event, Told, Trained
from .plan import MEASURED, Subject

WARM_STEPS, STEPS_TO_JUDGE = 1, 5
"""Steps between which the pace is taken: the first one also sets up, and is slow."""
CURVATURE_EVERY = 6
"""Of so many indexed rows one tells the curvature too."""
ROW_COST = 0.42 + 0.85 / CURVATURE_EVERY
"""Indexing a row, in training steps, and its part of the curvature: CPU time of both, measured."""
MEASURING_COST = 20.0
"""Measuring how faithful the index is, in training steps: the same for every plan."""
ROWS_FIRST = 0.3
"""Part of the planned rows to which indexing shrinks before training does."""
TOLERANCE = 1.15
"""A run that is too long by less than this is not worth beginning anew."""
FEWEST_STEPS, FEWEST_ROWS = 8, 12


@dataclass(frozen=True, slots=True)
class Effort:
    """Training steps, and rows to index."""

    steps: int
    index_rows: int

    @property
    def cost(self) -> float:
        """In training steps."""
        return self.steps + ROW_COST * self.index_rows + MEASURING_COST

    def within(self, steps: float) -> Effort:
        """Smaller, so that it costs at most so many training steps: first fewer rows, then fewer steps, but
        never next to nothing of either.
        """
        steps -= MEASURING_COST
        fewest_rows, fewest_steps = min(FEWEST_ROWS, self.index_rows), min(FEWEST_STEPS, self.steps)
        rows = int(min(self.index_rows, max((steps - self.steps) / ROW_COST, ROWS_FIRST * self.index_rows)))
        if steps - ROW_COST * rows < fewest_steps:
            rows = fewest_rows
        left = int(min(self.steps, steps - ROW_COST * rows))
        return Effort(max(fewest_steps, left), max(fewest_rows, rows))

    def told_beside(self, planned: Effort) -> str:
        """What of the planned effort is less now."""
        steps = f"{self.steps} steps instead of {planned.steps}"
        rows = f"{self.index_rows} rows indexed instead of {planned.index_rows}"
        less = (steps, self.steps < planned.steps), (rows, self.index_rows < planned.index_rows)
        return ", ".join(words for words, is_less in less if is_less)


def train_within(
    trainer: ControlClient, subject: Subject, planned: Effort, share_s: float
) -> Generator[Event, None, Trained]:
    """Train and index a subject's adapter with as much of the planned effort as fits into `share_s` seconds.

    Raises what training raises.
    """
    outcome = yield from _try(trainer, subject, planned, share_s)
    if isinstance(outcome, Effort):
        yield Told(subject.alias, f"this machine is slow or busy: {outcome.told_beside(planned)}")
        outcome = yield from _try(trainer, subject, outcome, float("inf"))
    if isinstance(outcome, Effort):
        raise DeadlineExceeded(f"{subject.alias} could not be trained in time; use --steps {FEWEST_STEPS}")
    return outcome


def _try(
    trainer: ControlClient, subject: Subject, effort: Effort, share_s: float
) -> Generator[Event, None, Trained | Effort]:
    """The trained adapter; or, as soon as it is clear that this does not fit, the effort that does."""
    stages, warm_at = TrainStages(subject.alias), 0.0
    updates = trainer.stream("/train", _order(subject, effort))
    try:
        for line in updates:
            if "done" in line:
                return _trained(line["done"])
            update = line["progress"]
            yield from (Advanced(*stage) for stage in stages.follow(update))
            if update.get("phase") != "training":
                continue
            if update["step"] == WARM_STEPS:
                warm_at = time.monotonic()
            if update["step"] == STEPS_TO_JUDGE:
                step_s = (time.monotonic() - warm_at) / (STEPS_TO_JUDGE - WARM_STEPS)
                fitting = effort.within(share_s / step_s)
                if fitting.cost * TOLERANCE < effort.cost:
                    return fitting
    finally:
        updates.close()  # type: ignore[attr-defined]  # it is a generator; closing it stops the work
    raise DeadlineExceeded(f"training {subject.alias} ended without a word; see the trainer's logs")


def _order(subject: Subject, effort: Effort) -> dict[str, Any]:
    return {
        "name": subject.alias,
        "datanets": [subject.corpus.name],
        "config": {"steps": effort.steps, "curvature_rows": max(1, effort.index_rows // CURVATURE_EVERY)},
        "index_rows": effort.index_rows,
        "heldout": pairs_of(measured(subject.corpus, MEASURED)),
    }


def _trained(done: dict[str, Any]) -> Trained:
    return Trained(
        done["alias"], Cid(done["adapter"]), done["loss_before"], done["loss_after"], done["weights_bytes"]
    )
