"""Whether a statement may go by the method that it names: by scores only where these are above chance."""

from __future__ import annotations

from ...protocol.attribution.faithfulness import COARSE_METHODS, coarse_method, from_ppm
from ...protocol.attribution.scoring import PRIOR_METHOD, prior_weights
from ...protocol.errors import RemoteProtocolError
from ...protocol.receipts.channels import combine_channels, payable
from ...protocol.receipts.records import AttributionStatement, Weight
from .evidence import Evidence


def check_coarse(evidence: Evidence, statement: AttributionStatement) -> str | None:
    """Why the priors divide, where nothing that the statement names says that its scores are above chance;
    None where something does. Raises RemoteProtocolError where the statement goes by the other.
    """
    method, found = coarse_method(evidence.faithfulness, statement.index), evidence.faithfulness
    if method is None and statement.method in COARSE_METHODS:
        raise RemoteProtocolError(f"{statement.method!r}, but the scores were measured to be above chance")
    if method is None:
        return None
    if statement.method != method:
        raise RemoteProtocolError(
            f"no measurement of this index allows {statement.method!r}; {method!r} applies"
        )
    if statement.weights != _priors_with_parts(evidence, statement):
        raise RemoteProtocolError("where scores are not above chance the weights must be the priors")
    if found is None or found.index != statement.index:
        return "nobody has measured these scores: the manifest's priors divide, as they must"
    return (
        f"the author measured these scores: {from_ppm(found.found.lds_ppm):+.3f} against retraining is not "
        "above chance, so the manifest's priors divide, as they must"
    )


def check_method(evidence: Evidence, statement: AttributionStatement) -> str:
    """What allows scores to divide. Raises RemoteProtocolError where the statement's method is not its
    index's, or where it found no influence and does not go by the priors.
    """
    assert evidence.index is not None
    assert evidence.faithfulness is not None
    if statement.method == PRIOR_METHOD:
        if statement.weights != _priors_with_parts(evidence, statement):
            raise RemoteProtocolError("without influence the weights must be the manifest's priors")
    elif statement.method != evidence.index.manifest.method:
        raise RemoteProtocolError(f"the statement is by {statement.method!r}, its index is not")
    lds = from_ppm(evidence.faithfulness.found.lds_ppm)
    return f"the author measured these scores to be above chance: {lds:+.3f} against retraining"


def _priors_with_parts(evidence: Evidence, statement: AttributionStatement) -> tuple[Weight, ...]:
    """The priors, with what was stated of the prompt's parts."""
    assert evidence.manifest is not None
    contributors = {prior.payee for prior in evidence.manifest.priors}
    return combine_channels(prior_weights(evidence.manifest), payable(statement.effects, contributors))
