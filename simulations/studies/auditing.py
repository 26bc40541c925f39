"""The kind `audit`: how many audited receipts tell a cheating worker from an honest one.

An audit of a receipt gives its mean gap: how much less likely the worker's tokens were than the auditor's
own. Gaps of a kind of worker are taken as lognormal, with the medians and spreads that teacher-forced re-
checks of SmolLM2-135M answers of 96 tokens showed (12 answers a kind, sampled at temperature 0.8 with a seed;
the spread from the largest, or from smallest and largest, as the expected extremes of 12 normal values).
Evidence of several receipts is pooled by their mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..experiment.figures import Figures, Panel
from ..experiment.kinds import Kind, Outcome, Scalar
from ..experiment.measures import Floats
from ..experiment.tables import between, one_of
from ..workload.arrivals import Stream, generator

_RANGE_OF_12, _MOST_OF_12 = 3.258, 1.629
"""Expected range and maximum of twelve standard normal values."""


@dataclass(frozen=True, slots=True)
class Gaps:
    """A kind of worker: the median and the spread of ln of its receipts' mean gaps."""

    median: float
    sigma: float


def _ranged(median: float, low: float, high: float) -> Gaps:
    return Gaps(median, math.log(high / low) / _RANGE_OF_12)


HONEST = Gaps(0.0015, math.log(0.0050 / 0.0015) / _MOST_OF_12)
CHEATS = {
    "int8": _ranged(0.0041, 0.0011, 0.0105),
    "int4": _ranged(0.446, 0.214, 0.721),
    "skipped_layer": _ranged(0.228, 0.138, 0.348),
    "wrong_adapter": _ranged(0.0081, 0.0038, 0.0229),
}


@dataclass(frozen=True, slots=True)
class Audit:
    """`receipts` are pooled to a verdict; it may condemn an honest worker with probability `false_alarms`."""

    cheat: str = one_of(tuple(CHEATS), "int8")
    receipts: int = between(1, 10_000, 25)
    false_alarms: float = between(1e-5, 0.5, 1e-3)
    verdicts: int = between(100, 5_000_000, 100_000)


@dataclass(frozen=True, slots=True)
class AuditScenario:
    """Everything a run follows from, but the seed."""

    name: str
    about: str
    audit: Audit = field(default_factory=Audit)


def run_audit(scenario: AuditScenario, seed: int) -> Outcome:
    """One arm with one seed."""
    audit, draw = scenario.audit, generator(seed, Stream.LENGTHS)
    honest, cheating = (_pooled(each, audit, draw) for each in (HONEST, CHEATS[audit.cheat]))
    threshold = float(np.quantile(honest, 1 - audit.false_alarms, method="higher"))
    summary: dict[str, Scalar] = {
        "power": round(float((cheating > threshold).mean()), 6),
        "auc": round(_auc(honest, cheating), 6),
        "threshold": round(threshold, 9),
        "honest_median": round(float(np.median(honest)), 9),
        "cheating_median": round(float(np.median(cheating)), 9),
    }
    return Outcome(summary, {"roc": _roc(honest, cheating)}, 2 * audit.verdicts * audit.receipts)


def _pooled(gaps: Gaps, audit: Audit, draw: np.random.Generator) -> Floats:
    """The mean gap of so many receipts, for each verdict; drawn receipt by receipt, so memory stays small."""
    total = np.zeros(audit.verdicts)
    for _ in range(audit.receipts):
        total += draw.lognormal(math.log(gaps.median), gaps.sigma, audit.verdicts)
    return total / audit.receipts


def _auc(honest: Floats, cheating: Floats) -> float:
    """The chance that a cheating worker's figure is above an honest one's."""
    below = np.searchsorted(np.sort(honest), cheating)
    return float(below.mean() / len(honest))


def _roc(honest: Floats, cheating: Floats) -> dict[str, list[float]]:
    """Detections by false alarms."""
    alarms = np.concatenate([np.linspace(0, 0.01, 21), np.linspace(0.02, 1, 50)])
    thresholds = np.quantile(honest, 1 - alarms)
    return {
        "false_alarms": [round(float(each), 6) for each in alarms],
        "detections": [round(float((cheating >= each).mean()), 6) for each in thresholds],
    }


KIND = Kind(
    name="audit",
    config=AuditScenario,
    run=run_audit,
    columns=("power", "auc", "threshold", "honest_median", "cheating_median"),
    figures=Figures(
        x="audit.receipts",
        log_x=True,
        panels=(Panel("cheaters found", ("power",), "share"), Panel("area under the ROC curve", ("auc",))),
    ),
)
