"""How well an adapter's attribution predicts retraining: a statement beside its index, and what follows.

Rules of this file: correlations travel as parts per million above -1, so that 1,000,000 says nothing and
2,000,000 everything. A method that is not above chance divides no money: the manifest's priors do, and every
statement says so by its method.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import LocalProtocolError
from .fields import U16, U32, Label
from .ids import Cid
from .requests import PPM

COARSE_METHOD = "prior-unfaithful"
"""The `method` of a statement whose weights are the priors because the scores are not above chance."""


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """The linear datamodeling score of an index against `subsets` retrainings of `steps` steps on half of
    `rows`, over `queries` held-out rows; `error_ppm` is its standard error, `null_high_ppm` what one in 40 of
    the same index with its rows dealt anew exceeds.
    """

    adapter: Cid
    index: Cid
    method: Label
    subsets: U16
    queries: U16
    rows: U32
    steps: U32
    lds_ppm: U32
    error_ppm: U32
    null_high_ppm: U32

    @property
    def above_chance(self) -> bool:
        """Whether the whole 95 % interval lies above zero, and the score above the null indexes'."""
        return 100 * self.lds_ppm - 196 * self.error_ppm > 100 * PPM and self.lds_ppm > self.null_high_ppm


def to_ppm(correlation: float) -> int:
    """A correlation as it travels. Raises LocalProtocolError beyond -1 … 1."""
    if not -1.0 <= correlation <= 1.0:
        raise LocalProtocolError(f"{correlation} is no correlation")
    return PPM + round(correlation * PPM)


def from_ppm(ppm: int) -> float:
    """A correlation as people read it."""
    return ppm / PPM - 1.0
