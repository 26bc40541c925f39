"""Published methods on one trained adapter, as their papers give them.

Scores are (questions, rows), positive where a row helps; processor seconds, because the machine may be
shared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from commonlore.worker.factory.examples import Example

from .ekfac import Whitening, fit_whitening
from .gradients import Gradients, example_gradients
from .measures import Floats
from .training import EARLY, Learner, State

DATAINF_DAMPING = 0.1
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A method's scores and what they cost. `query_seconds` of one question, its gradient included.

    `shares` (questions, contributors) where the method states pay itself; otherwise it follows from the
    scores.
    """

    scores: Floats
    bytes_per_example: float
    index_seconds: float
    query_seconds: float
    shares: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Gradients of rows and questions at one state, and the seconds that they took."""

    rows: Gradients
    questions: Gradients
    rows_seconds: float
    questions_seconds: float


@dataclass(slots=True, eq=False)
class Subject:
    """An adapter that was trained on `rows`; gradients and factors are computed once, when asked for."""

    learner: Learner
    rows: Sequence[Example]
    states: Mapping[int, State]
    _sides: dict[int, Sides] = field(default_factory=dict)
    _factors: dict[int, tuple[Whitening, float]] = field(default_factory=dict)

    @property
    def last(self) -> int:
        """The epoch at which training ended."""
        return max(self.states)

    def sides(self, epoch: int) -> Sides:
        """Gradients at the state after this epoch."""
        if epoch not in self._sides:
            self.learner.use(self.states[epoch])
            rows, of_rows = timed(lambda: example_gradients(self.learner.model, self.rows))
            questions, of_questions = timed(
                lambda: example_gradients(self.learner.model, self.learner.world.questions, batch=1)
            )
            self._sides[epoch] = Sides(rows, questions, of_rows, of_questions)
        return self._sides[epoch]

    def whitening(self, epoch: int) -> tuple[Whitening, float]:
        """EK-FAC's factors at this epoch, and the seconds that they took."""
        if epoch not in self._factors:
            self.learner.use(self.states[epoch])
            seed = self.learner.world.seed
            self._factors[epoch] = timed(lambda: fit_whitening(self.learner.model, self.rows, seed))
        return self._factors[epoch]


def timed(compute: Callable[[], Result]) -> tuple[Result, float]:
    """A result and the processor seconds that it took this process."""
    began = time.process_time()
    result = compute()
    return result, time.process_time() - began


def plain_dot(subject: Subject, epoch: int) -> Scored:
    """The dot product of gradients."""
    sides = subject.sides(epoch)
    return _compare(sides, sides.rows.flat(), sides.questions.flat(), 0.0)


def tracin(subject: Subject) -> Scored:
    """Dot products at all checkpoints by their learning rates (Pruthi et al., 2020)."""
    course = subject.learner.world.course
    epochs = [epoch for epoch in subject.states if epoch != EARLY]
    parts = [plain_dot(subject, epoch) for epoch in epochs]
    rates = [course.rate * (1 - (epoch - 0.5) / course.epochs) for epoch in epochs]
    return Scored(
        np.sum([rate * part.scores for rate, part in zip(rates, parts, strict=True)], axis=0),
        sum(part.bytes_per_example for part in parts),
        sum(part.index_seconds for part in parts),
        sum(part.query_seconds for part in parts),
    )


def datainf(subject: Subject) -> Scored:
    """The inverse and the mean exchanged, matrix by matrix (Kwon et al., 2024)."""
    sides = subject.sides(subject.last)
    scores, spent = timed(lambda: datainf_scores(sides.rows, sides.questions))
    questions = len(scores)
    return Scored(
        scores.double().numpy(),
        4.0 * sides.rows.coordinates,
        sides.rows_seconds,
        (sides.questions_seconds + spent) / questions,
    )


def datainf_scores(rows: Gradients, questions: Gradients) -> Tensor:
    """(questions, rows)."""
    total = torch.zeros(())
    for name, matrix in rows.by_matrix.items():
        g, q = matrix.flatten(1), questions.by_matrix[name].flatten(1)
        norms = g.square().sum(1)
        damping = DATAINF_DAMPING * norms.mean() / g.shape[1]
        between = q @ g.T
        total = total + (between - (between / (damping + norms)) @ (g @ g.T) / len(g)) / damping
    return total


def ekfac(subject: Subject, epoch: int) -> Scored:
    """The dot product of gradients that EK-FAC has whitened, nothing left out."""
    sides = subject.sides(epoch)
    whitening, fitted = subject.whitening(epoch)
    rows, spent = timed(lambda: whitening(sides.rows))
    return _compare(sides, rows, whitening(sides.questions), fitted + spent)


def at_random(subject: Subject) -> Scored:
    """Scores that know nothing."""
    world = subject.learner.world
    scores = np.random.default_rng(world.seed).normal(size=(len(world.questions), len(subject.rows)))
    return Scored(scores, 0.0, 0.0, 0.0)


def _compare(sides: Sides, rows: Tensor, questions: Tensor, index_seconds: float) -> Scored:
    scores, spent = timed(lambda: (questions @ rows.T).double().numpy())
    return Scored(
        scores,
        4.0 * rows.shape[1],
        sides.rows_seconds + index_seconds,
        (sides.questions_seconds + spent) / len(scores),
    )


OWN: dict[str, Callable[[Subject], Scored]] = {
    "dot": lambda subject: plain_dot(subject, subject.last),
    "dot-early": lambda subject: plain_dot(subject, EARLY),
    "tracincp": tracin,
    "datainf": datainf,
    "ekfac-full": lambda subject: ekfac(subject, EARLY),
    "ekfac-full-final": lambda subject: ekfac(subject, subject.last),
    "random": at_random,
}
"""Methods that this folder computes itself, by the name that a result has."""
