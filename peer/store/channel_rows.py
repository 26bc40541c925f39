"""How a channel moves on in the store: the writes of `ledger`, each inside one transaction.

Rules of this file: nothing is written before it was compared with what is there; a contradiction raises
ChannelConflict and leaves everything as it was.
"""

from __future__ import annotations

from ...protocol.encoding.codec import decode, encode
from ...protocol.errors import ProtocolError
from ...protocol.ids import receipt_id_of
from ...protocol.receipts.credits import heaviest_adapter
from ...protocol.receipts.records import Receipt, SignedReceipt, SignedVoucher, Voucher
from .database import Transaction, pack_amount
from .ledger_rows import Channel, NewReceipt, ReceiptState, Role, pack_tokens, to_channel


class ChannelConflict(ProtocolError):
    """A receipt or voucher that does not continue its channel, or contradicts what is recorded there."""

    code = "channel_conflict"


OF_CHANNEL = "role = ? AND payer = ? AND lane = ?"
ABANDON = "UPDATE receipts SET state = 'abandoned'"


async def _channel_of(sql: Transaction, role: Role, named: Receipt | Voucher) -> Channel:
    query = f"SELECT seq, cumulative, voucher FROM channels WHERE {OF_CHANNEL}"
    row = await sql.one(query, role, named.payer, named.lane)
    return to_channel(role, named.payer, named.lane, row)


async def insert_receipt(sql: Transaction, role: Role, new: NewReceipt) -> None:
    """Keep a receipt under a seq that its channel has not used. Raises ChannelConflict."""
    receipt = new.signed.receipt
    query = f"SELECT receipt_hash FROM receipts WHERE {OF_CHANNEL} AND seq = ?"
    row = await sql.one(query, role, receipt.payer, receipt.lane, receipt.seq)
    if row is not None and row[0] == new.receipt_hash:
        return
    channel = await _channel_of(sql, role, receipt)
    if row is not None or receipt.seq <= channel.seq:
        raise ChannelConflict(f"receipt {receipt.seq} of a channel that has used this number; issue it anew")
    await _write_receipt(sql, role, new)


async def _write_receipt(sql: Transaction, role: Role, new: NewReceipt) -> None:
    receipt = new.signed.receipt
    await sql.insert(
        "receipts",
        role=role,
        receipt_hash=new.receipt_hash,
        receipt_id=receipt_id_of(receipt.payer, receipt.lane, receipt.seq),
        request_hash=receipt.request_hash,
        payer=receipt.payer,
        lane=receipt.lane,
        seq=receipt.seq,
        epoch=receipt.epoch,
        adapter=heaviest_adapter(receipt.adapters),
        signed=encode(new.signed),
        prompt=None if new.prompt is None else encode(new.prompt),
        tokens=pack_tokens(new.tokens),
        state=ReceiptState.ISSUED,
        created_ms=new.created_ms,
    )


async def record_voucher(
    sql: Transaction, role: Role, signed: SignedVoucher, new: NewReceipt | None
) -> Channel:
    """Keep the next voucher of a channel with the receipt that it pays. Raises ChannelConflict."""
    voucher = signed.voucher
    channel = await _channel_of(sql, role, voucher)
    if voucher.seq <= channel.seq:
        await _require_recorded(sql, channel, signed)
        return channel
    if voucher.cumulative != channel.cumulative + voucher.price:
        raise ChannelConflict(
            f"voucher {voucher.seq} says {voucher.cumulative} in all; the channel has {channel.cumulative} "
            f"and this one pays {voucher.price}"
        )
    if new is not None:
        await insert_receipt(sql, role, new)
    if not await _is_receipt_recorded(sql, role, voucher):
        raise ChannelConflict(f"voucher {voucher.seq} names a receipt that is not recorded here")
    return await _advance(sql, role, signed)


async def adopt_voucher(sql: Transaction, signed: SignedVoucher) -> Channel:
    """Take up a client's own later voucher, whatever is missing before it. Raises ChannelConflict."""
    voucher = signed.voucher
    channel = await _channel_of(sql, Role.CLIENT, voucher)
    if voucher.seq <= channel.seq:
        return channel
    if voucher.cumulative - voucher.price < channel.cumulative:
        raise ChannelConflict(
            f"voucher {voucher.seq} says {voucher.cumulative} in all, after {channel.cumulative} was signed"
        )
    return await _advance(sql, Role.CLIENT, signed)


async def _advance(sql: Transaction, role: Role, signed: SignedVoucher) -> Channel:
    """The voucher's receipt, if it is here, is paid; receipts whose turn has passed are abandoned."""
    voucher, blob = signed.voucher, encode(signed)
    pay = "UPDATE receipts SET state = 'vouchered', voucher = ? WHERE role = ? AND receipt_hash = ?"
    await sql.run(pay, blob, role, voucher.receipt_hash)
    passed = f"{ABANDON} WHERE {OF_CHANNEL} AND state = 'issued' AND seq < ?"
    await sql.run(passed, role, voucher.payer, voucher.lane, voucher.seq)
    await sql.insert(
        "channels",
        replace=True,
        role=role,
        payer=voucher.payer,
        lane=voucher.lane,
        seq=voucher.seq,
        cumulative=pack_amount(voucher.cumulative),
        voucher=blob,
    )
    return Channel(role, voucher.payer, voucher.lane, voucher.seq, voucher.cumulative, signed)


async def _require_recorded(sql: Transaction, channel: Channel, signed: SignedVoucher) -> None:
    """A voucher at or below the channel's last must be the very one that is recorded."""
    if signed == channel.voucher:
        return
    voucher = signed.voucher
    query = f"SELECT voucher FROM receipts WHERE {OF_CHANNEL} AND seq = ? AND state = 'vouchered'"
    row = await sql.one(query, channel.role, voucher.payer, voucher.lane, voucher.seq)
    if row is None or row[0] != encode(signed):
        raise ChannelConflict(f"voucher {voucher.seq} of this channel was another one; nothing was changed")


async def _is_receipt_recorded(sql: Transaction, role: Role, voucher: Voucher) -> bool:
    """Whether the receipt that a voucher names is here; then it must say what the voucher says."""
    query = "SELECT signed FROM receipts WHERE role = ? AND receipt_hash = ?"
    row = await sql.one(query, role, voucher.receipt_hash)
    if row is None:
        return False
    receipt = decode(SignedReceipt, row[0]).receipt
    for name in ("payer", "lane", "seq", "epoch", "price"):
        if getattr(receipt, name) != getattr(voucher, name):
            raise ChannelConflict(f"voucher {voucher.seq} has another {name} than its receipt")
    return True
