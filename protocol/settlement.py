"""An epoch of one lane as the chain sees it: two Merkle-sum trees and a commitment.

Rules of this file:

- A receipt is settled together with the voucher that names it and with its credits. Its leaf is keccak(0x00 ‖
  receipt id ‖ receipt digest ‖ voucher digest ‖ keccak(voucher signature)), its amount the price. Receipts of
  price 0 move no money and are left out.
- Receipt leaves are sorted by receipt id, strictly increasing, so that a repeated receipt is visible in two
  neighbours. Their epoch is at most the commitment's (a lane may skip epochs and vouchers may come late); no
  receipt is in two commitments.
- An account's leaf is keccak(0x00 ‖ account ‖ cumulative as uint128), its amount the cumulative earnings.
  Leaves are sorted by account; accounts that earned nothing are left out.
- Commitment n holds the receipts of n and the earnings through n-1, so whoever attributes the receipts of n
  can see them committed first. Its hash is keccak(abi.encode(struct)).
- `data_hash` is the digest of the content id under which the epoch's data is published.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from .blob_names import describe_blob
from .codec import decode, encode
from .credits import sum_shares
from .eip712 import Domain, digest, require_signer
from .errors import LocalProtocolError, NotFound, RemoteProtocolError
from .fields import U32, U64, U128, Hash32, Signature65, Size
from .ids import Address, ReceiptId, digest_of, keccak256, receipt_id_of
from .merkle import MAX_SUM, MerkleSumTree, SumNode, verify_sum
from .receipt_rules import check_voucher_names
from .receipts import MAX_CONTRIBUTORS, Credit, Receipt, Voucher

MAX_RECEIPTS_PER_EPOCH = 1 << 20
MAX_EPOCH_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class SettledReceipt:
    """A paid receipt, both signatures, and who earns what from it."""

    receipt: Receipt
    receipt_signature: Signature65
    voucher: Voucher
    voucher_signature: Signature65
    credits: Annotated[tuple[Credit, ...], Size(0, MAX_CONTRIBUTORS + 4)]

    @property
    def receipt_id(self) -> ReceiptId:
        """Where it is sorted."""
        return receipt_id_of(self.receipt.payer, self.receipt.lane, self.receipt.seq)


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


def receipt_leaf(domain: Domain, settled: SettledReceipt) -> SumNode:
    """The leaf of a receipt and its amount."""
    parts = (
        settled.receipt_id,
        digest(domain, settled.receipt),
        digest(domain, settled.voucher),
        keccak256(settled.voucher_signature),
    )
    return SumNode(keccak256(b"\x00" + b"".join(parts)), settled.receipt.price)


def earnings_leaf(account: Address, cumulative: int) -> SumNode:
    """The leaf of an account and its amount."""
    return SumNode(keccak256(b"\x00" + account + cumulative.to_bytes(16, "big")), cumulative)


def check_settled(domain: Domain, settled: SettledReceipt) -> None:
    """Whether a settled receipt is what both sides signed and is divided whole.

    Raises RemoteProtocolError, InvalidSignature.
    """
    receipt = settled.receipt
    check_voucher_names(domain, settled.voucher, receipt)
    parts = (sum_shares(receipt.shares), sum(credit.amount for credit in settled.credits))
    if parts != (receipt.price, receipt.price):
        raise RemoteProtocolError(f"shares and credits add up to {parts}, not to the price {receipt.price}")
    require_signer(domain, receipt, settled.receipt_signature, receipt.lane)
    require_signer(domain, settled.voucher, settled.voucher_signature, receipt.payer)


def build_epoch(
    domain: Domain, epoch: int, receipts: Iterable[SettledReceipt], earnings: Mapping[Address, int]
) -> EpochTrees:
    """The trees and the commitment of one lane's epoch: its receipts, the earnings through the one before.

    Receipts were checked when they came. Raises LocalProtocolError where they do not belong together.
    """
    settled = _sorted_receipts(epoch, receipts)
    earned = {account: earnings[account] for account in sorted(earnings) if earnings[account]}
    data = encode(EpochData(epoch, tuple(settled), tuple(Earning(*item) for item in earned.items())))
    receipt_tree = MerkleSumTree(receipt_leaf(domain, entry) for entry in settled)
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


def fold_earnings(earnings: Mapping[Address, int], receipts: Iterable[SettledReceipt]) -> dict[Address, int]:
    """Cumulative earnings after these receipts: what the next commitment claims."""
    folded = dict(earnings)
    for settled in receipts:
        for credit in settled.credits:
            folded[credit.account] = folded.get(credit.account, 0) + credit.amount
    return folded


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


def _sorted_receipts(epoch: int, receipts: Iterable[SettledReceipt]) -> list[SettledReceipt]:
    settled = sorted((entry for entry in receipts if entry.receipt.price), key=lambda entry: entry.receipt_id)
    _require_distinct(settled)
    if len({entry.receipt.lane for entry in settled}) > 1:
        raise LocalProtocolError("the receipts of an epoch belong to one lane")
    late = [entry.receipt.epoch for entry in settled if entry.receipt.epoch > epoch]
    if late:
        raise LocalProtocolError(f"a receipt of epoch {late[0]} cannot be committed in epoch {epoch}")
    return settled


def _require_distinct(settled: Sequence[SettledReceipt]) -> None:
    ids = [entry.receipt_id for entry in settled]
    if len(set(ids)) != len(ids):
        raise LocalProtocolError("the same receipt twice in one epoch: it would be paid twice")
