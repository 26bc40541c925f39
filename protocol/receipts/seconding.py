"""Who scored a receipt beside its worker, and by which draw: published with what it said, for anybody to
check.

Rules of this file: the account is the one that the binding of the statement's key names. It is drawn by the
lot of beacon and receipt (`pools.draw_attributors`) among all accounts that had bonded as attributors at a
block, of which a list is published: who is in it is a question to the chain. Who comes before it in the lot
may serve another base, or not have answered; that is shown, and nobody's fault that could be proved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..encoding.fields import U64, Size
from ..ids import Address, Cid
from ..signing.bindings import SignedBinding

MAX_BONDED = 4_096
MAX_BONDED_BYTES = 64 + 24 * MAX_BONDED


@dataclass(frozen=True, slots=True)
class BondedList:
    """The accounts, ascending, that had bonded as attributors when `block` was the chain's latest."""

    block: U64
    accounts: Annotated[tuple[Address, ...], Size(0, MAX_BONDED)]


@dataclass(frozen=True, slots=True)
class DrawnSecond:
    """Who the sealer of a second statement is, the beacon that drew it (empty where the receipt's pool was
    too small for one), and the CID of the `BondedList` that it was drawn from; None where no chain tells."""

    binding: SignedBinding
    beacon: Annotated[bytes, Size(0, 64)]
    bonded: Cid | None
