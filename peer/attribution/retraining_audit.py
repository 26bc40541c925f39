"""Level 3: the adapter trained again without each contributor, and what that does to one answer.

Rules of this file: it is reduced, and says so: a few contributors, maybe fewer steps, one order of batches.
Another order alone moves pay by several percent, so only the order of contributors is judged, and beside it
stands how often chance does as well. Where the priors divide there is no order to judge. What training
committed for attribution is made again first (`remade_check`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations

from ...protocol.attribution.faithfulness import PRIOR_METHODS
from ...protocol.attribution.scoring import prior_weights
from ...protocol.errors import NotFound
from ...protocol.ids import Address, checksummed
from .audit import Audit
from .evidence import Evidence
from .findings import Checks, Finding
from .remade_check import check_remade, trained_on

MOST_LEFT_OUT = 6


@dataclass(frozen=True, slots=True)
class Effect:
    """A contributor's weight, and how many nats a token its rows took off the answer."""

    payee: Address
    ppm: int
    nats: float


def verify_by_retraining(evidence: Evidence, audit: Audit) -> Finding:
    """Level 3: as many trainings as contributors left out, and one; and a training as far as the early
    checkpoint.

    Raises NotFound, InvalidModel, InvalidAdapter, TrainingFailed, AttributionFailed.
    """
    not_shown = (
        "anything exact: retraining is itself random",
        "contributors that were not left out, and rows within a contributor",
    )
    checks = Checks(3, not_shown)
    return checks.run(lambda: _retrain(evidence, audit, checks))


def _retrain(evidence: Evidence, audit: Audit, checks: Checks) -> None:
    if evidence.manifest is None:
        return checks.shows("no adapter was used: there is nothing to retrain")
    if evidence.index is None or evidence.statement is None:
        return checks.shows("no statement names an index: the priors apply, by rule")
    if evidence.withdrawn:
        return checks.shows(f"NOTE: {evidence.withdrawn}: nobody can train again on all that it learnt from")
    check_remade(evidence, audit, checks)
    if len({payee for payee, _ in trained_on(evidence)}) < 2:
        return checks.shows("one contributor gave every row: it has all, whatever retraining says")
    steps = min(audit.steps, evidence.manifest.recipe.steps)
    effects = measure_effects(evidence, replace(audit, steps=steps))
    for one in effects:
        checks.shows(
            f"without {_named(evidence, one.payee)} (paid {one.ppm / 10_000:.2f} %) each token of the answer "
            f"is {abs(one.nats):.4f} nats {'less' if one.nats >= 0 else 'more'} likely"
        )
    checks.shows(
        f"reduced: {len(effects)} contributors left out, {steps} of {evidence.manifest.recipe.steps} steps, "
        "one order of batches"
    )
    if evidence.statement.record.method in PRIOR_METHODS:
        return checks.shows("the priors divide this answer, no scores: there is nothing to hold to this")
    agreement, chance = _rank_correlation(effects)
    told = (
        f"rank correlation of weights with retraining: {agreement:+.2f}; of orders drawn at random "
        f"{chance:.0%} do as well"
    )
    (checks.shows if agreement > 0 else checks.fails)(told)


def measure_effects(evidence: Evidence, audit: Audit) -> list[Effect]:
    """The contributors with the largest weights, each left out in turn, the largest first."""
    from ...worker.attribution.retraining import Retraining, leave_out
    from ...worker.factory.examples import Encoder
    from ...worker.factory.job import Pair
    from ...worker.models.reference import load_base

    assert evidence.manifest is not None
    prompt = evidence.stored.prompt
    if prompt is None:
        raise NotFound("retraining needs this receipt's prompt on this machine")
    owned = [(payee, Pair(row.question, row.answer)) for payee, row in trained_on(evidence)]
    weights = _weights(evidence, {payee for payee, _ in owned})
    base = load_base(audit.base_dir)
    config = replace(audit.recipe_of(evidence.manifest), steps=audit.steps)
    retraining = Retraining(base, config, [pair for _, pair in owned], audit.work_dir)
    answer = Encoder(base).answer(prompt.messages, evidence.before + evidence.stored.tokens)
    subsets = leave_out([payee for payee, _ in owned], list(weights))
    stages = ["training on all rows", *(f"training without {_name(evidence, payee)}" for payee in weights)]

    def tell(subset: int, step: int, of: int) -> None:
        audit.progress(f"{stages[subset]} ({subset + 1} of {len(stages)})", step, of)

    values = retraining.values(subsets, [answer], tell)[:, 0]
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


def _named(evidence: Evidence, payee: Address) -> str:
    """A contributor's account, behind the name that its shards say."""
    return f"{_name(evidence, payee)} {checksummed(payee)}"


def _name(evidence: Evidence, payee: Address) -> str:
    """The name that a contributor's shards say."""
    shards = (shard for datanet in evidence.datanets for shard in datanet.shards)
    named = (shard.shard.header.contributor for shard in shards if shard.payee == payee)
    return next(named, checksummed(payee))


def _rank_correlation(effects: list[Effect]) -> tuple[float, float]:
    """Spearman's, and which part of all orders reaches it."""
    import numpy as np

    from ...worker.attribution.faithfulness import spearman

    nats = np.array([one.nats for one in effects])
    orders = nats[np.array(list(permutations(range(len(effects)))))].T
    paid = np.array([[float(one.ppm)] for one in effects]).repeat(orders.shape[1], 1)
    found = spearman(paid, orders)
    return float(found[0]), float((found >= found[0] - 1e-9).mean())
