"""This project's own method, by the code that attributors run (worker/attribution, protocol/attribution)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from commonlore.protocol.attribution.scoring import compute_scores, compute_weights, sum_rows
from commonlore.worker.attribution.adapted import AdaptedModel
from commonlore.worker.attribution.curvature import FITTED, Curvature, Plan, pack_curvature
from commonlore.worker.attribution.curvature_run import fit_curvature
from commonlore.worker.attribution.factors import Factors
from commonlore.worker.attribution.gradient import ROW_TERMS, Transform, compute_vectors
from commonlore.worker.attribution.sketch import WIDTH, Sketch

from .measures import Floats
from .methods import Scored, Subject, timed
from .training import EARLY, State
from .world import World

PPM = 1_000_000
Vectors = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Setting:
    """What may be chosen: at which state, how wide, how much curvature, with how many bits a row's places are
    kept, and whether a row has a weight. Attributors keep signs and a weight; all else is for `batched`."""

    epoch: int = EARLY
    width: int = WIDTH
    plan: Plan = FITTED
    bits: int = 1
    weighted: bool = True

    @property
    def row_bytes(self) -> float:
        """What an index keeps of a row."""
        return self.width * self.bits / 8 + self.weighted


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """An adapter's rows and questions as vectors, and what they cost in processor seconds and bytes."""

    rows: Vectors
    questions: Vectors
    index_seconds: float
    query_seconds: float
    curvature_bytes: int
    row_bytes: float
    transform: Transform | None = None


class Indexer:
    """A world's base, once, with one adapter at a time."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.model = AdaptedModel(world.base)

    def index(self, subject: Subject, setting: Setting) -> Index:
        """Everything that an attributor would publish or compute."""
        factors = self.factors(subject.states[setting.epoch])
        labels = seed_for(self.world, "labels")
        curvature, fitted = timed(
            lambda: fit_curvature(self.model, factors, subject.rows, labels, plan=setting.plan)
        )
        transform = self.transform(curvature, setting.width)
        rows, of_rows = timed(
            lambda: compute_vectors(self.model, factors, transform.row, subject.rows, ROW_TERMS)
        )
        asked = self.world.questions
        questions, of_questions = timed(lambda: compute_vectors(self.model, factors, transform.answer, asked))
        packed = len(pack_curvature(curvature))
        return Index(
            np.stack(rows),
            np.stack(questions),
            fitted + of_rows,
            of_questions / len(questions),
            packed,
            setting.row_bytes,
            transform,
        )

    def factors(self, state: State) -> Factors:
        """An adapter as attribution wants it."""
        course = self.world.course
        return Factors(state, course.alpha / course.rank)

    def transform(self, curvature: Curvature, width: int) -> Transform:
        """Whitening, and the projection that this world's seed names."""
        return Transform(Sketch.draw(seed_for(self.world, "sketch"), curvature.size, width), curvature)


def seed_for(world: World, purpose: str) -> bytes:
    """32 bytes that nobody chose."""
    return hashlib.sha256(f"{purpose}/{world.name}/{world.seed}".encode()).digest()


def scored(index: Index, owner: npt.NDArray[np.int64], owners: int) -> Scored:
    """An index's scores, and the shares that its receipts would state."""
    weights, spent = timed(lambda: receipt_shares(index, owner, owners))
    return Scored(
        scores=scores_of(index),
        bytes_per_example=index.row_bytes,
        index_seconds=index.index_seconds,
        query_seconds=index.query_seconds + spent / len(index.questions),
        shares=weights,
    )


def scores_of(index: Index) -> Floats:
    """(questions, rows)."""
    return (index.questions.astype(np.int64) @ index.rows.astype(np.int64).T).astype(np.float64)


def receipt_shares(index: Index, owner: npt.NDArray[np.int64], owners: int) -> Floats:
    """(questions, owners): what receipts state, in parts of one; alike where no influence was found."""
    sums = np.stack([sum_rows(index.rows[owner == each]) for each in range(owners)])
    payees = payees_of(owners)
    return np.stack([_shares(question, sums, payees) for question in index.questions])


def receipt_scores(index: Index, owner: npt.NDArray[np.int64], owners: int) -> Floats:
    """(questions, owners): the integers from which receipts' weights follow."""
    sums = np.stack([sum_rows(index.rows[owner == each]) for each in range(owners)])
    return np.array([compute_scores(question, sums) for question in index.questions], np.float64)


def payees_of(owners: int) -> list[bytes]:
    """An account for each contributor, in their order."""
    return [bytes([each + 1]) * 20 for each in range(owners)]


def _shares(question: Vectors, sums: npt.NDArray[np.int64], payees: Sequence[bytes]) -> Floats:
    weights = compute_weights(compute_scores(question, sums), payees)
    if weights is None:
        return np.full(len(payees), 1 / len(payees))
    found = {weight.payee: weight.ppm for weight in weights}
    return np.array([found.get(payee, 0) / PPM for payee in payees])
