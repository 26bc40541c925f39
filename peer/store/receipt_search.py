"""Receipts by what people type: their number here, or the beginning of their id or hash."""

from __future__ import annotations

from dataclasses import dataclass

from .database import Database
from .ledger_rows import COLUMNS, StoredReceipt, to_receipt

HASH_DIGITS = 64
MOST_DIGITS_OF_A_NUMBER = 10
FEWEST_DIGITS_OF_A_HASH = 8
"""Fewer decimal digits than so many are a number and nothing else: nobody shall be shown another receipt."""
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class ReceiptName:
    """What may name a receipt: its `number`, or `digits`, how its id or hash begins in hexadecimal."""

    number: int | None
    digits: str | None

    @classmethod
    def parse(cls, text: str) -> ReceiptName | None:
        """None where it can name no receipt."""
        digits = text.removeprefix("0x").lower()
        if not 0 < len(digits) <= HASH_DIGITS or set(digits) - set("0123456789abcdef"):
            return None
        if not text.isdigit() or len(text) > MOST_DIGITS_OF_A_NUMBER:
            return cls(None, digits)
        return cls(int(text), digits if len(text) >= FEWEST_DIGITS_OF_A_HASH else None)


async def find_receipts(database: Database, name: ReceiptName) -> tuple[StoredReceipt, ...]:
    """The receipt of this number, else those whose id or hash begins so, a few at most: of each id the paid
    one, then the newest.
    """
    query = f"SELECT {COLUMNS} FROM receipts WHERE number = ?"
    rows = await database.read(query, name.number) if name.number is not None else []
    if not rows and name.digits is not None:
        query = (
            f"SELECT {COLUMNS} FROM receipts WHERE receipt_id BETWEEN ?1 AND ?2 "
            "OR receipt_hash BETWEEN ?1 AND ?2 "
            f"ORDER BY state = 'vouchered' DESC, number DESC LIMIT {_SHOWN}"
        )
        first, last = (bytes.fromhex(name.digits.ljust(HASH_DIGITS, filled)) for filled in "0f")
        rows = await database.read(query, first, last)
    return one_of_each(tuple(to_receipt(row) for row in rows))


async def steps_before(database: Database, stored: StoredReceipt) -> tuple[StoredReceipt, ...]:
    """The receipts of the same request whose step is earlier, in the order of steps, each step once."""
    query = (
        f"SELECT {COLUMNS} FROM receipts WHERE role = ? AND request_hash = ? AND state <> 'abandoned' "
        "ORDER BY number"
    )
    rows = await database.read(query, stored.role, stored.receipt.request_hash)
    found = {one.receipt.step: one for one in map(to_receipt, rows)}
    return tuple(found[step] for step in sorted(found) if step < stored.receipt.step)


def one_of_each(found: tuple[StoredReceipt, ...]) -> tuple[StoredReceipt, ...]:
    """The first of each id."""
    return tuple({receipt.receipt_id: receipt for receipt in reversed(found)}.values())[::-1]
