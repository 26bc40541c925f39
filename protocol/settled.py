"""A receipt as it is settled, and an epoch's receipts folded one at a time.

Rules of this file:

- A receipt is settled together with the voucher that names it and with its credits. Its leaf is keccak(0x00 ‖
  receipt id ‖ receipt digest ‖ voucher digest ‖ keccak(voucher signature)), its amount the price. Receipts of
  price 0 move no money and are left out.
- Of a receipt 192 bytes stay in the fold (id, leaf and amount; id and shares). They are sorted once, by id,
  strictly increasing, so that a repeated receipt is visible in two neighbours, and by pool and id for the
  lines. Credits are added up at once: nothing else grows with receipts.
- The fold is pure, and the same in whatever order receipts come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

from .credits import heaviest_adapter, sum_shares
from .eip712 import Domain, digest, require_signer
from .epoch_leaves import NO_POOL, ROLES, PoolCredit, pool_of
from .errors import LocalProtocolError, RemoteProtocolError
from .fields import Signature65, Size
from .ids import ZERO_ADDRESS, Address, ReceiptId, digest_of, keccak256, receipt_id_of
from .merkle import MAX_SUM, MerkleSumTree, SumNode
from .receipt_rules import check_voucher_names
from .receipts import MAX_CONTRIBUTORS, Credit, Receipt, Shares, Voucher

_ID = 32
_LANES = (0, 128, 256, 384, 512)
_digest_of = lru_cache(4096)(digest_of)
_Earned = dict[tuple[bytes, str, Address], int]
"""By author and adapter, role and account: token units."""


@dataclass(frozen=True, slots=True)
class SettledReceipt:
    """A paid receipt, both signatures, and who earns what from it.

    `author` is where its adapter's author is paid, the zero address where it used none.
    """

    receipt: Receipt
    receipt_signature: Signature65
    voucher: Voucher
    voucher_signature: Signature65
    author: Address
    credits: Annotated[tuple[Credit, ...], Size(0, MAX_CONTRIBUTORS + 4)]

    @property
    def receipt_id(self) -> ReceiptId:
        """Where it is sorted."""
        return receipt_id_of(self.receipt.payer, self.receipt.lane, self.receipt.seq)

    @property
    def adapter(self) -> bytes:
        """The digest of the adapter whose pool it pays into; zero bytes where it used none."""
        adapter = heaviest_adapter(self.receipt.adapters)
        return NO_POOL if adapter is None else _digest_of(adapter)

    @property
    def pool(self) -> bytes:
        """The pool that it pays into."""
        return pool_of(self.author, self.adapter)


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
    if sum_shares(receipt.shares) != receipt.price or _sum_roles(settled.credits) != receipt.shares:
        raise RemoteProtocolError(
            f"shares and credits do not divide the price {receipt.price} of receipt {receipt.seq}"
        )
    if (settled.author == ZERO_ADDRESS) != (not receipt.adapters):
        raise RemoteProtocolError("an author's account belongs to answers by an adapter, and to no others")
    require_signer(domain, receipt, settled.receipt_signature, receipt.lane)
    require_signer(domain, settled.voucher, settled.voucher_signature, receipt.payer)


def _sum_roles(credits: Iterable[Credit]) -> Shares:
    """What credits give to each role. Raises RemoteProtocolError on a role that is none."""
    sums = dict.fromkeys(ROLES, 0)
    for credit in credits:
        if credit.role not in sums:
            raise RemoteProtocolError(f"a credit for {credit.role!r:.80}, which is no role")
        sums[credit.role] += credit.amount
    return Shares(*sums.values())


class LineFold:
    """Receipts' lines: by pool and id, each with its pool's totals so far."""

    def __init__(self) -> None:
        self._pools: dict[bytes, list[bytes]] = {}

    @classmethod
    def of(cls, receipts: Iterable[SettledReceipt]) -> LineFold:
        """The lines of these receipts."""
        fold = cls()
        for settled in receipts:
            fold.add(settled.author + settled.adapter, settled.receipt_id, settled.receipt.shares)
        return fold

    def add(self, place: bytes, receipt_id: bytes, shares: Shares) -> None:
        """Takes one in; `place` is author ‖ adapter."""
        self._pools.setdefault(place, []).append(receipt_id + _pack_shares(shares))

    def packed(self) -> Iterator[bytes]:
        """Every line in order, as `epoch_leaves` packs it.

        A pool's five totals are added as one number: none reaches 128 bits, since all prices together do not.
        """
        for place in sorted(self._pools, key=_pool_of_place):
            totals = 0
            for entry in sorted(self._pools[place]):
                shares = int.from_bytes(entry[_ID:], "big")
                totals += shares
                price = sum([shares >> bits & MAX_SUM for bits in _LANES])
                yield place + entry[:_ID] + totals.to_bytes(80, "big") + price.to_bytes(16, "big")

    def tree(self) -> MerkleSumTree:
        """The tree over all lines."""
        return MerkleSumTree.from_packed(
            b"".join([keccak256(b"\x00" + line) + line[-16:] for line in self.packed()])
        )


class EpochBuilder:
    """One lane's epoch: its receipts as they come, then their trees and what they earn."""

    def __init__(self, domain: Domain, epoch: int) -> None:
        self._domain = domain
        self._epoch = epoch
        self._lane: Address | None = None
        self._entries: list[bytes] = []
        self._lines = LineFold()
        self._credits: _Earned = {}

    @property
    def count(self) -> int:
        """Receipts so far; those of price 0 are none."""
        return len(self._entries)

    def add(self, settled: SettledReceipt) -> None:
        """Takes a receipt in, whose signatures and sums were checked when it came.

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
        receipt_id, leaf = settled.receipt_id, receipt_leaf(self._domain, settled)
        self._entries.append(receipt_id + leaf.hash + leaf.amount.to_bytes(16, "big"))
        place = settled.author + settled.adapter
        self._lines.add(place, receipt_id, receipt.shares)
        _add_credits(self._credits, place, settled.credits)

    def receipt_tree(self) -> MerkleSumTree:
        """The tree over all receipts, by id. Raises LocalProtocolError where one came twice."""
        self._entries.sort()
        last = b""
        for entry in self._entries:
            if entry[:_ID] == last:
                raise LocalProtocolError("the same receipt twice in one epoch: it would be paid twice")
            last = entry[:_ID]
        return MerkleSumTree.from_packed(b"".join([entry[_ID:] for entry in self._entries]))

    def line_tree(self) -> MerkleSumTree:
        """The tree over the receipts' lines, by pool and id."""
        return self._lines.tree()

    def pool_credits(self) -> tuple[PoolCredit, ...]:
        """What each account earns from these receipts, by pool and role: what the next commitment credits."""
        return _to_pool_credits(self._credits)


def fold_earnings(earnings: Mapping[Address, int], credits: Iterable[PoolCredit]) -> dict[Address, int]:
    """Cumulative earnings after these credits: what the commitment that makes them claims."""
    folded = dict(earnings)
    for credit in credits:
        folded[credit.account] = folded.get(credit.account, 0) + credit.amount
    return folded


def pool_credits(receipts: Iterable[SettledReceipt]) -> tuple[PoolCredit, ...]:
    """What each account earns from these receipts, by pool and role: what the next commitment credits."""
    earned: _Earned = {}
    for settled in receipts:
        _add_credits(earned, settled.author + settled.adapter, settled.credits)
    return _to_pool_credits(earned)


def _add_credits(earned: _Earned, place: bytes, credits: Iterable[Credit]) -> None:
    for credit in credits:
        key = (place, credit.role, credit.account)
        earned[key] = earned.get(key, 0) + credit.amount


def _to_pool_credits(earned: _Earned) -> tuple[PoolCredit, ...]:
    numbers = {role: number for number, role in enumerate(ROLES)}
    return tuple(
        PoolCredit(_pool_of_place(place), numbers[role], account, amount)
        for (place, role, account), amount in earned.items()
        if amount
    )


def _pack_shares(shares: Shares) -> bytes:
    """The five amounts as uint128, in the order of the roles."""
    whole = shares.platform << 512 | shares.worker << 384 | shares.author << 256
    return (whole | shares.work_pool << 128 | shares.contributors).to_bytes(80, "big")


def _pool_of_place(place: bytes) -> bytes:
    return pool_of(Address(place[:20]), place[20:])
