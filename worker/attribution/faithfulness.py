"""How well an adapter's scores predict retraining: the arithmetic.

Rules of this file:
- The linear datamodeling score (Park et al., "TRAK", 2023): over random half subsets of the rows, the rank
  correlation between what the scores predict (the sum over the subset's rows) and what retraining on it is
  worth, a query at a time, averaged.
- Its standard error is of both samples, queries and subsets (a jackknife for these).
- Chance is looked at twice. The null index is the same index with its rows dealt to other places: what an
  index that knows nothing reaches, again and again. The null adapter has learnt questions with wrong answers,
  and its index other rows in each place: what such scores reach, held to the same retraining, with its error.
- Draws are SHAKE-256's. Nothing here needs torch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...protocol.attribution.faithfulness import FEWEST_ROWS, FEWEST_SUBSETS, Correlations, to_ppm
from ...protocol.encoding.fields import PPM
from ...protocol.errors import LocalProtocolError

NULLS = 200
Floats64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Lds:
    """Mean rank correlation with its standard error."""

    mean: float
    standard_error: float


def draw_halves(rows: int, subsets: int, seed: bytes) -> Bools:
    """(subsets, rows) membership: each a random half of the rows."""
    members = np.zeros((subsets, rows), np.bool_)
    for number in range(subsets):
        members[number, shuffled(rows, seed + b"/half/" + number.to_bytes(4, "big"))[: rows // 2]] = True
    return members


def measure_lds(
    scores: Floats64, null_scores: Floats64, members: Bools, worth: Floats64, seed: bytes = b""
) -> Correlations:
    """From scores (queries, rows), the null adapter's, membership (subsets, rows) and retraining's values
    (subsets, queries).

    Raises LocalProtocolError on other shapes, too few subsets or rows, and what is not finite.
    """
    subsets, rows = members.shape
    wanted = worth.shape[1], rows
    if (scores.shape, null_scores.shape) != (wanted, wanted) or len(worth) != subsets or not worth.size:
        raise LocalProtocolError(f"scores {scores.shape}, subsets {members.shape}, values {worth.shape}")
    if subsets < FEWEST_SUBSETS or rows < FEWEST_ROWS:
        raise LocalProtocolError(f"{subsets} subsets of {rows} rows are too few to measure a correlation")
    if not all(np.isfinite(each).all() for each in (scores, null_scores, worth)):
        raise LocalProtocolError("a score or a retraining's value is not finite")
    nulls = [_null(scores, members, worth, seed, number) for number in range(NULLS)]
    own, null = _lds(scores, members, worth), _lds(null_scores, members, worth)
    return Correlations(
        lds_ppm=to_ppm(own.mean),
        error_ppm=round(own.standard_error * PPM),
        null_high_ppm=to_ppm(float(np.quantile(nulls, 0.975))),
        null_ppm=to_ppm(null.mean),
        null_error_ppm=round(null.standard_error * PPM),
    )


def _lds(scores: Floats64, members: Bools, worth: Floats64) -> _Lds:
    each, subsets = _correlations(scores, members, worth), len(members)
    left_out = np.array([_without(scores, members, worth, number).mean() for number in range(subsets)])
    spread = each.var(ddof=1) / len(each) if len(each) > 1 else 0.0
    jackknife = (subsets - 1) / subsets * np.square(left_out - left_out.mean()).sum()
    return _Lds(float(each.mean()), float(np.sqrt(spread + jackknife)))


def _null(scores: Floats64, members: Bools, worth: Floats64, seed: bytes, number: int) -> float:
    dealt = shuffled(scores.shape[1], seed + b"/null/" + number.to_bytes(4, "big"))
    return float(_correlations(scores[:, dealt], members, worth).mean())


def _without(scores: Floats64, members: Bools, worth: Floats64, number: int) -> Floats64:
    kept = np.arange(len(members)) != number
    return _correlations(scores, members[kept], worth[kept])


def _correlations(scores: Floats64, members: Bools, worth: Floats64) -> Floats64:
    """Spearman's, a query at a time over the subsets."""
    return spearman(members.astype(np.float64) @ scores.T, worth)


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


def shuffled(count: int, seed: bytes) -> npt.NDArray[np.int64]:
    """The numbers below `count` in an order that `seed` names."""
    stream = hashlib.shake_256(b"commonlore/faithfulness/1" + seed).digest(8 * count)
    return np.argsort(np.frombuffer(stream, "<u8"), kind="stable").astype(np.int64)
