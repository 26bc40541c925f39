"""Whether strangers come to the same numbers, and what scoring costs beside serving."""

from __future__ import annotations

import json
from dataclasses import asdict
from statistics import median
from typing import Any

import numpy as np

from commonlore.protocol.attribution.pools import sample_size
from commonlore.worker.attribution.curvature_run import fit_curvature
from commonlore.worker.attribution.gradient import compute_vectors
from commonlore.worker.attribution.sketch import WIDTH
from commonlore.worker.factory.examples import Example

from ..child import ROOT
from .checks import THREADS, l1_digests, l2_repeats
from .faithful import trained
from .methods import timed
from .ours import Indexer, Setting, receipt_shares, seed_for
from .pools import SCORINGS, affordable, cost_fraction, sampling_error
from .training import Learner
from .world import World

SERVING = ROOT / "benchmarks" / "results" / "serving.json"
ROW, ARM, PROMPT_TOKENS, ANSWER_TOKENS = "mixed8", "ours-bf16", 32, 24
"""The serving benchmark's row that attribution is compared with, and its lengths."""
RECEIPTS, FRACTION, TIMED = 1_000, 0.05, 7
EPOCHS = 30
"""Epochs whose pools' errors are looked at together: they are drawn anew each time."""
Message = dict[str, Any]


def measure_checks(world: World, repeats: int) -> Message:
    """L1 and L2 on one world's receipts."""
    subject, indexer, setting = trained(world), Indexer(world), Setting()
    index = indexer.index(subject, setting)
    digests = l1_digests(index, world.owner, world.folder)
    again = l2_repeats(indexer, subject, setting, index, repeats)
    return {
        "receipts": len(world.questions),
        "threads": list(THREADS),
        "l1_bit_exact": len(set(digests)) == 1,
        "l2": asdict(again),
        "shares": receipt_shares(index, world.owner, len(world.contributors)).tolist(),
    }


def measure_cost(world: World, shares: np.ndarray) -> Message:
    """At RECEIPTS an adapter and epoch: how many are drawn, what that costs, how far the pool is off."""
    serving_s, scoring_s = serving_seconds(), scoring_seconds(world)
    drawn, most = sample_size(RECEIPTS), affordable(RECEIPTS, serving_s, scoring_s, FRACTION)
    return {
        "receipts": RECEIPTS,
        "epochs": EPOCHS,
        "serving_s_per_answer": serving_s,
        "scoring_s_per_answer": scoring_s,
        "scored_by": SCORINGS,
        "drawn": drawn,
        "affordable": most,
        "cost_fraction": cost_fraction(drawn, RECEIPTS, serving_s, scoring_s),
        "by_drawn": {
            str(count): _drawn(count, shares, serving_s, scoring_s)
            for count in sorted({2, 5, drawn, most, 20, 50, 100, RECEIPTS} - {0})
        },
    }


def _drawn(count: int, shares: np.ndarray, serving_s: float, scoring_s: float) -> Message:
    off, error = sampling_error(shares, RECEIPTS, count, count)
    later, _ = sampling_error(shares, EPOCHS * RECEIPTS, EPOCHS * count, count)
    fraction = cost_fraction(count, RECEIPTS, serving_s, scoring_s)
    return {"cost_fraction": fraction, "pool_tv": off, "share_se": error, "pool_tv_of_epochs": later}


def serving_seconds() -> float:
    """Processor seconds of one answer of the serving benchmark, by its committed result."""
    rows = json.loads(SERVING.read_text(encoding="utf-8"))["rows"]
    (speed,) = [row["tokens_per_cpu_s"][0] for row in rows if (row["row"], row["arm"]) == (ROW, ARM)]
    return ANSWER_TOKENS / float(speed)


def scoring_seconds(world: World) -> float:
    """Processor seconds of an answer's vector, at the lengths of the serving benchmark: the median."""
    indexer = Indexer(world)
    factors = indexer.factors(Learner(world).state())
    curvature = fit_curvature(indexer.model, factors, world.rows[:2], seed_for(world, "labels"))
    transform = indexer.transform(curvature, WIDTH)
    rng = np.random.default_rng(1)
    size = world.base.architecture.vocabulary
    seconds = []
    for _ in range(TIMED):
        tokens = rng.integers(0, size, PROMPT_TOKENS + ANSWER_TOKENS).tolist()
        answer = Example(tuple(tokens), PROMPT_TOKENS)
        seconds.append(
            timed(lambda a=answer: compute_vectors(indexer.model, factors, transform.answer, [a]))[1]
        )
    return median(seconds)
