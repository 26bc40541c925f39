"""A receipt as it is settled, and an epoch's receipts folded one at a time.

Rules of this file:

- A receipt is settled together with the voucher that names it and with its credits. Its leaf is keccak(0x00 ‖
  receipt id ‖ receipt digest ‖ voucher digest ‖ keccak(voucher signature)), its amount the price. Receipts of
  price 0 move no money and are left out.
- Of a receipt 80 bytes stay in the fold (id, leaf, amount); they are sorted once, by id, strictly increasing,
  so that a repeated receipt is visible in two neighbours. Credits are added up at once: nothing else grows
  with receipts.
- The fold is pure, and the same in whatever order receipts come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

from .credits import sum_shares
from .eip712 import Domain, digest, require_signer
from .errors import LocalProtocolError, RemoteProtocolError
from .fields import Signature65, Size
from .ids import Address, ReceiptId, keccak256, receipt_id_of
from .merkle import MerkleSumTree, SumNode
from .receipt_rules import check_voucher_names
from .receipts import MAX_CONTRIBUTORS, Credit, Receipt, Voucher

_ID = 32


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


def receipt_leaf(domain: Domain, settled: SettledReceipt) -> SumNode:
    """The leaf of a receipt and its amount."""
    parts = (
        settled.receipt_id,
        digest(domain, settled.receipt),
        digest(domain, settled.voucher),
        keccak256(settled.voucher_signature),
    )
    return SumNode(keccak256(b"\x00" + b"".join(parts)), settled.receipt.price)


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


class EpochBuilder:
    """One lane's epoch: its receipts as they come, then their tree and what they earned."""

    def __init__(self, domain: Domain, epoch: int) -> None:
        self._domain = domain
        self._epoch = epoch
        self._lane: Address | None = None
        self._entries: list[bytes] = []
        self._credits: dict[Address, int] = {}

    @property
    def count(self) -> int:
        """Receipts so far; those of price 0 are none."""
        return len(self._entries)

    def add(self, settled: SettledReceipt) -> None:
        """Takes a receipt in, whose signatures were checked when it came.

        Raises LocalProtocolError where it is of a later epoch, or of another lane than those before.
        """
        receipt = settled.receipt
        if not receipt.price:
            return
        if receipt.epoch > self._epoch:
            raise LocalProtocolError(
                f"a receipt of epoch {receipt.epoch} cannot be committed in epoch {self._epoch}"
            )
        if self._lane not in (None, receipt.lane):
            raise LocalProtocolError("the receipts of an epoch belong to one lane")
        self._lane = receipt.lane
        leaf = receipt_leaf(self._domain, settled)
        self._entries.append(settled.receipt_id + leaf.hash + leaf.amount.to_bytes(16, "big"))
        credits = self._credits
        for credit in settled.credits:
            credits[credit.account] = credits.get(credit.account, 0) + credit.amount

    def receipt_tree(self) -> MerkleSumTree:
        """The tree over all receipts, by id. Raises LocalProtocolError where one came twice."""
        self._entries.sort()
        last = b""
        for entry in self._entries:
            if entry[:_ID] == last:
                raise LocalProtocolError("the same receipt twice in one epoch: it would be paid twice")
            last = entry[:_ID]
        return MerkleSumTree.from_packed(b"".join([entry[_ID:] for entry in self._entries]))

    def earnings_after(self, earnings: Mapping[Address, int]) -> dict[Address, int]:
        """Cumulative earnings with these receipts' credits, from those before: what the next commitment
        claims."""
        folded = dict(earnings)
        for account, amount in self._credits.items():
            folded[account] = folded.get(account, 0) + amount
        return folded


def fold_earnings(earnings: Mapping[Address, int], receipts: Iterable[SettledReceipt]) -> dict[Address, int]:
    """Cumulative earnings after these receipts: what the next commitment claims."""
    folded = dict(earnings)
    for settled in receipts:
        for credit in settled.credits:
            folded[credit.account] = folded.get(credit.account, 0) + credit.amount
    return folded
