"""A receipt as it is settled, and an epoch's receipts folded one at a time.

Rules of this file:

- A receipt is settled together with the voucher that names it and with its credits. Its leaf is keccak(0x00 ‖
  receipt id ‖ receipt digest ‖ voucher digest ‖ keccak(voucher signature)), its amount the price. Receipts of
  price 0 move no money and are left out.
- Of a receipt 192 bytes stay in the fold (id, leaf and amount; id and shares). They are sorted once, by id,
  strictly increasing, so that a repeated receipt is visible in two neighbours, and by pool and id for the
  lines (112 bytes more for each further adapter). Credits are added up at once: nothing else grows with
  receipts.
- A receipt by several adapters has a line in the pool of each (`receipts.parts`); each of its credits says of
  which.
- The fold is pure, and the same in whatever order receipts come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from ..content.compositions import MAX_ADAPTERS
from ..encoding.fields import Signature65, Size
from ..encoding.merkle import MAX_SUM, MerkleSumTree, SumNode
from ..errors import LocalProtocolError, RemoteProtocolError
from ..ids import ZERO_ADDRESS, Address, ReceiptId, keccak256, receipt_id_of
from ..receipts.credits import sum_shares
from ..receipts.parts import ReceiptPart, digest_of_part, receipt_parts
from ..receipts.records import MAX_CONTRIBUTORS, Credit, Receipt, Shares, Voucher
from ..receipts.rules import check_voucher_names
from ..requests.rules import check_adapters
from ..signing.eip712 import Domain, digest, require_signer
from .epoch_leaves import ROLES, PoolCredit, pool_of

_ID = 32
_LANES = (0, 128, 256, 384, 512)
_Earned = dict[tuple[bytes, str, Address], int]
"""By author and adapter, role and account: token units."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A part of a receipt in its pool: `author` is where its adapter's author is paid, `adapter` its
    digest."""

    part: ReceiptPart
    author: Address
    adapter: bytes

    @property
    def place(self) -> bytes:
        """author ‖ adapter."""
        return self.author + self.adapter

    @property
    def pool(self) -> bytes:
        """The pool that it is in."""
        return pool_of(self.author, self.adapter)


@dataclass(frozen=True, slots=True)
class SettledReceipt:
    """A paid receipt, both signatures, and who earns what from it.

    `authors` are where its adapters' authors are paid, in the adapters' order; none where it used none.
    """

    receipt: Receipt
    receipt_signature: Signature65
    voucher: Voucher
    voucher_signature: Signature65
    authors: Annotated[tuple[Address, ...], Size(0, MAX_ADAPTERS)]
    credits: Annotated[tuple[Credit, ...], Size(0, MAX_ADAPTERS * MAX_CONTRIBUTORS)]

    @property
    def receipt_id(self) -> ReceiptId:
        """Where it is sorted."""
        return receipt_id_of(self.receipt.payer, self.receipt.lane, self.receipt.seq)

    @property
    def placed(self) -> tuple[Placed, ...]:
        """Its parts in their pools, in the order of its adapters. Raises ProtocolError where its adapters
        weigh nothing, or not each has an author.
        """
        parts, authors = receipt_parts(self.receipt), self.authors or (ZERO_ADDRESS,)
        if len(self.authors) != len(self.receipt.adapters):
            raise RemoteProtocolError(f"{len(self.authors)} authors of {len(self.receipt.adapters)} adapters")
        return tuple(
            Placed(part, author, digest_of_part(part)) for part, author in zip(parts, authors, strict=True)
        )


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
    if sum_shares(receipt.shares) != receipt.price:
        raise RemoteProtocolError(f"shares do not divide the price {receipt.price} of receipt {receipt.seq}")
    if ZERO_ADDRESS in settled.authors:
        raise RemoteProtocolError("an adapter whose author is paid nowhere")
    check_adapters(receipt.adapters)
    _check_credits(settled)
    require_signer(domain, receipt, settled.receipt_signature, receipt.lane)
    require_signer(domain, settled.voucher, settled.voucher_signature, receipt.payer)


def _check_credits(settled: SettledReceipt) -> None:
    """Raises RemoteProtocolError unless each part's credits are just its amounts, role by role."""
    placed = settled.placed
    by_part: dict[int, list[Credit]] = {number: [] for number in range(len(placed))}
    for credit in settled.credits:
        if (credit.part is None) != (len(placed) == 1) or number_of(credit) not in by_part:
            raise RemoteProtocolError(f"a credit of part {credit.part} of a receipt that has {len(placed)}")
        by_part[number_of(credit)].append(credit)
    for number, credits in by_part.items():
        if _sum_roles(credits) != placed[number].part.shares:
            raise RemoteProtocolError(
                f"credits do not divide the price {settled.receipt.price} of receipt {settled.receipt.seq}"
            )


def number_of(credit: Credit) -> int:
    """The place of the adapter that a credit is of among its receipt's."""
    return credit.part or 0


def _sum_roles(credits: Iterable[Credit]) -> Shares:
    """What credits give to each role. Raises RemoteProtocolError on a role that is none."""
    sums = dict.fromkeys(ROLES, 0)
    for credit in credits:
        if credit.role not in sums:
            raise RemoteProtocolError(f"a credit for {credit.role!r:.80}, which is no role")
        sums[credit.role] += credit.amount
    return Shares(*sums.values())


class LineFold:
    """Receipts' lines: one a part, by pool and id, each with its pool's totals so far."""

    def __init__(self) -> None:
        self._pools: dict[bytes, list[bytes]] = {}

    @classmethod
    def of(cls, receipts: Iterable[SettledReceipt]) -> LineFold:
        """The lines of these receipts. Raises ProtocolError where one's parts are in no pools."""
        fold = cls()
        for settled in receipts:
            fold.add(settled.receipt_id, settled.placed)
        return fold

    @property
    def count(self) -> int:
        """Lines so far."""
        return sum(map(len, self._pools.values()))

    def add(self, receipt_id: bytes, placed: Iterable[Placed]) -> None:
        """Takes a receipt's parts in; those of nothing have no line."""
        for one in placed:
            if one.part.price:
                entry = receipt_id + _pack_shares(one.part.shares)
                self._pools.setdefault(one.place, []).append(entry)

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
        placed = settled.placed
        self._lines.add(receipt_id, placed)
        _add_credits(self._credits, placed, settled.credits)

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
        _add_credits(earned, settled.placed, settled.credits)
    return _to_pool_credits(earned)


def _add_credits(earned: _Earned, placed: Sequence[Placed], credits: Iterable[Credit]) -> None:
    places = [one.place for one in placed]
    for credit in credits:
        key = (places[number_of(credit)], credit.role, credit.account)
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
