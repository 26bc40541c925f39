"""Who scored a receipt beside its worker, and by which draw: published with what it said, for anybody to
check.

Rules of this file: the account is the one that the binding of the statement's key names. It is drawn by the
lot of beacon and receipt (`pools.draw_attributors`) among all accounts that had bonded as attributors at a
block, of which a list is published: who is in it is a question to the chain. Of more than MAX_BONDED those
are listed whose SHA-256("commonlore/bonded/1" ‖ block, 8 bytes ‖ account) is lowest: so nobody chooses who is
left out, and no crowd of bonds keeps a list from being whole. A list is of a block that was the latest at
some time since the epoch before the receipt's began: of an older one its maker could choose who had bonded by
then. Who comes before it in the lot may serve another base, or not have answered; that is shown, and nobody's
fault that could be proved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
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


def place_in_list(block: int, account: Address) -> bytes:
    """By what it is decided which accounts are listed where they are too many."""
    return hashlib.sha256(b"commonlore/bonded/1" + block.to_bytes(8, "big") + account).digest()


def list_bonded(block: int, accounts: Iterable[Address]) -> BondedList:
    """The list of those who had bonded at a block."""
    listed = sorted(set(accounts), key=lambda account: place_in_list(block, account))[:MAX_BONDED]
    return BondedList(block, tuple(sorted(listed)))
