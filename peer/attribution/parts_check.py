"""Whether rows in a prompt are paid to who gave them: level 1, from the adapter's own Datanets.

Rules of this file: whose a part of a prompt is, its asker says, and who earns by it may have asked with
another's money. Of a row that stands in one of the adapter's Datanets it is known who committed it first; of
any other part it is not, and that is said.
"""

from __future__ import annotations

from ...protocol.errors import RemoteProtocolError
from ...protocol.ids import checksummed
from ...protocol.receipts.channels import Channel, payable
from .evidence import Evidence
from .findings import Checks
from .index_rows import committed_rows


def check_part_owners(evidence: Evidence, checks: Checks) -> None:
    """Raises RemoteProtocolError where a statement pays a row in the prompt to another than its
    contributor."""
    assert evidence.manifest is not None
    assert evidence.statement is not None
    paid = payable(evidence.statement.record.effects, {prior.payee for prior in evidence.manifest.priors})
    rows = committed_rows(evidence.datanets)
    for part in paid.parts if paid is not None else ():
        owner, _ = rows.get(part.part, (evidence.taken_back.rows.get(part.part), None))
        owners = {owner, evidence.taken_back.rows.get(part.part, owner)}
        if owner is not None and part.channel == Channel.ROW and part.payee not in owners:
            raise RemoteProtocolError(
                f"row {part.part.hex()[:14]} in the prompt is paid to {checksummed(part.payee)}, and it is "
                f"{checksummed(owner)} who gave it: whoever asked said otherwise"
            )
        if owner is None and part.effect_micro:
            checks.shows(
                f"NOTE: {part.channel} {part.part.hex()[:14]} in the prompt is in none of the adapter's "
                f"Datanets here: that it is {checksummed(part.payee)}'s is the word of who asked"
            )
