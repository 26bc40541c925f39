"""The pinned sampler: which token follows from logits, a seed and a position.

Anyone can recompute any token alone. This is the specification and its readable reference (numpy, float64).
Vectorised twins are held to `tests/vectors/sampler.json`.

Rules of this file, in their order:

1. Input: one float32 logit per vocabulary id, taken to float64; -inf marks an id that cannot be chosen. NaN
   and +inf are errors.
2. Penalty r = repetition_penalty_ppm / 10^6: the logit x of every id that occurs in `history` becomes x / r
   where x > 0 and x · r elsewhere (https://arxiv.org/abs/1909.05858, section 4.1). `history` is the prompt's
   tokens (chat template applied) followed by all output tokens before this position, those that another
   worker delivered included.
3. Temperature T = temperature_ppm / 10^6. T = 0 is greedy: the largest logit wins, ties to the lowest id, and
   nothing below applies. Otherwise z = x / T.
4. Ids are ranked by (-z, id). Filters follow each other, each on what the one before left: top-k (when k > 0)
   keeps the first k. top-p (when p < 1) keeps the shortest prefix whose weights w = exp(z - max z), summed
   one by one in rank order, reach p · (the sum of all kept weights); never fewer than one. min-p (when m > 0)
   keeps w >= m. The first id in rank survives everything.
5. Noise of an id: g = -ln(-ln u) with u = (x + 1/2) / 2^32, where x is word 0 of Philox4x32-10
   (https://doi.org/10.1145/2063384.2063405) with counter (position, id, 0, 0) and as key the two
   little-endian uint32 words of BLAKE2b-64(seed as 8 bytes big-endian). u is never 0 or 1, and -3.14 < g <
   22.88.
6. The token is the survivor with the largest z + g (a draw from their softmax), ties to the lowest id.

`position` counts output tokens of the answer from 0, those that another worker delivered included: a
continued answer draws the noise that the uninterrupted one would have drawn.

exp and ln are the platform's float64 functions. They may differ in the last bit between platforms, which
moves z + g by less than 10^-14 and matters only to candidates (or a top-p boundary) that close.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..encoding.fields import PPM
from ..errors import LocalProtocolError
from ..requests.records import Sampling

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint32]

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class Scores:
    """What the last step chooses from: ids that survived the filters, ascending, and z + g of each (greedy:
    z)."""

    ids: Ids
    values: Floats


def sample(
    logits: Sequence[float] | npt.NDArray[Any], sampling: Sampling, position: int, history: Sequence[int]
) -> int:
    """The token id at `position`. Raises LocalProtocolError on logits or a history that make no sense."""
    scores = compute_scores(logits, sampling, position, history)
    return int(scores.ids[np.argmax(scores.values)])  # argmax takes the first of equals, and ids ascend


def compute_scores(
    logits: Sequence[float] | npt.NDArray[Any], sampling: Sampling, position: int, history: Sequence[int]
) -> Scores:
    """The survivors of the filters and their scores: the largest is the token. Raises LocalProtocolError."""
    penalised = penalise(_checked(logits), sampling.repetition_penalty_ppm, history)
    if not 0 <= position < 1 << 32:
        raise LocalProtocolError(f"position {position} is not an unsigned 32-bit number")
    if sampling.temperature_ppm == 0:
        return Scores(np.arange(len(penalised)), penalised)
    scaled = penalised / (sampling.temperature_ppm / PPM)
    ids = np.sort(keep(scaled, sampling))
    return Scores(ids, scaled[ids] + gumbel(sampling.seed, position, ids))


def penalise(logits: Floats, penalty_ppm: int, history: Sequence[int]) -> Floats:
    """Rule 2: a new array."""
    penalised, penalty = logits.copy(), penalty_ppm / PPM
    seen = np.unique(np.asarray(history, dtype=np.int64))
    if len(seen) and not 0 <= seen[0] <= seen[-1] < len(logits):
        raise LocalProtocolError(
            f"the history holds ids {seen[0]} … {seen[-1]}; the vocabulary {len(logits)}"
        )
    if penalty_ppm != PPM:
        values = penalised[seen]
        penalised[seen] = np.where(values > 0, values / penalty, values * penalty)
    return penalised


def keep(scaled: Floats, sampling: Sampling) -> Ids:
    """Rule 4: the surviving ids in rank order."""
    ranked: Ids = np.argsort(-scaled, kind="stable").astype(np.int64)
    ranked = ranked[np.isfinite(scaled[ranked])]
    if sampling.top_k:
        ranked = ranked[: sampling.top_k]
    weights: Floats = np.exp(scaled[ranked] - scaled[ranked[0]])
    if sampling.top_p_ppm < PPM:
        sums: Floats = np.cumsum(weights)
        target = float(sums[-1]) * (sampling.top_p_ppm / PPM)
        count = int(np.searchsorted(sums, target)) + 1
        ranked, weights = ranked[:count], weights[:count]
    survivors: Ids = ranked[weights >= sampling.min_p_ppm / PPM]
    return survivors


def gumbel(seed: int, position: int, ids: Ids) -> Floats:
    """Rule 5: the noise of each id."""
    zeros = np.zeros(len(ids), np.uint32)
    counter = (np.full(len(ids), position, np.uint32), ids.astype(np.uint32), zeros, zeros)
    return gumbel_of(philox(counter, key_of(seed))[0])


def gumbel_of(words: Words) -> Floats:
    """Rule 5 after Philox: the noise that each word 0 means."""
    noise: Floats = words.astype(np.float64)
    noise += 0.5
    noise /= 2.0**32
    for _ in range(2):  # in place: new memory for a vocabulary costs more than what is computed in it
        np.negative(np.log(noise, out=noise), out=noise)
    return noise


@lru_cache(1024)
def key_of(seed: int) -> tuple[int, int]:
    """The Philox key of a request's seed (uint64)."""
    digest = hashlib.blake2b(seed.to_bytes(8, "big"), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


def philox(
    counter: tuple[Words, Words, Words, Words], key: tuple[int, int]
) -> tuple[Words, Words, Words, Words]:
    """Philox4x32-10 of many counters at once: four output words for each."""
    c0, c1, c2, c3 = (word.astype(np.uint64) for word in counter)
    k0, k1 = key
    for _ in range(_ROUNDS):
        first, second = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c2 = (second >> _HALF) ^ c1 ^ np.uint64(k0), (first >> _HALF) ^ c3 ^ np.uint64(k1)
        c1, c3 = second & _LOW, first & _LOW
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return c0.astype(np.uint32), c1.astype(np.uint32), c2.astype(np.uint32), c3.astype(np.uint32)


def _checked(logits: Sequence[float] | npt.NDArray[Any]) -> Floats:
    values = np.asarray(logits, dtype=np.float32).astype(np.float64)
    if values.ndim != 1 or np.isnan(values).any() or not np.isfinite(values.max(initial=-np.inf)):
        raise LocalProtocolError(
            "logits must be one finite number (or -inf) per id, at least one of them finite"
        )
    return values
