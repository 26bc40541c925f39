"""How well an adapter's attribution predicts retraining: a statement beside its index, and what follows.

Rules of this file:

- Correlations travel as parts per million above -1, so that 1,000,000 says nothing and 2,000,000 all.
- The author measures and announces; whoever has the rows measures the same again. Scores divide money only
  where a measurement of their index says that they are above chance, and a statement by scores names it.
  Where none does, the manifest's priors divide, and the statement says so by its method.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..encoding.fields import PPM, U16, U32, Label
from ..errors import LocalProtocolError
from ..ids import Cid
from .scoring import PRIOR_METHOD

COARSE_METHOD = "prior-unfaithful"
"""The `method` of a statement whose weights are the priors because the scores are not above chance."""
UNMEASURED_METHOD = "prior-unmeasured"
"""The same because nobody has announced whether they are."""
COARSE_METHODS = frozenset({COARSE_METHOD, UNMEASURED_METHOD})
PRIOR_METHODS = COARSE_METHODS | {PRIOR_METHOD}
"""All methods whose weights are the priors."""


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
        return apart > 0 and (100 * apart) ** 2 > 196**2 * (self.error_ppm**2 + self.null_error_ppm**2)


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
