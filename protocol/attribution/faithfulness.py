"""How well an adapter's attribution predicts retraining: a statement beside its index, and what follows.

Rules of this file:

- Correlations travel as parts per million above -1, so that 1,000,000 says nothing and 2,000,000 all.
- The author measures and announces; whoever has the rows measures the same again. Scores divide money only
  where a measurement of their index says that they are above chance, and a statement by scores names it.
  Where none does, the manifest's priors divide, and the statement says so by its method.
- A measurement counts that its adapter's author sealed, whose numbers are correlations, and that is of no
  fewer retrainings, rows and queries than give it an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..content.manifests import AdapterManifest
from ..encoding.codec import record_cid
from ..encoding.fields import PPM, U16, U32, Label
from ..errors import LocalProtocolError, RemoteProtocolError
from ..ids import CHUNK_SIZE, Cid
from ..receipts.records import AttributionStatement
from ..signing.envelope import open_sealed
from .scoring import PRIOR_METHOD

COARSE_METHOD = "prior-unfaithful"
"""The `method` of a statement whose weights are the priors because the scores are not above chance."""
UNMEASURED_METHOD = "prior-unmeasured"
"""The same because nobody has announced whether they are."""
CHALLENGED_METHOD = "prior-challenged"
"""The same because a row of the index is not its row's gradient (`challenges`)."""
COARSE_METHODS = frozenset({COARSE_METHOD, UNMEASURED_METHOD})
PRIOR_METHODS = COARSE_METHODS | {PRIOR_METHOD, CHALLENGED_METHOD}
"""All methods whose weights are the priors."""
_ONE_SIDED = 1645
"""Thousandths of a standard error (95 %). A score is asked to be better than the null adapter's, not to be
other: by 1,960 the error of a null adapter over six halves, about 0.3, would fail three good adapters of ten.
"""
FEWEST_SUBSETS, FEWEST_ROWS, FEWEST_QUERIES = 4, 4, 2
"""Of a measurement that counts: with fewer, chance alone passes for a correlation without error."""
MOST_STEPS, MOST_BATCH = 10_000, 1_024
"""Of each of its trainings: of more, or of none, nobody could measure it again."""


@dataclass(frozen=True, slots=True)
class Correlations:
    """A linear datamodeling score and its standard error; and chance, twice: `null_high_ppm` is what one in
    40 of the same index with its rows dealt anew exceeds, `null_ppm` the score, with its standard error, of
    an adapter that learnt other rows' questions with the answers of a third.
    """

    lds_ppm: U32
    error_ppm: U32
    null_high_ppm: U32
    null_ppm: U32
    null_error_ppm: U32

    @property
    def above_chance(self) -> bool:
        """Whether the whole 95 % interval lies above zero, the score above the null indexes', and its
        distance from the null adapter's is more than both errors explain."""
        above_zero = 100 * self.lds_ppm - 196 * self.error_ppm > 100 * PPM
        return above_zero and self.lds_ppm > self.null_high_ppm and self._above_null_adapter()

    def _above_null_adapter(self) -> bool:
        apart = self.lds_ppm - self.null_ppm
        errors = self.error_ppm**2 + self.null_error_ppm**2
        return apart > 0 and (1000 * apart) ** 2 > _ONE_SIDED**2 * errors


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """How an index compares with `subsets` retrainings of `steps` steps of `batch` rows, each on half of
    `rows`, over `queries` rows that none was trained on.
    """

    adapter: Cid
    index: Cid
    method: Label
    subsets: U16
    queries: U16
    rows: U32
    steps: U32
    batch: U32
    found: Correlations

    @property
    def above_chance(self) -> bool:
        """Whether its scores may divide money."""
        return self.found.above_chance


ROUNDING_PPM = 100_000
"""How far the same measurement may lie from itself where other kernels computed it."""
Measurements = Mapping[Cid, Faithfulness]
"""What authors measured, by the content id of the sealed statement."""


def open_measurement(raw: bytes, manifest: AdapterManifest, measurer: bytes | None = None) -> Faithfulness:
    """What an adapter's author, or another `measurer`, sealed of its index. Raises InvalidSignature, and
    RemoteProtocolError where it is another's, of another adapter, or no measurement."""
    sealed = open_sealed(raw, (Faithfulness,), CHUNK_SIZE)
    found, whose = sealed.record, "its author's" if measurer is None else "its measurer's"
    if sealed.public_key != (measurer or manifest.author) or found.adapter != record_cid(manifest):
        raise RemoteProtocolError(f"the faithfulness announced for {manifest.name!r} is not {whose}")
    measured, reached = (found.subsets, found.rows, found.queries), found.found
    if any(a < b for a, b in zip(measured, (FEWEST_SUBSETS, FEWEST_ROWS, FEWEST_QUERIES), strict=True)):
        raise RemoteProtocolError(
            f"{found.subsets} retrainings on halves of {found.rows} rows, over {found.queries} queries, "
            f"measure nothing; at least {FEWEST_SUBSETS}, {FEWEST_ROWS} and {FEWEST_QUERIES} are needed"
        )
    if not (0 < found.steps <= MOST_STEPS and 0 < found.batch <= MOST_BATCH):
        raise RemoteProtocolError(
            f"retrainings of {found.steps} steps of {found.batch} rows: nobody could measure that again"
        )
    if max(reached.lds_ppm, reached.null_high_ppm, reached.null_ppm) > 2 * PPM:
        raise RemoteProtocolError(f"the faithfulness announced for {manifest.name!r} is no correlation")
    return found


def allows_scores(statement: AttributionStatement, measured: Measurements) -> bool:
    """Whether the measurement that a statement names says of its very index and method that scores are above
    chance."""
    found = None if statement.faithfulness is None else measured.get(statement.faithfulness)
    if found is None or statement.index is None or not found.above_chance:
        return False
    of = statement.adapter, statement.index, statement.method
    return (found.adapter, found.index, found.method) == of


def disagree(announced: Faithfulness, found: Faithfulness) -> bool:
    """Whether two measurements of one index contradict each other: of the same halves and queries, beyond
    what rounding moves; else further apart than both errors explain (95 %)."""
    apart = announced.found.lds_ppm - found.found.lds_ppm
    if replace(announced, found=found.found) == found:
        return abs(apart) > ROUNDING_PPM
    errors = announced.found.error_ppm**2 + found.found.error_ppm**2
    return (100 * apart) ** 2 > 196**2 * errors


def coarse_method(found: Faithfulness | None, index: Cid | None) -> str | None:
    """By what method the priors divide, for an index of which this was announced; None where scores do."""
    if found is None or found.index != index:
        return UNMEASURED_METHOD
    return None if found.above_chance else COARSE_METHOD


def to_ppm(correlation: float) -> int:
    """A correlation as it travels. Raises LocalProtocolError beyond -1 … 1."""
    if not -1.0 <= correlation <= 1.0:
        raise LocalProtocolError(f"{correlation} is no correlation")
    return PPM + round(correlation * PPM)


def from_ppm(ppm: int) -> float:
    """A correlation as people read it."""
    return ppm / PPM - 1.0
