"""Whether a statement's weights follow, and by the method that it names: by scores only where these are above
chance.
"""

from __future__ import annotations

import hashlib

import numpy as np

from ...protocol.attribution.challenges import is_well_put
from ...protocol.attribution.faithfulness import (
    CHALLENGED_METHOD,
    COARSE_METHODS,
    coarse_method,
    from_ppm,
)
from ...protocol.attribution.pool_evidence import priors_with_parts
from ...protocol.attribution.scoring import PRIOR_METHOD, read_sums, recheck_statement
from ...protocol.errors import RemoteProtocolError
from ...protocol.receipts.records import AttributionStatement, Weight
from .evidence import Evidence


def check_follows(evidence: Evidence, statement: AttributionStatement, query: bytes) -> tuple[str, ...]:
    """What shows that a statement's weights follow from its query vector and the index, in words. Raises
    RemoteProtocolError where they do not."""
    assert evidence.index is not None
    assert evidence.manifest is not None
    if hashlib.sha256(query).digest() != statement.query:
        raise RemoteProtocolError("the query vector is not the one that the statement names")
    if (divided := check_coarse(evidence, statement)) is not None:
        return (divided, *_left_out(evidence, statement))
    if statement.method == CHALLENGED_METHOD or statement.challenged is not None:
        return (check_challenge(evidence, statement),)
    index, contributors = evidence.index, {prior.payee for prior in evidence.manifest.priors}
    sums = index.manifest.payees, read_sums(index.manifest, index.sums)
    recheck_statement(statement, np.frombuffer(query, np.int8), sums, contributors)
    by = check_method(evidence, statement)
    return by, "the weights follow from the query vector and the sums, bit for bit"


def _left_out(evidence: Evidence, statement: AttributionStatement) -> tuple[str, ...]:
    """A measurement that the author announces and a statement without one does not name."""
    record = evidence.announced
    if statement.faithfulness is not None or record is None or record.faithfulness is None:
        return ()
    if record.index != statement.index:
        return ()
    return (
        f"NOTE: the adapter's author announces a measurement of this index ({record.faithfulness}): either "
        "it came later, or whoever made this statement left it out",
    )


def check_unindexed(evidence: Evidence) -> tuple[str, ...]:
    """Of a receipt on which its worker states nothing by an index: what divides. Raises RemoteProtocolError
    where that is not the priors."""
    assert evidence.manifest is not None
    statement, record = evidence.statement, evidence.announced
    if statement is not None and statement.record.weights != _priors_with_parts(evidence, statement.record):
        raise RemoteProtocolError("a statement without an index must have the manifest's prior weights")
    said = "no statement names an index: the manifest's prior weights apply"
    if record is None or record.index is None:
        return (said,)
    note = f"NOTE: the adapter's author announces the index {record.index}: either it came later, or"
    return said, f"{note} the worker did not score by it"


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
        named = "no measurement of these scores" if found is None else "a measurement of another index"
        return f"the statement names {named}: the manifest's priors divide, as they must"
    return (
        f"the author measured these scores: {from_ppm(found.found.lds_ppm):+.3f} against retraining is not "
        "above chance, so the manifest's priors divide, as they must"
    )


def check_challenge(evidence: Evidence, statement: AttributionStatement) -> str:
    """What a statement that challenges its index says. Raises RemoteProtocolError where it names no row, or
    does not go by the priors; whether the row differs is for level 2."""
    assert evidence.index is not None
    count, place = evidence.index.manifest.row_count, statement.challenged
    if not is_well_put(statement) or place is None or place >= count:
        raise RemoteProtocolError(f"{statement.method!r} names row {place} of an index of {count}")
    if statement.weights != _priors_with_parts(evidence, statement):
        raise RemoteProtocolError("where an index is challenged the weights must be the priors")
    return (
        f"CHALLENGED: it says that row {place} of the index is not its row's gradient, so the priors divide; "
        "level 2 computes that row again"
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
    elif {statement.method} != {evidence.index.manifest.method, evidence.faithfulness.method}:
        raise RemoteProtocolError(
            f"the statement is by {statement.method!r}, its index or what was measured of it is not"
        )
    lds = from_ppm(evidence.faithfulness.found.lds_ppm)
    told = f"the author measured these scores to be above chance: {lds:+.3f} against retraining"
    if statement.method == PRIOR_METHOD:
        return f"{told}; for this answer nobody's is above zero, so the manifest's priors divide, by rule"
    return told


def _priors_with_parts(evidence: Evidence, statement: AttributionStatement) -> tuple[Weight, ...]:
    assert evidence.manifest is not None
    return priors_with_parts(statement, evidence.manifest)
