"""Leaves of a posted epoch with the paths that show them: what a fraud proof or an answer is made of.

Rules of this file: an opening has the fields of the contract's struct in their order. A gap shows that a key
is missing from a sorted tree: the two neighbours between which it would be, the first leaf where it would
come before, the last where it would come after, nothing in an empty tree.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..encoding.merkle import SumNode
from ..ids import Address, keccak256
from ..receipts.records import Voucher
from ..signing.eip712 import Domain, digest
from .commitments import EpochTrees
from .epoch_leaves import Line, PoolCredit
from .settled import SettledReceipt

T = TypeVar("T")
Path = tuple[SumNode, ...]


@dataclass(frozen=True, slots=True)
class ReceiptLeaf:
    """A receipt by its four hashes."""

    id: bytes
    receipt_digest: bytes
    voucher_digest: bytes
    signature_hash: bytes
    price: int
    index: int
    path: Path


@dataclass(frozen=True, slots=True)
class ReceiptOpening:
    """A receipt with all that its hashes are of."""

    settled: SettledReceipt
    index: int
    path: Path


@dataclass(frozen=True, slots=True)
class LineOpening:
    """A receipt's line."""

    line: Line
    index: int
    path: Path


@dataclass(frozen=True, slots=True)
class EarningsOpening:
    """An account's cumulative earnings."""

    account: Address
    cumulative: int
    index: int
    path: Path


@dataclass(frozen=True, slots=True)
class CreditOpening:
    """What an account earns in a pool in a role, by either order."""

    credit: PoolCredit
    index: int
    path: Path


@dataclass(frozen=True, slots=True)
class VoucherOpening:
    """A receipt with its voucher, and the rest by its hashes."""

    leaf: ReceiptLeaf
    voucher: Voucher


@dataclass(frozen=True, slots=True)
class CreditSpan:
    """Neighbouring credits by their ends: the first and the last (one where they are the same), and those
    just outside, where there are any."""

    before: tuple[CreditOpening, ...]
    inside: tuple[CreditOpening, ...]
    after: tuple[CreditOpening, ...]


Opening = ReceiptLeaf | VoucherOpening | ReceiptOpening | LineOpening | EarningsOpening | CreditOpening


def open_leaf(domain: Domain, trees: EpochTrees, index: int) -> ReceiptLeaf:
    """Receipt `index` by its hashes."""
    settled = trees.receipts[index]
    return ReceiptLeaf(
        id=settled.receipt_id,
        receipt_digest=digest(domain, settled.receipt),
        voucher_digest=digest(domain, settled.voucher),
        signature_hash=keccak256(settled.voucher_signature),
        price=settled.receipt.price,
        index=index,
        path=tuple(trees.receipt_tree.proof(index)),
    )


def open_voucher(domain: Domain, trees: EpochTrees, index: int) -> VoucherOpening:
    """Receipt `index` with its voucher."""
    return VoucherOpening(open_leaf(domain, trees, index), trees.receipts[index].voucher)


def open_receipt(trees: EpochTrees, index: int) -> ReceiptOpening:
    """Receipt `index`, whole."""
    return ReceiptOpening(trees.receipts[index], index, tuple(trees.receipt_tree.proof(index)))


def open_line(trees: EpochTrees, index: int) -> LineOpening:
    """Line `index`."""
    return LineOpening(trees.lines[index], index, tuple(trees.line_tree.proof(index)))


def open_earning(trees: EpochTrees, index: int) -> EarningsOpening:
    """Account `index` of the earnings."""
    earning = trees.earned[index]
    return EarningsOpening(
        earning.account, earning.cumulative, index, tuple(trees.earnings_tree.proof(index))
    )


def open_credit(trees: EpochTrees, by_pool: bool, index: int) -> CreditOpening:
    """Credit `index` of one order."""
    credits, tree = (
        (trees.pool_credits, trees.pool_credit_tree)
        if by_pool
        else (trees.account_credits, trees.account_credit_tree)
    )
    return CreditOpening(credits[index], index, tuple(tree.proof(index)))


def span_of(trees: EpochTrees, by_pool: bool, low: int, high: int) -> CreditSpan:
    """Credits `low` to `high` - 1 of one order."""

    def opened(*indexes: int) -> tuple[CreditOpening, ...]:
        count = len(trees.account_credits)
        return tuple(open_credit(trees, by_pool, index) for index in indexes if 0 <= index < count)

    inside = () if low == high else opened(low) if low + 1 == high else opened(low, high - 1)
    return CreditSpan(opened(low - 1), inside, opened(high))


def gap_of(keys: Sequence[bytes], key: bytes, opened: Callable[[int], T]) -> tuple[T, ...]:
    """The neighbours between which `key` is missing from sorted `keys`; `opened` opens a leaf by its
    index."""
    right = bisect_left(keys, key)
    return tuple(opened(index) for index in (right - 1, right) if 0 <= index < len(keys))
