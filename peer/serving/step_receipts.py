"""The receipts of one answer, step by step: issued, paid, kept.

Rules of this file: a receipt is on disk before it is sent, and its voucher before more is delivered; one
receipt of a channel waits for its voucher at a time, so that cumulative amounts have one order.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from ...protocol.errors import Refused, Unreachable
from ...protocol.inference.conversation import InferenceStream
from ...protocol.inference.messages import Ask, ReceiptMessage, RefusalCode
from ...protocol.inference.transitions import State
from ...protocol.receipts.records import ReceiptDetails, SignedVoucher
from ...protocol.receipts.rules import Terms, check_voucher, compute_receipt, name_parts, sign_receipt
from ...protocol.signing.eip712 import digest
from ..clock import Clock
from ..store.ledger_rows import NewReceipt, Role
from ..wire.calls import Call
from .conversation_parts import PaidStep, ServingParts

VOUCHER_PATIENCE_S = 20.0
"""How long a client may take to sign a receipt before the worker stops waiting and abandons it."""


@dataclass(slots=True)
class Progress:
    """How far an answer is: what its receipts tell. Times count from `started_ms`, Unix milliseconds."""

    started_ms: int
    load_ms: int = 0
    first_token_ms: int = 0
    prompt_tokens: int = 0

    def now_ms(self, clock: Clock) -> int:
        """Milliseconds since the start."""
        return clock.now_ms() - self.started_ms


@dataclass(frozen=True, slots=True)
class Conversation:
    """One ask under way: what both sides agreed on, and where they speak."""

    call: Call
    stream: InferenceStream
    ask: Ask
    terms: Terms


class StepReceipts:
    """Of one conversation. Its vouchers come by `vouchers`, which ends when the client has left."""

    def __init__(
        self,
        parts: ServingParts,
        conversation: Conversation,
        vouchers: trio.MemoryReceiveChannel[SignedVoucher],
    ) -> None:
        self.progress = Progress(parts.clock.now_ms())
        self._parts = parts
        self._call = conversation.call
        self._stream = conversation.stream
        self._ask = conversation.ask
        self._terms = conversation.terms
        self._vouchers = vouchers
        self._before = list(conversation.ask.signed.prompt.delivered)

    async def settle(self, finish: str, *, final: bool) -> None:
        """Issue the step's receipt, wait for its voucher, and keep both. Shielded from the client's cancel:
        what was delivered is to be paid.

        Raises Refused, Unreachable, RemoteProtocolError.
        """
        with trio.CancelScope(shield=True):
            async with self._parts.channels.hold(self._terms.request.payer):
                step = self._stream.step
                kept = await self._issue(finish)
                try:
                    await self._collect(kept, final)
                except BaseException:
                    await self._abandon(kept)
                    raise
            paid = PaidStep(
                self._ask.signed, kept.signed, kept.receipt_hash, tuple(self._before), step.tokens
            )
            self._before.extend(step.tokens)
            self._parts.attribution.take(paid)

    async def _issue(self, finish: str) -> NewReceipt:
        parts, request = self._parts, self._terms.request
        seq = await parts.ledger.next_seq(Role.WORKER, request.payer, request.lane)
        details = self._details(finish)
        receipt = compute_receipt(self._terms, self._stream.step, seq, self.progress.prompt_tokens, details)
        signed = sign_receipt(parts.domain, parts.lane_key, receipt, details)
        kept = NewReceipt(
            receipt_hash=digest(parts.domain, receipt),
            signed=signed,
            tokens=self._stream.step.tokens,
            prompt=self._ask.signed.prompt,
            created_ms=parts.clock.now_ms(),
        )
        await parts.ledger.record_receipt(Role.WORKER, kept)
        return kept

    async def _collect(self, kept: NewReceipt, final: bool) -> None:
        """Send the receipt and keep its voucher. Raises Refused, Unreachable, RemoteProtocolError."""
        receipt, ledger = kept.signed.receipt, self._parts.ledger
        voucher = await self._exchange(kept, final)
        channel = await ledger.channel(Role.WORKER, receipt.payer, receipt.lane)
        if voucher != channel.voucher:  # it may have come by another way already
            check_voucher(self._parts.domain, voucher, receipt, channel.voucher)
        await ledger.record_voucher(Role.WORKER, voucher)

    async def _exchange(self, kept: NewReceipt, final: bool) -> SignedVoucher:
        """The receipt for its voucher; the receipt after a cancel is the last."""
        self._parts.attribution.expect(self._ask, kept.receipt_hash)
        last = final or self._stream.state is State.CANCELLING
        try:
            with trio.fail_after(VOUCHER_PATIENCE_S):
                await self._call.send(self._stream.send(ReceiptMessage(kept.signed, last)))
                return await self._vouchers.receive()
        except trio.TooSlowError:
            patience = f"no voucher within {VOUCHER_PATIENCE_S:g} s"
            raise Refused(RefusalCode.STALE, patience, retryable=False) from None
        except trio.EndOfChannel:
            raise Unreachable("the client left before it paid a receipt") from None

    async def _abandon(self, kept: NewReceipt) -> None:
        self._parts.attribution.give_up(kept.receipt_hash)
        await self._parts.ledger.abandon_receipt(Role.WORKER, kept.receipt_hash)

    def _details(self, finish: str) -> ReceiptDetails:
        facts = self._parts.engine.facts
        details = ReceiptDetails(
            tokenizer=facts.tokenizer,
            template=facts.chat_template,
            sampling=self._terms.request.sampling,
            finish=finish,
            load_ms=self.progress.load_ms,
            first_token_ms=self.progress.first_token_ms,
            total_ms=self.progress.now_ms(self._parts.clock),
        )
        return name_parts(details, self._ask.signed.prompt)
