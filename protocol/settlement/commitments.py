"""An epoch of one lane as the chain sees it: five Merkle-sum trees and a commitment.

Rules of this file:

- Receipts and their trees (receipts by id, lines by pool) are `settled`'s. Their epoch is at most the
  commitment's (a lane may skip epochs and vouchers may come late); no receipt is in two commitments.
- Commitment n holds the receipts of n, the credits of the receipts of the commitment before, in two orders,
  and the cumulative earnings with those credits. So whoever attributes the receipts of n can see them
  committed first. Its hash is keccak(abi.encode(struct)), cut to 23 bytes.
- Earnings leaves are sorted by account; accounts that earned nothing are left out, and so are credits of 0.
- `data_hash` is the digest of the content id under which the epoch's data is published.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

from ..content.blob_names import describe_blob
from ..encoding.codec import encode
from ..encoding.fields import U32, U64, U128, Blob, Hash32, Size
from ..encoding.merkle import MAX_SUM, ZERO_HASH, MerkleSumTree, SumNode, verify_sum
from ..errors import NotFound
from ..ids import Address, ReceiptId, digest_of, keccak256
from ..signing.eip712 import Domain
from .epoch_leaves import (
    Line,
    PoolCredit,
    by_account,
    by_pool,
    credit_leaf,
    earnings_leaf,
    line_leaf,
    unpack_line,
)
from .settled import EpochBuilder, LineFold, SettledReceipt

MAX_RECEIPTS_PER_EPOCH = 1 << 20
_STORED_HASH_BYTES = 23


@dataclass(frozen=True, slots=True)
class Earning:
    """What an account has earned in a lane so far."""

    account: Address
    cumulative: U128


@dataclass(frozen=True, slots=True)
class EpochData:
    """What is published beside a commitment: enough to rebuild its trees, and the next one's credits.

    Everything is in the order of its tree. `statements` are the sealed attribution statements by which the
    credits were divided, `measured` the sealed measurements that these name, `beacon` what they were drawn
    by. Lines follow from receipts, and the other order of credits from theirs: they are named only where
    something else was committed.
    """

    epoch: U64
    receipts: Annotated[tuple[SettledReceipt, ...], Size(0, MAX_RECEIPTS_PER_EPOCH)]
    earnings: Annotated[tuple[Earning, ...], Size(0, MAX_RECEIPTS_PER_EPOCH)]
    credits: Annotated[tuple[PoolCredit, ...], Size(0, MAX_RECEIPTS_PER_EPOCH)]
    statements: Annotated[tuple[Blob, ...], Size(0, MAX_RECEIPTS_PER_EPOCH)] = ()
    beacon: Annotated[bytes, Size(0, 32)] = b""
    lines: Annotated[tuple[Line, ...], Size(0, MAX_RECEIPTS_PER_EPOCH)] | None = None
    pool_credits: Annotated[tuple[PoolCredit, ...], Size(0, MAX_RECEIPTS_PER_EPOCH)] | None = None
    measured: Annotated[tuple[Blob, ...], Size(1, MAX_RECEIPTS_PER_EPOCH)] | None = None

    @property
    def cumulative(self) -> dict[Address, int]:
        """Earnings by account; of an account that occurs twice, the last."""
        return {earning.account: earning.cumulative for earning in self.earnings}


@dataclass(frozen=True, slots=True)
class Evidence:
    """By what an epoch's credits were divided: see `EpochData`."""

    statements: tuple[bytes, ...] = ()
    beacon: bytes = b""
    measured: tuple[bytes, ...] = ()


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
    line_root: Hash32 = ZERO_HASH
    account_credit_root: Hash32 = ZERO_HASH
    pool_credit_root: Hash32 = ZERO_HASH
    credit_count: U32 = 0
    line_count: U32 = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """An account's cumulative earnings with the path of its leaf, as the contract's `claimMany` takes it."""

    account: Address
    cumulative: int
    index: int
    path: tuple[SumNode, ...]


@dataclass(frozen=True, slots=True)
class EpochTrees:
    """A commitment with what proves it: the trees, what their leaves stand for in order, and the published
    bytes."""

    commitment: Commitment
    receipt_tree: MerkleSumTree
    line_tree: MerkleSumTree
    earnings_tree: MerkleSumTree
    account_credit_tree: MerkleSumTree
    pool_credit_tree: MerkleSumTree
    receipts: tuple[SettledReceipt, ...]
    lines: tuple[Line, ...]
    earned: tuple[Earning, ...]
    account_credits: tuple[PoolCredit, ...]
    pool_credits: tuple[PoolCredit, ...]
    data: bytes

    @property
    def accounts(self) -> tuple[Address, ...]:
        """Who has earned something, in the order of the leaves."""
        return tuple(earning.account for earning in self.earned)

    @property
    def earnings(self) -> dict[Address, int]:
        """Cumulative earnings by account."""
        return {earning.account: earning.cumulative for earning in self.earned}

    def claim(self, account: Address) -> Claim:
        """The claim of one account. Raises NotFound where it has earned nothing."""
        for index, earning in enumerate(self.earned):
            if earning.account == account:
                return self._claim_at(index)
        raise NotFound(f"0x{account.hex()} has no earnings in epoch {self.commitment.epoch}")

    def claims(self) -> tuple[Claim, ...]:
        """Every account's claim."""
        return tuple(self._claim_at(index) for index in range(len(self.earned)))

    def _claim_at(self, index: int) -> Claim:
        earning = self.earned[index]
        return Claim(earning.account, earning.cumulative, index, tuple(self.earnings_tree.proof(index)))


def build_epoch(
    domain: Domain,
    epoch: int,
    receipts: Iterable[SettledReceipt],
    earnings: Mapping[Address, int],
    credits: Iterable[PoolCredit] = (),
    evidence: Evidence | None = None,
) -> EpochTrees:
    """The trees and the commitment of one lane's epoch: its receipts, the credits of the commitment before
    with the evidence for them, and the earnings with them.

    Receipts were checked when they came. Raises LocalProtocolError where they do not belong together.
    """
    settled = tuple(sorted((entry for entry in receipts if entry.receipt.price), key=_by_id))
    builder = EpochBuilder(domain, epoch)
    for entry in settled:
        builder.add(entry)
    earned = tuple(Earning(account, earnings[account]) for account in sorted(earnings) if earnings[account])
    credited = tuple(sorted(credits, key=by_account))
    shown = evidence or Evidence()
    data = EpochData(
        epoch, settled, earned, credited, shown.statements, shown.beacon, measured=shown.measured or None
    )
    return assemble(data, builder.receipt_tree(), encode(data))


def assemble(data: EpochData, receipt_tree: MerkleSumTree, raw: bytes) -> EpochTrees:
    """The trees over an epoch's data beside that of its receipts, and the commitment to all of them; `raw` is
    the data's encoding."""
    lines, pool_credits = data.lines, data.pool_credits
    if lines is None:
        lines = honest_lines(data)
    if pool_credits is None:
        pool_credits = tuple(sorted(data.credits, key=by_pool))
    line_tree = MerkleSumTree(map(line_leaf, lines))
    earnings_tree = MerkleSumTree(earnings_leaf(e.account, e.cumulative) for e in data.earnings)
    by_accounts, by_pools = (MerkleSumTree(map(credit_leaf, c)) for c in (data.credits, pool_credits))
    commitment = Commitment(
        epoch=data.epoch,
        receipt_root=receipt_tree.root,
        earnings_root=earnings_tree.root,
        receipt_sum=receipt_tree.total,
        cumulative_total=earnings_tree.total,
        receipt_count=receipt_tree.count,
        account_count=earnings_tree.count,
        data_hash=digest_of(describe_blob([raw])[0]),
        line_root=line_tree.root,
        account_credit_root=by_accounts.root,
        pool_credit_root=by_pools.root,
        credit_count=by_accounts.count,
        line_count=line_tree.count,
    )
    return EpochTrees(
        commitment=commitment,
        receipt_tree=receipt_tree,
        line_tree=line_tree,
        earnings_tree=earnings_tree,
        account_credit_tree=by_accounts,
        pool_credit_tree=by_pools,
        receipts=data.receipts,
        lines=lines,
        earned=data.earnings,
        account_credits=data.credits,
        pool_credits=pool_credits,
        data=raw,
    )


def honest_lines(data: EpochData) -> tuple[Line, ...]:
    """The lines that an epoch's receipts make."""
    return tuple(map(unpack_line, LineFold.of(data.receipts).packed()))


def commitment_hash(commitment: Commitment) -> bytes:
    """keccak256(abi.encode(commitment)), its last 9 bytes zero: what the chain stores, beside times.

    184 bits are left, so two commitments of one hash cost 2^92 trials.
    """
    words = (
        commitment.epoch.to_bytes(32, "big"),
        commitment.receipt_root,
        commitment.earnings_root,
        commitment.receipt_sum.to_bytes(32, "big"),
        commitment.cumulative_total.to_bytes(32, "big"),
        commitment.receipt_count.to_bytes(32, "big"),
        commitment.account_count.to_bytes(32, "big"),
        commitment.data_hash,
        commitment.line_root,
        commitment.account_credit_root,
        commitment.pool_credit_root,
        commitment.credit_count.to_bytes(32, "big"),
        commitment.line_count.to_bytes(32, "big"),
    )
    return keccak256(b"".join(words))[:_STORED_HASH_BYTES].ljust(32, b"\0")


def verify_claim(commitment: Commitment, claim: Claim) -> bool:
    """Whether the contract would accept this claim under the commitment."""
    if not 0 <= claim.cumulative <= MAX_SUM:
        return False
    root = (commitment.earnings_root, commitment.cumulative_total)
    leaf = earnings_leaf(claim.account, claim.cumulative)
    return verify_sum(root, leaf, claim.index, commitment.account_count, claim.path)


def _by_id(settled: SettledReceipt) -> ReceiptId:
    return settled.receipt_id
