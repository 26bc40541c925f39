"""What attribution costs beside serving when only a sample of receipts is scored, and how far that sample's
shares are from all receipts' shares. Receipts are drawn as `protocol.attribution.pools` draws them, of equal
amounts."""

from __future__ import annotations

import numpy as np

from .measures import Floats

SCORINGS = 2
"""Attributors that score each drawn receipt."""


def affordable(receipts: int, serving_s: float, scoring_s: float, fraction: float) -> int:
    """How many receipts of a pool may be drawn so that scoring stays within a fraction of serving."""
    return min(receipts, int(fraction * receipts * serving_s / (SCORINGS * scoring_s)))


def cost_fraction(drawn: int, receipts: int, serving_s: float, scoring_s: float) -> float:
    """Processor seconds of scoring, by those of serving all receipts."""
    return drawn * SCORINGS * scoring_s / (receipts * serving_s)


def sampling_error(
    paid: Floats, receipts: int, drawn: int, seed: int, repeats: int = 400
) -> tuple[float, float]:
    """The mean total variation between a pool's shares by the drawn receipts and by all, and the mean
    standard error of a contributor's share.

    `paid` (answers, contributors) are measured shares; a pool's receipts are drawn from them.
    """
    rng = np.random.default_rng(seed)
    gaps = np.zeros((repeats, paid.shape[1]))
    for gap in gaps:
        pool = paid[rng.integers(0, len(paid), receipts)]
        sample = pool[rng.permutation(receipts)[:drawn]]
        gap[:] = sample.mean(0) - pool.mean(0)
    return float(0.5 * np.abs(gaps).sum(1).mean()), float(gaps.std(0).mean())
