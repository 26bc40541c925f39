"""On what the weights that `receipt explain` shows rest: whose statement, what was measured, or the priors.

Rules of this file: what divides is what settlement takes. A statement that does not count there is not shown
as if it did.
"""

from __future__ import annotations

from ...protocol.attribution.faithfulness import UNMEASURED_METHOD
from ...protocol.attribution.pools import Basis
from ...protocol.attribution.scoring import PRIOR_METHOD, prior_weights
from ...protocol.receipts.credits import apportion
from .evidence import Evidence
from .measured import describe_faithfulness
from .others_measured import tell_others

CONTRADICTED = {
    Basis.DISPUTED: (
        "two attributors are too far apart: the manifest's prior weights divide until somebody rules"
    ),
    Basis.CHALLENGED: "a row of the index is said not to be its row's gradient: the prior weights divide",
}
"""Why scores that may divide a receipt do not."""


def method_of(evidence: Evidence) -> str:
    """By which method an answer's contributors are paid."""
    if evidence.manifest is None:
        return "none"
    if evidence.statement is None or counts_for_nothing(evidence):
        return PRIOR_METHOD
    basis = None if evidence.judged is None else evidence.judged.basis
    return basis.value if basis in CONTRADICTED else evidence.statement.record.method


def is_overruled(evidence: Evidence) -> bool:
    """Whether two statements contradict each other, so that nothing of either is paid."""
    if evidence.manifest is None or evidence.judged is None or evidence.judged.basis not in CONTRADICTED:
        return False
    return evidence.judged.weights == prior_weights(evidence.manifest)


def counts_for_nothing(evidence: Evidence) -> bool:
    """Whether the worker's statement is known to divide nothing."""
    if evidence.wrong:
        return _is_paid_by_priors(evidence)
    return evidence.judged is not None and evidence.judged.basis is Basis.PRIOR


def _is_paid_by_priors(evidence: Evidence) -> bool:
    """Of a statement whose index or measurement is refused, what settlement makes of it shows in the credits
    alone."""
    assert evidence.manifest is not None
    paid = {each.account: each.amount for each in evidence.part_credits if each.role == "contributor"}
    priors = prior_weights(evidence.manifest)
    due = apportion(sum(paid.values()), [each.ppm for each in priors], [each.payee for each in priors])
    return all(paid.get(each.payee, 0) == amount for each, amount in zip(priors, due, strict=True))


def confidence_of(evidence: Evidence) -> str:
    """On what the weights rest, and what others say of that, in a sentence."""
    told = tell_others(evidence.others, evidence.faithfulness)
    return _basis_of(evidence) if told is None else f"{_basis_of(evidence)}; {told}"


def _basis_of(evidence: Evidence) -> str:
    if evidence.manifest is None:
        return "no adapter was used: nobody's rows are paid"
    if evidence.statement is None:
        return "no statement: the manifest's prior weights, each contributor's part of the rows"
    if evidence.wrong:
        divides = "; the manifest's prior weights divide" if counts_for_nothing(evidence) else ""
        return f"what the worker's statement names is refused: {evidence.wrong}{divides}"
    if counts_for_nothing(evidence):
        return (
            "the worker's statement does not count, as nothing that it names allows its weights: the "
            "manifest's prior weights divide"
        )
    if evidence.judged is not None and evidence.judged.basis in CONTRADICTED:
        return CONTRADICTED[evidence.judged.basis]
    found, method = evidence.faithfulness, evidence.statement.record.method
    if method == UNMEASURED_METHOD:
        return "the statement names no measurement of its scores: the manifest's prior weights divide"
    if found is None:
        return "what was measured of this adapter's attribution is not on this machine"
    if method == PRIOR_METHOD:
        return f"no row influenced this answer, so the prior weights divide; {describe_faithfulness(found)}"
    return describe_faithfulness(found)
