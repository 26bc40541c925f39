"""An epoch of one lane as the chain sees it: two Merkle-sum trees and a commitment.

Rules of this file:

- Receipts and their tree are `settled`'s. Their epoch is at most the commitment's (a lane may skip epochs and
  vouchers may come late); no receipt is in two commitments.
- An account's leaf is keccak(0x00 ‖ account ‖ cumulative as uint128), its amount the cumulative earnings.
  Leaves are sorted by account; accounts that earned nothing are left out.
- Commitment n holds the receipts of n and the earnings through n-1, so whoever attributes the receipts of n
  can see them committed first. Its hash is keccak(abi.encode(struct)).
- `data_hash` is the digest of the content id under which the epoch's data is published.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

from .blob_names import describe_blob
from .codec import decode, encode
from .eip712 import Domain
from .errors import LocalProtocolError, NotFound, RemoteProtocolError
from .fields import U32, U64, U128, Hash32, Size
from .ids import Address, ReceiptId, digest_of, keccak256
from .merkle import MAX_SUM, MerkleSumTree, SumNode, verify_sum
from .settled import EpochBuilder, SettledReceipt, check_settled

MAX_RECEIPTS_PER_EPOCH = 1 << 20
MAX_EPOCH_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Earning:
    """What an account has earned in a lane so far."""

    account: Address
    cumulative: U128


@dataclass(frozen=True, slots=True)
class EpochData:
    """What is published beside a commitment: enough to rebuild both trees, and the next epoch's earnings."""

    epoch: U64
    receipts: Annotated[tuple[SettledReceipt, ...], Size(0, MAX_RECEIPTS_PER_EPOCH)]
    earnings: Annotated[tuple[Earning, ...], Size(0, MAX_RECEIPTS_PER_EPOCH)]


@dataclass(frozen=True, slots=True)
class Commitment:
    """What a lane posts about an epoch; the fields of the contract's struct in their order."""

    epoch: U64
    receipt_root: Hash32
    earnings_root: Hash32
    receipt_sum: U128
    cumulative_total: U128
    receipt_count: U32
    account_count: U32
    data_hash: Hash32


@dataclass(frozen=True, slots=True)
class Claim:
    """An account's cumulative earnings with the path of its leaf, as the contract's `claimMany` takes it."""

    account: Address
    cumulative: int
    index: int
    path: tuple[SumNode, ...]


@dataclass(frozen=True, slots=True)
class EpochTrees:
    """A commitment with what proves it: the trees, the accounts in leaf order, and the published bytes."""

    commitment: Commitment
    receipt_tree: MerkleSumTree
    earnings_tree: MerkleSumTree
    accounts: tuple[Address, ...]
    earnings: Mapping[Address, int]
    data: bytes

    def claim(self, account: Address) -> Claim:
        """The claim of one account. Raises NotFound where it has earned nothing."""
        if account not in self.earnings:
            raise NotFound(f"0x{account.hex()} has no earnings in epoch {self.commitment.epoch}")
        return self._claim_at(self.accounts.index(account))

    def claims(self) -> tuple[Claim, ...]:
        """Every account's claim."""
        return tuple(self._claim_at(index) for index in range(len(self.accounts)))

    def _claim_at(self, index: int) -> Claim:
        account = self.accounts[index]
        return Claim(account, self.earnings[account], index, tuple(self.earnings_tree.proof(index)))


def earnings_leaf(account: Address, cumulative: int) -> SumNode:
    """The leaf of an account and its amount."""
    return SumNode(keccak256(b"\x00" + account + cumulative.to_bytes(16, "big")), cumulative)


def build_epoch(
    domain: Domain, epoch: int, receipts: Iterable[SettledReceipt], earnings: Mapping[Address, int]
) -> EpochTrees:
    """The trees and the commitment of one lane's epoch: its receipts, the earnings through the one before.

    Receipts were checked when they came. Raises LocalProtocolError where they do not belong together.
    """
    settled = sorted((entry for entry in receipts if entry.receipt.price), key=_by_id)
    builder = EpochBuilder(domain, epoch)
    for entry in settled:
        builder.add(entry)
    receipt_tree = builder.receipt_tree()
    earned = {account: earnings[account] for account in sorted(earnings) if earnings[account]}
    data = encode(EpochData(epoch, tuple(settled), tuple(Earning(*item) for item in earned.items())))
    earnings_tree = MerkleSumTree(earnings_leaf(*item) for item in earned.items())
    commitment = Commitment(
        epoch=epoch,
        receipt_root=receipt_tree.root,
        earnings_root=earnings_tree.root,
        receipt_sum=receipt_tree.total,
        cumulative_total=earnings_tree.total,
        receipt_count=receipt_tree.count,
        account_count=earnings_tree.count,
        data_hash=digest_of(describe_blob([data])[0]),
    )
    return EpochTrees(commitment, receipt_tree, earnings_tree, tuple(earned), earned, data)


def recheck_epoch(domain: Domain, lane: Address, commitment: Commitment, data: bytes) -> EpochData:
    """Rebuilds a posted commitment from its published data and checks every receipt in it.

    Raises RemoteProtocolError where the data is not the commitment's, or a receipt not the lane's or
    ill-signed.
    """
    published = decode(EpochData, data, MAX_EPOCH_BYTES)
    for settled in published.receipts:
        if settled.receipt.lane != lane:
            raise RemoteProtocolError(f"a receipt of another lane than 0x{lane.hex()}")
        check_settled(domain, settled)
    earnings = {earning.account: earning.cumulative for earning in published.earnings}
    try:
        rebuilt = build_epoch(domain, published.epoch, published.receipts, earnings)
    except LocalProtocolError as wrong:
        raise RemoteProtocolError(
            f"the data of epoch {published.epoch} makes no commitment: {wrong}"
        ) from None
    if rebuilt.commitment != commitment or rebuilt.data != data:
        raise RemoteProtocolError(f"the data of epoch {published.epoch} is not what was committed")
    return published


def commitment_hash(commitment: Commitment) -> bytes:
    """keccak256(abi.encode(commitment)): what the chain stores."""
    words = (
        commitment.epoch.to_bytes(32, "big"),
        commitment.receipt_root,
        commitment.earnings_root,
        commitment.receipt_sum.to_bytes(32, "big"),
        commitment.cumulative_total.to_bytes(32, "big"),
        commitment.receipt_count.to_bytes(32, "big"),
        commitment.account_count.to_bytes(32, "big"),
        commitment.data_hash,
    )
    return keccak256(b"".join(words))


def verify_claim(commitment: Commitment, claim: Claim) -> bool:
    """Whether the contract would accept this claim under the commitment."""
    if not 0 <= claim.cumulative <= MAX_SUM:
        return False
    root = (commitment.earnings_root, commitment.cumulative_total)
    leaf = earnings_leaf(claim.account, claim.cumulative)
    return verify_sum(root, leaf, claim.index, commitment.account_count, claim.path)


def _by_id(settled: SettledReceipt) -> ReceiptId:
    return settled.receipt_id
