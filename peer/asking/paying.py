"""The client's side of a channel: one voucher at a time, and none lost.

Rules of this file: a voucher is on disk before anybody sends it; one that its worker never got is sent again,
with the next ask.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from ...protocol.encoding.codec import encode_all
from ...protocol.errors import CommonloreError
from ...protocol.ids import Address, PeerId
from ...protocol.receipts.records import SignedReceipt, SignedVoucher
from ...protocol.receipts.rules import adopt_voucher, make_voucher
from ...protocol.requests.records import Prompt
from ...protocol.signing.eip712 import digest
from ..store.ledger_rows import NewReceipt, Role

if TYPE_CHECKING:
    from .attempt_parts import AttemptParts

log = logging.getLogger("commonlore.peer.asking.paying")
VOUCHERS = "vouchers"
"""The RPC method that takes vouchers of a channel which were lost on their way, the lowest first."""
MAX_VOUCHERS, MAX_VOUCHERS_BYTES = 128, 131_072
RESEND_PATIENCE_S = 5.0


class Paying:
    """What this peer signs for one lane, which `worker` serves."""

    def __init__(self, parts: AttemptParts, worker: PeerId, lane: Address) -> None:
        self._parts = parts
        self._worker = worker
        self._lane = lane

    async def sign(
        self, signed: SignedReceipt, tokens: tuple[int, ...], prompt: Prompt | None
    ) -> SignedVoucher:
        """The voucher for a receipt that was verified, over these output tokens; both are kept, with the
        prompt, so that the answer can be checked later.

        Raises RemoteProtocolError where the receipt does not continue the channel.
        """
        parts, receipt = self._parts, signed.receipt
        async with parts.channels.hold(self._lane):
            channel = await parts.ledger.channel(Role.CLIENT, receipt.payer, self._lane)
            voucher = make_voucher(parts.domain, parts.session, receipt, channel.voucher)
            kept = NewReceipt(
                receipt_hash=digest(parts.domain, receipt),
                signed=signed,
                tokens=tokens,
                prompt=prompt,
                created_ms=parts.clock.now_ms(),
            )
            await parts.ledger.record_voucher(Role.CLIENT, voucher, kept)
        return voucher

    async def adopt(self, shown: SignedVoucher | None, sent: SignedVoucher | None) -> None:
        """Take up a voucher of ours that only the worker still has (this home was restored from a backup,
        say); where the worker lacks some before the one that it was sent, send it those."""
        payer = self._parts.session.address
        own = await self._parts.ledger.channel(Role.CLIENT, payer, self._lane)
        highest = adopt_voucher(self._parts.domain, payer, self._lane, own.voucher, shown)
        if highest is not None and highest != own.voucher:
            await self._parts.ledger.adopt_voucher(Role.CLIENT, highest)
        reached = shown.voucher.seq if shown is not None else 0
        if sent is not None and reached < sent.voucher.seq:
            await self._resend(payer, reached)

    async def _resend(self, payer: Address, reached: int) -> None:
        """Vouchers that this worker lost: without them it can be paid nothing that comes after."""
        lost = await self._parts.ledger.vouchers_after(payer, self._lane, reached, MAX_VOUCHERS)
        try:
            with trio.move_on_after(RESEND_PATIENCE_S):
                await self._parts.rpc.call(self._worker, VOUCHERS, encode_all(lost))
        except CommonloreError as error:
            log.warning("%s does not take %d vouchers that it lost: %s", self._worker, len(lost), error)
