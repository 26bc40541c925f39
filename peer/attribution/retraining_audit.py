"""Level 3: the adapter trained again without each contributor, and what that does to one answer.

Rules of this file: it is reduced, and says so: a few contributors, maybe fewer steps, one order of batches.
Another order alone moves pay by several percent, so only the order of contributors is judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ...protocol.attribution.scoring import prior_weights
from ...protocol.errors import NotFound
from ...protocol.ids import Address, checksummed
from .evidence import Evidence
from .findings import Finding

MOST_LEFT_OUT = 6
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Audit:
    """How much to train: `steps` of the recipe's at most, in `work_dir`, where a stopped audit goes on."""

    base_dir: Path
    work_dir: Path
    steps: int


@dataclass(frozen=True, slots=True)
class Effect:
    """A contributor's weight, and how many nats a token its rows took off the answer."""

    payee: Address
    ppm: int
    nats: float


def verify_by_retraining(evidence: Evidence, audit: Audit, progress: Progress) -> Finding:
    """Level 3: as many trainings as contributors left out, and one.

    Raises NotFound, InvalidModel, InvalidAdapter, TrainingFailed.
    """
    not_shown = (
        "anything exact: retraining is itself random",
        "contributors that were not left out, and rows within a contributor",
    )
    if evidence.manifest is None:
        return Finding(3, True, ("no adapter was used: there is nothing to retrain",), not_shown)
    if evidence.index is None:
        return Finding(3, True, ("no statement names an index: the priors apply, by rule",), not_shown)
    steps = min(audit.steps, evidence.manifest.recipe.steps)
    effects = measure_effects(evidence, replace(audit, steps=steps), progress)
    told = tuple(
        f"without {checksummed(one.payee)} (paid {one.ppm / 10_000:.2f} %) the answer costs "
        f"{one.nats:+.4f} nats a token more"
        for one in effects
    )
    agreement = _rank_correlation(effects)
    reduced = (
        f"reduced: {len(effects)} contributors left out, {steps} of {evidence.manifest.recipe.steps} steps, "
        "one order of batches"
    )
    verdict = f"rank correlation of weights with retraining: {agreement:+.2f}"
    return Finding(3, agreement > 0, (*told, reduced, verdict), not_shown)


def measure_effects(evidence: Evidence, audit: Audit, progress: Progress) -> list[Effect]:
    """The contributors with the largest weights, each left out in turn, the largest first."""
    from ...worker.attribution.retraining import Retraining, leave_out
    from ...worker.factory.examples import Encoder
    from ...worker.factory.job import Pair
    from ...worker.factory.manifests import config_of
    from ...worker.factory.selection import OwnedShard, select_rows
    from ...worker.models.reference import load_base

    assert evidence.manifest is not None
    prompt = evidence.stored.prompt
    shards = [OwnedShard(s.payee, s.rows) for datanet in evidence.datanets for s in datanet.shards]
    kept = select_rows(shards).rows  # copies were not trained on
    owned = [(one.payee, Pair(one.row.question, one.row.answer)) for one in kept]
    if prompt is None or len({payee for payee, _ in owned}) < 2:
        raise NotFound("retraining needs this receipt's prompt and rows of two contributors on this machine")
    weights = _weights(evidence, {payee for payee, _ in owned})
    base = load_base(audit.base_dir)
    config = replace(config_of(evidence.manifest.recipe), steps=audit.steps)
    retraining = Retraining(base, config, [pair for _, pair in owned], audit.work_dir)
    answer = Encoder(base).answer(prompt.messages, evidence.before + evidence.stored.tokens)
    subsets = leave_out([payee for payee, _ in owned], list(weights))
    values = retraining.values(subsets, [answer], progress)[:, 0]
    return [
        Effect(payee, ppm, float(values[0] - without))
        for (payee, ppm), without in zip(weights.items(), values[1:], strict=True)
    ]


def _weights(evidence: Evidence, contributors: set[Address]) -> dict[Address, int]:
    assert evidence.manifest is not None
    stated = evidence.statement.record.weights if evidence.statement else prior_weights(evidence.manifest)
    ppm = dict.fromkeys(sorted(contributors), 0) | {w.payee: w.ppm for w in stated if w.payee in contributors}
    largest = sorted(ppm, key=lambda payee: (-ppm[payee], payee))[:MOST_LEFT_OUT]
    return {payee: ppm[payee] for payee in largest}


def _rank_correlation(effects: list[Effect]) -> float:
    import numpy as np

    from ...worker.attribution.faithfulness import spearman

    paid = np.array([[float(one.ppm)] for one in effects])
    return float(spearman(paid, np.array([[one.nats] for one in effects]))[0])
