"""A receipt's parts: what of it the pool of each of its adapters has. Integers only.

Rules of this file:

- The author's and the contributors' amount are divided by the adapters' weights, by largest remainder, ties
  to the lowest adapter (by its digest, as the chain compares): each adapter's own author and contributors
  have its part.
- The other roles' amounts are the heaviest adapter's, whose split divided the price. An answer without an
  adapter has one part, which is all of it.
- Parts add up to the receipt's shares, role by role. One of nothing is no part of any pool.
- Statements, lines, credits and proofs are about parts. What is said of an answer as a whole is its adapters'
  contributors' weights, each set counting with its adapter's weight (`channels.mix_adapters`).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..ids import Cid, digest_of
from .credits import apportion, heaviest_adapter, sum_shares
from .records import Receipt, Shares

NO_SHARES = Shares(0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class ReceiptPart:
    """One adapter's part of a receipt; `number` is the adapter's place there. `adapter` None: none was
    used."""

    number: int
    adapter: Cid | None
    weight_ppm: int
    shares: Shares

    @property
    def price(self) -> int:
        """What the part's amounts add up to."""
        return sum_shares(self.shares)


def receipt_parts(receipt: Receipt) -> tuple[ReceiptPart, ...]:
    """A receipt's parts in the order of its adapters, those of nothing too.

    Raises LocalProtocolError where its adapters weigh nothing.
    """
    entries, shares = receipt.adapters, receipt.shares
    if not entries:
        return (ReceiptPart(0, None, 0, shares),)
    if len(entries) == 1:
        return (ReceiptPart(0, entries[0].adapter, entries[0].weight_ppm, shares),)
    keys, weights = [digest_of(entry.adapter) for entry in entries], [entry.weight_ppm for entry in entries]
    authors = apportion(shares.author, weights, keys)
    contributors = apportion(shares.contributors, weights, keys)
    heaviest = [entry.adapter for entry in entries].index(heaviest_adapter(entries) or entries[0].adapter)
    return tuple(
        ReceiptPart(number, entry.adapter, entry.weight_ppm, _shares(shares, number == heaviest, *parts))
        for number, (entry, *parts) in enumerate(zip(entries, authors, contributors, strict=True))
    )


def part_of(receipt: Receipt, adapter: bytes) -> Shares:
    """The amounts of the adapter of this digest (zero bytes: none); nothing where a receipt does not name it.

    Raises LocalProtocolError where its adapters weigh nothing.
    """
    return next(
        (part.shares for part in receipt_parts(receipt) if digest_of_part(part) == adapter), NO_SHARES
    )


def digest_of_part(part: ReceiptPart) -> bytes:
    """The 32 bytes by which a pool names the part's adapter; zero bytes where none was used."""
    return bytes(32) if part.adapter is None else digest_of(part.adapter)


def attributed(receipt: Receipt) -> tuple[ReceiptPart, ...]:
    """The parts that are in some adapter's pool: what statements are made of."""
    return tuple(part for part in receipt_parts(receipt) if part.adapter is not None and part.price)


def _shares(whole: Shares, is_heaviest: bool, author: int, contributors: int) -> Shares:
    if not is_heaviest:
        return Shares(0, 0, author, 0, contributors)
    return Shares(whole.platform, whole.worker, author, whole.work_pool, contributors)
