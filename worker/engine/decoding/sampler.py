"""The pinned sampler's fast twin: the same token as `protocol.inference.sampler`, without ranking a whole
vocabulary.

Rules of this file:
- `protocol.inference.sampler` is the specification; this file is held to it by `tests/vectors/sampler.json`
  and by random trials. Penalties are the reference's own function, noise is the same bits (`noise`); rule 4
  (the filters) is done differently.
- The first ids in rank are found by a bound that all of them reach, and only what reaches it is ranked: at
  49,152 ids this takes a twentieth of sorting them.
- top-p's sum of all weights is added up in another order than the reference's, so its boundary is believed
  only where the difference cannot move it (`_SLACK`); else more ids are ranked, and all of them at last.
- Unfiltered, an id further below the best than the noise's range cannot win and draws none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ....protocol.encoding.fields import PPM
from ....protocol.inference.messages import TokenLogprob
from ....protocol.inference.sampler import Floats, Ids, penalise
from ....protocol.requests.records import Sampling
from ..types import Logprobs
from .noise import gumbel

Logits = npt.NDArray[np.float32]
_NOISE_RANGE = 26.1
"""Largest difference of two Gumbel values: they lie in [-3.14, 22.88]."""
_ROWS = 16
_FEW = (64, 1024, 8192)
_SLACK = 1e-9
"""Of a sum: a million numbers added up in another order differ by less than 10^-9 of it."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What decides one row's token beside its logits. `history` is prompt and outputs so far."""

    sampling: Sampling
    position: int
    history: Sequence[int]


def choose(logits: Logits, draws: Sequence[Draw]) -> list[int]:
    """A token for each row of finite logits [rows, vocabulary]."""
    greedy = logits.argmax(axis=1)  # the first of equals, so the lowest id
    return [
        int(best) if _is_plain_greedy(draw.sampling) else _choose_one(row, draw)
        for row, best, draw in zip(logits, greedy, draws, strict=True)
    ]


def _is_plain_greedy(sampling: Sampling) -> bool:
    return sampling.temperature_ppm == 0 and sampling.repetition_penalty_ppm == PPM


def _choose_one(logits: Logits, draw: Draw) -> int:
    sampling = draw.sampling
    scores: Logits | Floats = logits
    if sampling.repetition_penalty_ppm != PPM:
        scores = penalise(logits.astype(np.float64), sampling.repetition_penalty_ppm, draw.history)
    if sampling.temperature_ppm == 0:
        return int(scores.argmax())
    ids = _contenders(scores, sampling)
    scaled = scores[ids].astype(np.float64) / (sampling.temperature_ppm / PPM)
    left = survivors(scaled, sampling)
    ids = ids[left]
    return int(ids[np.argmax(scaled[left] + gumbel(sampling.seed, draw.position, ids))])


def _contenders(scores: Logits | Floats, sampling: Sampling) -> Ids:
    """Ids, ascending; all others are without a chance.

    Told before they are taken to 64 bits: memory for a vocabulary of those costs more than what is computed.
    """
    if sampling.top_k:
        return np.flatnonzero(scores >= _bound(scores, sampling.top_k))
    if sampling.top_p_ppm < PPM:
        return np.arange(len(scores))
    depth = -math.log(sampling.min_p_ppm / PPM) if sampling.min_p_ppm else _NOISE_RANGE
    heat = sampling.temperature_ppm / PPM
    return np.flatnonzero(scores >= float(scores.max()) - depth * heat * 1.001 - 0.001)


def survivors(scores: Floats, sampling: Sampling) -> Ids:
    """The ids, ascending, that the filters leave and that can still win."""
    best, top_p, min_p = scores.max(), sampling.top_p_ppm / PPM, sampling.min_p_ppm / PPM
    if sampling.top_k:
        left = np.sort(_first(scores, sampling.top_k, top_p))
    elif top_p < 1:
        left = np.sort(_nucleus(scores, top_p))
    else:
        left = np.flatnonzero(scores >= best - _NOISE_RANGE)
    return left[np.exp(scores[left] - best) >= min_p] if min_p else left


def first_in_rank(scores: Floats, count: int) -> Ids:
    """The first `count` ids in rank order, and perhaps some that follow them."""
    if count >= len(scores):
        return np.argsort(-scores, kind="stable")
    ids = np.flatnonzero(scores >= _bound(scores, count))
    return ids[np.argsort(-scores[ids], kind="stable")]


def _bound(scores: Logits | Floats, count: int) -> float:
    """What at least `count` of the scores reach, and not many more; all, where there are no more."""
    if count >= len(scores):
        return -math.inf
    columns = scores[: len(scores) // _ROWS * _ROWS].reshape(_ROWS, -1)
    # so many columns' largest reach it; with too few columns, so many scores
    pool = columns.max(axis=0) if count <= columns.shape[1] else scores
    return float(np.partition(pool, -count)[-count])


def _first(scores: Floats, top_k: int, top_p: float) -> Ids:
    """top-k, then top-p of what that leaves, in rank order."""
    ranked = first_in_rank(scores, top_k)[:top_k]
    ranked = ranked[np.isfinite(scores[ranked])]
    if top_p == 1:
        return ranked
    sums = np.cumsum(np.exp(scores[ranked] - scores[ranked[0]]))
    return ranked[: int(np.searchsorted(sums, sums[-1] * top_p)) + 1]


def _nucleus(scores: Floats, top_p: float) -> Ids:
    """The shortest beginning of the rank that holds this share of all weights."""
    weights = scores - scores.max()
    np.exp(weights, out=weights)
    target = weights.sum() * top_p
    for count in _FEW:
        ranked = first_in_rank(scores, count)
        sums = np.cumsum(weights[ranked])
        first, last = np.searchsorted(sums, (target * (1 - _SLACK), target * (1 + _SLACK)))
        if first == last < len(ranked):
            return ranked[: first + 1]
    ranked = first_in_rank(scores, len(scores))
    sums = np.cumsum(weights[ranked])
    return ranked[: int(np.searchsorted(sums, sums[-1] * top_p)) + 1]


def compute_logprobs(logits: Logits, token: int, top: int) -> Logprobs:
    """The chosen token's log-probability and those of the `top` most likely, of one row of finite logits."""
    values = logits.astype(np.float64)
    values -= values.max()
    values -= np.log(np.exp(values).sum())
    best = first_in_rank(values, top)[:top] if top else ()
    return Logprobs(_micro(token, values), tuple(_micro(int(index), values) for index in best))


def _micro(token: int, logprobs: npt.NDArray[Any]) -> TokenLogprob:
    return TokenLogprob(token, max(0, round(-float(logprobs[token]) * 1e6)))
