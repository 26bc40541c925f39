"""What the ledger's rows are in Python: channels and receipts, and how they are stored."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import StrEnum

from ...protocol.encoding.codec import decode, decode_all
from ...protocol.ids import Address, ReceiptId, receipt_id_of
from ...protocol.receipts.records import Credit, Receipt, SignedReceipt, SignedVoucher
from ...protocol.requests.records import Prompt
from .database import Row, unpack_amount


class Role(StrEnum):
    """What this node is in a channel."""

    CLIENT = "client"
    WORKER = "worker"


class ReceiptState(StrEnum):
    """issued: waits for its voucher; vouchered: paid by one; abandoned: its client vanished."""

    ISSUED = "issued"
    VOUCHERED = "vouchered"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class Channel:
    """How far a channel (payer, lane) has come: its highest voucher. Before any: seq 0, cumulative 0."""

    role: Role
    payer: Address
    lane: Address
    seq: int = 0
    cumulative: int = 0
    voucher: SignedVoucher | None = None


@dataclass(frozen=True, slots=True)
class NewReceipt:
    """A receipt to be recorded.

    `receipt_hash` is its EIP-712 digest; `prompt` and `tokens` open its roots (private).
    """

    receipt_hash: bytes
    signed: SignedReceipt
    tokens: tuple[int, ...] = ()
    prompt: Prompt | None = None
    created_ms: int = 0


@dataclass(frozen=True, slots=True)
class StoredReceipt:
    """A recorded receipt. `number` rises with time; `commitment` is the epoch whose commitment holds it."""

    number: int
    role: Role
    receipt_hash: bytes
    signed: SignedReceipt
    state: ReceiptState
    tokens: tuple[int, ...]
    prompt: Prompt | None
    voucher: SignedVoucher | None
    credits: tuple[Credit, ...] | None
    commitment: int | None
    created_ms: int

    @property
    def receipt(self) -> Receipt:
        """What was signed."""
        return self.signed.receipt

    @property
    def receipt_id(self) -> ReceiptId:
        """Its one name."""
        return receipt_id_of(self.receipt.payer, self.receipt.lane, self.receipt.seq)


COLUMNS = (
    "number, role, receipt_hash, signed, state, tokens, prompt, voucher, credits, commitment, created_ms"
)


def to_channel(role: Role, payer: Address, lane: Address, row: Row | None) -> Channel:
    """A channel from (seq, cumulative, voucher), or a fresh one."""
    if row is None:
        return Channel(role, payer, lane)
    seq, cumulative, voucher = row
    return Channel(role, payer, lane, seq, unpack_amount(cumulative), decode(SignedVoucher, voucher))


def to_receipt(row: Row) -> StoredReceipt:
    """A receipt from a row of COLUMNS."""
    number, role, receipt_hash, signed, state, tokens, prompt, voucher, credits, commitment, created_ms = row
    return StoredReceipt(
        number=number,
        role=Role(role),
        receipt_hash=receipt_hash,
        signed=decode(SignedReceipt, signed),
        state=ReceiptState(state),
        tokens=struct.unpack(f"<{len(tokens) // 4}I", tokens),
        prompt=None if prompt is None else decode(Prompt, prompt),
        voucher=None if voucher is None else decode(SignedVoucher, voucher),
        credits=None if credits is None else decode_all(Credit, credits),
        commitment=commitment,
        created_ms=created_ms,
    )


def pack_tokens(tokens: tuple[int, ...]) -> bytes:
    """Output tokens as stored: uint32, little-endian."""
    return struct.pack(f"<{len(tokens)}I", *tokens)
