"""How well an adapter's scores predict retraining, measured; and whether that is better than chance.

Rules of this file:
- The linear datamodeling score (Park et al., "TRAK", 2023): over random half subsets of the rows, the rank
  correlation between what the scores predict (the sum over the subset's rows) and what retraining on it is
  worth, a query at a time, averaged.
- Its interval is of both samples, queries and subsets (a jackknife for these): mean ± 1.96 standard errors.
- The null index is the same index with its rows dealt to other places: what an index that knows nothing
  reaches, again and again. Above chance means: the whole interval is, and the mean lies above all but 1 in 40
  of the null indexes.
- Draws are SHAKE-256's. Nothing here needs torch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...protocol.errors import LocalProtocolError

NULLS = 200
FEWEST_SUBSETS, FEWEST_ROWS = 4, 4
_Z = 1.96
Floats64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class LdsReport:
    """Mean rank correlation with its standard error, and what null indexes reach: their mean and the value
    that 1 in 40 of them exceeds."""

    lds: float
    standard_error: float
    null_mean: float
    null_high: float
    subsets: int
    queries: int

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return self.lds - _Z * self.standard_error

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return self.lds + _Z * self.standard_error

    @property
    def above_chance(self) -> bool:
        """Whether the scores may divide money."""
        return self.low > 0.0 and self.lds > self.null_high


def draw_halves(rows: int, subsets: int, seed: bytes) -> Bools:
    """(subsets, rows) membership: each a random half of the rows."""
    members = np.zeros((subsets, rows), np.bool_)
    for number in range(subsets):
        members[number, _shuffled(rows, seed + b"/half/" + number.to_bytes(4, "big"))[: rows // 2]] = True
    return members


def measure_lds(scores: Floats64, members: Bools, values: Floats64, seed: bytes = b"") -> LdsReport:
    """From scores (queries, rows), membership (subsets, rows) and retraining's values (subsets, queries).

    Raises LocalProtocolError on other shapes, too few subsets or rows, and what is not finite.
    """
    subsets, rows = members.shape
    if scores.shape != (values.shape[1], rows) or len(values) != subsets or not values.size:
        raise LocalProtocolError(f"scores {scores.shape}, subsets {members.shape}, values {values.shape}")
    if subsets < FEWEST_SUBSETS or rows < FEWEST_ROWS:
        raise LocalProtocolError(f"{subsets} subsets of {rows} rows are too few to measure a correlation")
    if not (np.isfinite(scores).all() and np.isfinite(values).all()):
        raise LocalProtocolError("a score or a retraining's value is not finite")
    each = _correlations(scores, members, values)
    left_out = np.array([_without(scores, members, values, number).mean() for number in range(subsets)])
    spread = each.var(ddof=1) / len(each) if len(each) > 1 else 0.0
    jackknife = (subsets - 1) / subsets * np.square(left_out - left_out.mean()).sum()
    nulls = np.array([_null(scores, members, values, seed, number) for number in range(NULLS)])
    return LdsReport(
        lds=float(each.mean()),
        standard_error=float(np.sqrt(spread + jackknife)),
        null_mean=float(nulls.mean()),
        null_high=float(np.quantile(nulls, 0.975)),
        subsets=subsets,
        queries=len(each),
    )


def _null(scores: Floats64, members: Bools, values: Floats64, seed: bytes, number: int) -> float:
    dealt = _shuffled(scores.shape[1], seed + b"/null/" + number.to_bytes(4, "big"))
    return float(_correlations(scores[:, dealt], members, values).mean())


def _without(scores: Floats64, members: Bools, values: Floats64, number: int) -> Floats64:
    kept = np.arange(len(members)) != number
    return _correlations(scores, members[kept], values[kept])


def _correlations(scores: Floats64, members: Bools, values: Floats64) -> Floats64:
    """Spearman's, a query at a time over the subsets."""
    return spearman(members.astype(np.float64) @ scores.T, values)


def spearman(a: Floats64, b: Floats64) -> Floats64:
    """Column by column over axis 0; 0 where a column is constant."""
    a, b = (_centred_ranks(x) for x in (a, b))
    lengths = np.sqrt(np.square(a).sum(0) * np.square(b).sum(0))
    found = np.divide((a * b).sum(0), lengths, out=np.zeros(a.shape[1]), where=lengths > 0)
    within: Floats64 = np.clip(found, -1.0, 1.0)
    return within


def _centred_ranks(columns: Floats64) -> Floats64:
    """Mean ranks of ties, minus their mean."""
    ranks = np.empty_like(columns)
    for column in range(columns.shape[1]):
        _, inverse, counts = np.unique(columns[:, column], return_inverse=True, return_counts=True)
        last = np.cumsum(counts)
        ranks[:, column] = (last - (counts - 1) / 2)[inverse]
    centred: Floats64 = ranks - ranks.mean(0)
    return centred


def _shuffled(count: int, seed: bytes) -> npt.NDArray[np.int64]:
    stream = hashlib.shake_256(b"commonlore/faithfulness/1" + seed).digest(8 * count)
    return np.argsort(np.frombuffer(stream, "<u8"), kind="stable").astype(np.int64)
