"""Who scored a receipt beside its worker: what levels 0 and 1 show of it from what is published.

Rules of this file: level 0 shows whose each second statement is; level 1 that its account had bonded, by the
published list and by the chain, where it stands in the draw's order, that its weights follow as the worker's
must, and what the two make of the receipt; level 2 computes its query vector again where that is another.
"""

from __future__ import annotations

from ...protocol.attribution.opinions import check_drawn, check_second
from ...protocol.attribution.pools import TOLERANCE_PPM, Basis, total_variation_ppm
from ...protocol.errors import NotFound, RemoteProtocolError
from .evidence import Evidence
from .findings import Checks
from .method_check import check_follows
from .second_draw import check_facts
from .second_evidence import SecondEvidence


def check_second_seals(evidence: Evidence, checks: Checks) -> None:
    """Level 0: every second statement is by another account than the worker's, which its key is bound to."""
    for second in evidence.seconds:
        drawn = second.sealed.record.drawn
        if drawn is None:
            raise RemoteProtocolError("a second statement does not say who it is by, nor what drew it")
        check_second(evidence.domain, second.sealed.public_key, drawn, evidence.worker.owner)
        checks.shows(f"{second.named} scored it, too")


def check_second_draws(evidence: Evidence, checks: Checks) -> None:
    """Level 1: every second attributor was among those who had bonded, as the chain has them. Raises NotFound
    where what shows it cannot be had."""
    if not evidence.seconds:
        checks.shows("nobody scored it beside its worker, whose word counts alone")
    for second in evidence.seconds:
        if second.unknown:
            raise NotFound(second.unknown)
        checks.shows(_draw_of(evidence, second))


def check_seconds_follow(evidence: Evidence, checks: Checks) -> None:
    """Level 1: the weights of every second statement that counts follow from its vector, and what they and
    the worker's make of the receipt. Raises RemoteProtocolError where one's do not."""
    counted = {sealed.public_key: sealed.record for sealed in evidence.counted}
    for second in evidence.seconds:
        if second.sealed.public_key not in counted:
            checks.shows(
                f"NOTE: the statement of {second.named} does not count: it is by another index or measurement"
            )
            continue
        try:
            check_follows(evidence, second.sealed.record, second.query)
        except RemoteProtocolError as wrong:
            raise RemoteProtocolError(f"the second statement, of {second.named}: {wrong}") from None
    if len(counted) > 1 and evidence.judged is not None:
        first, other = (record.weights for record in counted.values())
        apart = total_variation_ppm(first, other)
        if evidence.judged.basis is Basis.CHALLENGED:
            checks.shows("of the two statements one at least challenges the index: the priors divide")
        elif evidence.judged.basis is Basis.DISPUTED:
            checks.shows(
                f"DISPUTED: the two statements are {apart} ppm apart (at most {TOLERANCE_PPM}): the priors "
                "divide until somebody rules; level 2 shows whose vector is this answer's"
            )
        else:
            checks.shows(f"the two statements are {apart} ppm apart (at most {TOLERANCE_PPM})")


def other_vectors(evidence: Evidence) -> tuple[SecondEvidence, ...]:
    """The second statements that count and have another query vector than the worker's."""
    counted = {sealed.public_key for sealed in evidence.counted}
    own = None if evidence.index is None else evidence.index.query
    return tuple(
        second
        for second in evidence.seconds
        if second.sealed.public_key in counted and second.query and second.query != own
    )


def _draw_of(evidence: Evidence, second: SecondEvidence) -> str:
    drawn = second.sealed.record.drawn
    if drawn is None or second.listed is None:
        return (
            "NOTE: no chain says from whom the second attributor was drawn: the worker could have chosen it"
        )
    worker, listed = evidence.worker.owner, second.listed
    before = check_drawn(evidence.stored.receipt_hash, drawn, listed, worker)
    if second.facts is not None:
        check_facts(second.facts, drawn.beacon, listed)
    others = len(listed.accounts) - (worker in listed.accounts)
    if not others:
        return "nobody else had bonded as an attributor: anybody could be asked to score it, too"
    lot = "the beacon's lot" if drawn.beacon else "the receipt's own lot"
    return (
        f"the second attributor is number {before + 1} of {others} bonded at block {listed.block} by {lot}; "
        f"the {before} before it serve another base or gave no statement"
    )
