"""Whether what a statement says of a prompt's parts is so: each part left out again.

Rules of this file: what counts is the money that would go elsewhere, as for the query vector. The
adapter's own weights are taken as the statement's query gives them, so that only the parts are compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...protocol.attribution.faithfulness import PRIOR_METHODS
from ...protocol.attribution.pools import TOLERANCE_PPM, total_variation_ppm
from ...protocol.attribution.scoring import compute_scores, compute_weights, prior_weights, read_sums
from ...protocol.receipts.channels import combine_channels, payable
from ...protocol.receipts.records import AttributionStatement, Weight
from ...protocol.requests.records import Prompt
from ...worker.attribution.ablation import ablated, measured_effects
from .evidence import Evidence

if TYPE_CHECKING:
    from ...worker.attribution.attributor import Attributor


def recheck_effects(evidence: Evidence, attributor: Attributor, prompt: Prompt) -> tuple[bool, str]:
    """Whether the weights by the stated effects are those by the ones computed here, and a sentence; one
    forward pass a variant. Raises AttributionFailed, RemoteProtocolError.
    """
    assert evidence.manifest is not None
    assert evidence.statement is not None
    statement, seed = evidence.statement.record, evidence.stored.receipt_hash
    output = evidence.before + evidence.stored.tokens
    losses = attributor.losses(statement.adapter, ablated(prompt, seed), output)
    own = measured_effects(prompt, seed, losses)
    contributors = {prior.payee for prior in evidence.manifest.priors}
    weights = _adapter_weights(evidence, statement)
    found, said = (
        combine_channels(weights, payable(each, contributors)) for each in (own, statement.effects)
    )
    apart = total_variation_ppm(found, said)
    told = f"{apart} ppm of the weights elsewhere (at most {TOLERANCE_PPM})"
    if apart > TOLERANCE_PPM:
        return False, f"the prompt's parts did not do what is stated: {told}"
    return True, f"the effects of the prompt's parts computed again agree: {told}"


def _adapter_weights(evidence: Evidence, statement: AttributionStatement) -> tuple[Weight, ...]:
    assert evidence.manifest is not None
    assert evidence.index is not None
    index, query = evidence.index.manifest, np.frombuffer(evidence.index.query, np.int8)
    scores = compute_scores(query, read_sums(index, evidence.index.sums))
    found = compute_weights(scores, index.payees)
    return prior_weights(evidence.manifest) if found is None or statement.method in PRIOR_METHODS else found
