"""What the chain client takes and returns. Amounts are token units, times Unix seconds of chain time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from ...protocol.content.manifests import Split
from ...protocol.encoding.fields import Hash32, Size
from ...protocol.errors import ChainError
from ...protocol.ids import Address, Cid
from ...protocol.receipts.records import SignedVoucher
from ...protocol.settlement.commitments import Commitment


@dataclass(frozen=True, slots=True)
class FundState:
    """Money that leaves only after notice: `thawing` of `amount` may go from `thaw_at` on."""

    amount: int
    thawing: int
    thaw_at: int

    @property
    def dependable(self) -> int:
        """What stays for a whole thaw period, whatever the owner does now."""
        return self.amount - self.thawing


@dataclass(frozen=True, slots=True)
class ChannelState:
    """All that decides whether a channel's next voucher will be paid.

    `owner` is None while the payer's key is not bound.
    """

    owner: Address | None
    session_ends: int
    revoked: bool
    balance: FundState
    reservation: FundState
    redeemed: int

    @property
    def available(self) -> int:
        """What could be redeemed now beyond `redeemed`; the balance's part is shared with the owner's other
        channels."""
        return self.reservation.amount + self.balance.amount


@dataclass(frozen=True, slots=True)
class LaneState:
    """A lane's pot: `committed` of it belongs to posted receipts, `claimed` was paid out. `next_epoch` is one
    more than the last posted; `latest_epoch` the latest epoch of any voucher redeemed."""

    pot: int
    committed: int
    claimed: int
    next_epoch: int
    latest_epoch: int


@dataclass(frozen=True, slots=True)
class PostedCommitment:
    """A commitment as it stands on chain. Claims open at `final_at`."""

    commitment: Commitment
    lane: Address
    posted_at: int
    final_at: int
    block: int


@dataclass(frozen=True, slots=True)
class KilledEpoch:
    """A commitment that was proved wrong: by whom, why, and what its poster lost."""

    lane: Address
    epoch: int
    challenger: Address
    reason: str
    slashed: int


@dataclass(frozen=True, slots=True)
class PaidClaim:
    """Money that a claim moved: `paid_to` is the account's payee of the day."""

    account: Address
    paid_to: Address
    amount: int
    cumulative: int


@dataclass(frozen=True, slots=True)
class Claims:
    """What claiming did. Accounts that had been paid already do not appear."""

    paid: tuple[PaidClaim, ...]
    transactions: tuple[str, ...]

    @property
    def amount(self) -> int:
        return sum(claim.amount for claim in self.paid)


@dataclass(frozen=True, slots=True)
class RefusedVoucher:
    """A voucher the contract would not pay now, and why (`Rejected`, or `EscrowTooSmall`)."""

    voucher: SignedVoucher
    error: ChainError


@dataclass(frozen=True, slots=True)
class Redemption:
    """What redeeming did: the vouchers paid, by how much the pot grew, and those refused."""

    paid: tuple[SignedVoucher, ...]
    amount: int
    refused: tuple[RefusedVoucher, ...]
    transactions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChainEvent:
    """A contract's event: its name and arguments as in the ABI (addresses as EIP-55 text, bytes32 as
    bytes)."""

    name: str
    arguments: dict[str, Any]
    block: int
    transaction: str


@dataclass(frozen=True, slots=True)
class DatanetEntry:
    """A Datanet version as registered."""

    manifest: bytes
    contributors_root: bytes
    licence: bytes


@dataclass(frozen=True, slots=True)
class AdapterEntry:
    """An adapter as registered. `lineage` is keccak256(abi.encode(datanets, parents)) of its record ids."""

    base: bytes
    lineage: bytes
    split: Split
    registered_at: int


@dataclass(frozen=True, slots=True)
class AliasLog:
    """An owner's append-only alias log: the hash of its last entry, and how many there are."""

    head: bytes
    length: int


@dataclass(frozen=True, slots=True)
class AdapterRegistration:
    """What an adapter's author signs (EIP-712) and anyone may submit.

    `datanets` and `parents` are record ids.
    """

    adapter: Cid
    base: Cid
    datanets: Annotated[tuple[Hash32, ...], Size(0, 64)]
    parents: Annotated[tuple[Hash32, ...], Size(0, 8)]
    split: Split
    author_payee: Address


@dataclass(frozen=True, slots=True)
class PayeeRotation:
    """Signed (EIP-712) by `previous`: from now on what it earns is paid to `next`, for ever."""

    previous: Address
    next: Address
