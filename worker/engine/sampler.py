"""The pinned sampler's fast twin: the same token as `protocol.sampler`, without ranking a whole vocabulary.

Rules of this file:
- `protocol.sampler` is the specification; this file is held to it by `tests/vectors/sampler.json` and by
  random trials. Penalties and noise are the reference's own functions; only rule 4 (the filters) is done
  differently.
- A filter keeps a prefix of the rank order, so the sorted *values* decide how many survive, and a threshold
  decides who: ids above the last value, and of those equal to it the lowest.
- Unfiltered, an id further below the best than the noise's range cannot win and draws none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...protocol.messages import TokenLogprob
from ...protocol.requests import PPM, Sampling
from ...protocol.sampler import Floats, Ids, gumbel, penalise
from .types import Logprobs

Logits = npt.NDArray[np.float32]
_NOISE_RANGE = 26.1
"""Largest difference of two Gumbel values: they lie in [-3.14, 22.88]."""


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
    scores = penalise(logits.astype(np.float64), sampling.repetition_penalty_ppm, draw.history)
    if sampling.temperature_ppm == 0:
        return int(scores.argmax())
    scores /= sampling.temperature_ppm / PPM
    ids = survivors(scores, sampling)
    return int(ids[np.argmax(scores[ids] + gumbel(sampling.seed, draw.position, ids))])


def survivors(scores: Floats, sampling: Sampling) -> Ids:
    """The ids, ascending, that the filters leave and that can still win."""
    if not (sampling.top_k or sampling.top_p_ppm < PPM or sampling.min_p_ppm):
        return np.flatnonzero(scores >= scores.max() - _NOISE_RANGE)
    ranked = _ranked_values(scores, sampling.top_k)
    return _first_in_rank(scores, ranked, _surviving_count(ranked, sampling))


def _ranked_values(scores: Floats, top_k: int) -> Floats:
    """The largest `top_k` scores (0: all), descending, without -inf."""
    negated = -scores
    if 0 < top_k < len(negated):
        negated = np.partition(negated, top_k - 1)[:top_k]
    ranked: Floats = -np.sort(negated)
    return ranked[np.isfinite(ranked)]


def _surviving_count(ranked: Floats, sampling: Sampling) -> int:
    weights, count = np.exp(ranked - ranked[0]), len(ranked)
    if sampling.top_p_ppm < PPM:
        sums = np.cumsum(weights)
        count = min(count, int(np.searchsorted(sums, sums[-1] * (sampling.top_p_ppm / PPM))) + 1)
    return min(count, int(np.count_nonzero(weights >= sampling.min_p_ppm / PPM)))


def _first_in_rank(scores: Floats, ranked: Floats, count: int) -> Ids:
    last = ranked[count - 1]
    above = np.flatnonzero(scores > last)
    equal = np.flatnonzero(scores == last)[: count - len(above)]
    return np.sort(np.concatenate((above, equal)))


def compute_logprobs(logits: Logits, token: int, top: int) -> Logprobs:
    """The chosen token's log-probability and those of the `top` most likely, of one row of finite logits."""
    values = logits.astype(np.float64)
    values -= values.max()
    values -= np.log(np.exp(values).sum())
    best = np.lexsort((np.arange(len(values)), -values))[:top] if top else np.empty(0, np.int64)
    return Logprobs(_micro(token, values), tuple(_micro(int(index), values) for index in best))


def _micro(token: int, logprobs: npt.NDArray[Any]) -> TokenLogprob:
    return TokenLogprob(token, max(0, round(-float(logprobs[token]) * 1e6)))
