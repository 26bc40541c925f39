"""Who is drawn to check a receipt: the Arbiter's lot, computed here as there, among all who are bonded.

How to read it, with a chain client: `client.bonds.bonded(role)` is everybody with a bond in a role,
`client.beacon.seed(number)` a round's random value, and `client.draws` both together for one receipt. Whoever
wants so many who check takes the first of `order`; the work pool pays those in `drawn`. The account is the
owner's, which a peer's binding names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ...protocol.encoding.fields import PPM
from ...protocol.ids import Address, keccak256
from .bonding import Bonded, BondRole

if TYPE_CHECKING:
    from .chain import ChainClient


@dataclass(frozen=True, slots=True)
class DrawTerms:
    """What a deployment draws by: in how many receipts of a million an account is drawn, and the least bond
    that counts."""

    odds_ppm: int
    minimum_bond: int


def lot(seed: bytes, subject: bytes, role: BondRole, account: Address) -> int:
    """An account's lot for a receipt (its digest), 0 to 999,999: drawn where it is below the odds.

    keccak256(abi.encode(seed, subject, role, account)) modulo a million.
    """
    packed = seed + subject + int(role).to_bytes(32, "big") + bytes(12) + account
    return int.from_bytes(keccak256(packed), "big") % PPM


def by_lot(seed: bytes, subject: bytes, role: BondRole, accounts: Iterable[Address]) -> tuple[Address, ...]:
    """Accounts in the order of their lots, ties to the lowest account."""
    return tuple(sorted(accounts, key=lambda account: (lot(seed, subject, role, account), account)))


class DrawsClient:
    """Draws through a chain client. Blocking and thread-safe, like that."""

    def __init__(self, client: ChainClient) -> None:
        self._client = client

    @cached_property
    def terms(self) -> DrawTerms:
        """The deployment's, read once."""
        read = self._client.read
        return DrawTerms(int(read("Arbiter", "oddsPpm")), int(read("Arbiter", "minimumBond")))

    def starts_at(self, number: int) -> int:
        """When a round begins (chain time, Unix seconds): who bonds later is not drawn in it."""
        deployment = self._client.deployment
        return deployment.genesis + number * deployment.round_length

    def candidates(self, role: BondRole, number: int) -> tuple[Bonded, ...]:
        """Whoever could be drawn in a round: bonded before it began, with enough that does not thaw."""
        begins, least = self.starts_at(number), max(self.terms.minimum_bond, 1)
        bonded = self._client.bonds.bonded(role)
        return tuple(each for each in bonded if each.since < begins and each.standing >= least)

    def order(self, role: BondRole, subject: bytes, number: int) -> tuple[Address, ...]:
        """Every candidate by its lot for a receipt (its digest); empty until the round has its seed."""
        seed = self._client.beacon.seed(number)
        if seed is None:
            return ()
        return by_lot(seed, subject, role, (each.account for each in self.candidates(role, number)))

    def drawn(self, role: BondRole, subject: bytes, number: int) -> tuple[Address, ...]:
        """Those of `order` whom the work pool pays for this receipt."""
        seed, odds = self._client.beacon.seed(number), self.terms.odds_ppm
        if seed is None:
            return ()
        order = self.order(role, subject, number)
        return tuple(account for account in order if lot(seed, subject, role, account) < odds)
