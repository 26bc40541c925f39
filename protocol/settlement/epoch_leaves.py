"""The leaves of an epoch's trees beside its receipts': lines, credits, earnings.

Rules of this file:

- A leaf is keccak(0x00 ‖ its fields, packed); packed lengths differ, so no leaf passes for one of another
  tree.
- A pool is an adapter under the account that its author is paid at: keccak(abi.encode(author, adapter)), as
  the Registry names it; 32 zero bytes for answers without an adapter. `adapter` is the digest of the
  adapter's id.
- A line stands for one receipt in the order of (pool, receipt id). Its totals are the role shares of all
  receipts of its pool up to and including its own, so a pool's last line holds what the pool has to pay.
- A credit is what an account earns in a pool in a role, from all receipts of one commitment together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..encoding.fields import U8, U128, Hash32, Size
from ..encoding.merkle import SumNode
from ..ids import Address, keccak256

ROLES = ("platform", "worker", "author", "work_pool", "contributor")
"""In the order of `Shares`; a role's number is its place."""
NO_POOL = bytes(32)
LINE_BYTES = 180


@dataclass(frozen=True, slots=True)
class Line:
    """A receipt among those of its pool. `totals` are five amounts, one a role."""

    author: Address
    adapter: Hash32
    receipt_id: Hash32
    totals: Annotated[tuple[U128, ...], Size(5, 5)]
    price: U128

    @property
    def pool(self) -> bytes:
        """Where it is sorted first."""
        return pool_of(self.author, self.adapter)


@dataclass(frozen=True, slots=True)
class PoolCredit:
    """Token units that an account earns in a pool, in the role of this number."""

    pool: Hash32
    role: U8
    account: Address
    amount: U128


def pool_of(author: Address, adapter: bytes) -> bytes:
    """The pool of an adapter (its 32-byte digest; zero bytes: no adapter)."""
    if adapter == NO_POOL:
        return NO_POOL
    return keccak256(bytes(12) + author + adapter)


def pack_line(line: Line) -> bytes:
    """The 180 bytes that a line's leaf hashes."""
    totals = b"".join([total.to_bytes(16, "big") for total in line.totals])
    return line.author + line.adapter + line.receipt_id + totals + line.price.to_bytes(16, "big")


def unpack_line(packed: bytes) -> Line:
    """The line of these 180 bytes."""
    starts = range(84, LINE_BYTES, 16)
    *totals, price = (int.from_bytes(packed[start : start + 16], "big") for start in starts)
    return Line(Address(packed[:20]), packed[20:52], packed[52:84], tuple(totals), price)


def line_leaf(line: Line) -> SumNode:
    """The leaf of a line and its amount, the receipt's price."""
    return SumNode(keccak256(b"\x00" + pack_line(line)), line.price)


def pack_credit(credit: PoolCredit) -> bytes:
    """The 69 bytes that a credit's leaf hashes."""
    amount = credit.amount.to_bytes(16, "big")
    return credit.pool + bytes((credit.role,)) + credit.account + amount


def credit_leaf(credit: PoolCredit) -> SumNode:
    """The leaf of a credit and its amount: the same in both orders."""
    return SumNode(keccak256(b"\x00" + pack_credit(credit)), credit.amount)


def earnings_leaf(account: Address, cumulative: int) -> SumNode:
    """The leaf of an account and its amount, all that it has earned in the lane."""
    return SumNode(keccak256(b"\x00" + account + cumulative.to_bytes(16, "big")), cumulative)


def by_account(credit: PoolCredit) -> bytes:
    """The one order of credits: by account, pool and role."""
    return credit.account + credit.pool + bytes((credit.role,))


def by_pool(credit: PoolCredit) -> bytes:
    """The other order of credits: by pool, role and account."""
    return credit.pool + bytes((credit.role,)) + credit.account
