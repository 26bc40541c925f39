"""Who scored a receipt beside its worker: what levels 0 and 1 show of it from what is published.

Rules of this file: level 0 shows whose each second statement is; level 1 that its account had bonded, by the
published list and by the chain, and where it stands in the draw's order.
"""

from __future__ import annotations

from ...protocol.attribution.opinions import check_drawn, check_second
from ...protocol.errors import NotFound, RemoteProtocolError
from ...protocol.ids import checksummed
from .evidence import Evidence
from .findings import Checks
from .second_draw import check_facts
from .second_evidence import SecondEvidence


def check_second_seals(evidence: Evidence, checks: Checks) -> None:
    """Level 0: every second statement is by another account than the worker's, which its key is bound to."""
    for second in evidence.seconds:
        drawn = second.sealed.record.drawn
        if drawn is None:
            raise RemoteProtocolError("a second statement does not say who it is by, nor what drew it")
        check_second(evidence.domain, second.sealed.public_key, drawn, evidence.worker.owner)
        checks.shows(f"{checksummed(drawn.binding.binding.owner)} scored it, too")


def check_second_draws(evidence: Evidence, checks: Checks) -> None:
    """Level 1: every second attributor was among those who had bonded, as the chain has them. Raises NotFound
    where what shows it cannot be had."""
    for second in evidence.seconds:
        if second.unknown:
            raise NotFound(second.unknown)
        checks.shows(_draw_of(evidence, second))


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
