"""One attempt to have an ask answered by one worker: the client's half of the inference conversation.

Rules of this file: a receipt is verified in full before its voucher is signed, and the voucher is on disk
before it is sent; a channel signs one voucher at a time, and one that its worker never got is sent again;
delivered tokens are handed on at once and never taken back; a worker that falls silent is left (`patience`);
whoever wants no more says so, and pays what was delivered.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from ...protocol.content.manifests import Split
from ...protocol.content.splits import check_split_bounds
from ...protocol.errors import (
    CommonloreError,
    DeadlineExceeded,
    LocalProtocolError,
    Refused,
    RemoteProtocolError,
    Unreachable,
)
from ...protocol.inference.conversation import InferenceStream, Role, refused
from ...protocol.inference.messages import (
    Accepted,
    Ask,
    Cancel,
    Message,
    ReceiptMessage,
    Refusal,
    TokenChunk,
    VoucherMessage,
)
from ...protocol.inference.transitions import State
from ...protocol.receipts.credits import heaviest_adapter
from ...protocol.receipts.records import SignedVoucher
from ...protocol.receipts.rules import Terms, check_parts_named, check_receipt
from ...protocol.requests.records import InferenceRequest, Prompt, PromptPart
from ...protocol.requests.rules import compute_prompt_root, sign_request
from ...protocol.requests.tools import with_tool_parts
from ..store import ledger_rows
from ..wire.calls import Call, EndOfCall
from .answers import Answer, AskOptions, Delta
from .attempt_parts import AttemptParts, AttemptTerms, Offer
from .hearing import Hearing, prompt_tokens
from .paying import Paying

log = logging.getLogger("commonlore.peer.asking.attempt")
INFER = "infer"
"""The RPC method whose call is one inference conversation."""
PAYING_PATIENCE_S = 5.0
"""How long it may take to sign a voucher, keep it and hand it over, once its receipt was found right."""
FAREWELL_PATIENCE_S = 2.0
"""How long a worker may take to put the last voucher on its disk, before its client goes."""
CANCEL_PATIENCE_S = 3.0
"""How long a client that wants no more stays to pay what was delivered."""
CLOSING_S = 3.0
"""How long before the deadline an answer is ended, at most: its last receipt is to be paid by then."""
DEADLINE = "deadline"
"""Why an answer ended whose time was over."""
WHOLE = ("stop", "length")

Take = Callable[[Delta], Awaitable[None]]
"""Gets what was delivered, as it comes."""


class Attempt:
    """One conversation with one worker, appending to the answer's transcript."""

    def __init__(
        self, parts: AttemptParts, options: AskOptions, answer: Answer, offer: Offer, terms: AttemptTerms
    ) -> None:
        self._parts = parts
        self._options = options
        self._answer = answer
        self._offer = offer
        self._terms = terms
        self._stream = InferenceStream(Role.CLIENT, parts.domain)
        self._paying = Paying(parts, offer.peer, offer.ad.binding.binding.session_key)
        self._hearing = Hearing(parts.clock, self._stream, offer, terms)
        self._opening: Prompt | None = None

    async def run(
        self,
        take: Take,
        whole: Callable[[], None] = lambda: None,
        left: Callable[[], None] = lambda: None,
    ) -> None:
        """Until the answer is whole, which `whole` is told at once, and the worker has its last voucher.

        Cancelled, it tells `left` at once, then the worker, and pays what was delivered. Raises Refused,
        Unreachable, ProtocolError; what was delivered stays delivered.
        """
        script = self._answer.transcript
        if len(script.tokens) >= self._options.sampling.max_tokens:
            return whole()  # a worker died between its last token and its receipt
        script.workers.append(self._offer.peer)
        prompt = self._opening = self._prompt(tuple(script.tokens))
        request = self._request(prompt)
        split = await self._split()
        await self._parts.records.put_binding(self._offer.ad.binding)
        lane = request.lane
        own = await self._parts.ledger.channel(ledger_rows.Role.CLIENT, request.payer, lane)
        async with self._parts.rpc.open(self._offer.peer, INFER) as call:
            signed = sign_request(
                self._parts.domain, self._parts.session, request, self._parts.binding(), prompt
            )
            body = self._stream.send(Ask(signed, own.voucher))
            terms = Terms(
                request, self._stream.request_hash, self._offer.ad.artefact, self._offer.ad.rates, split
            )
            try:
                await call.send(body)
                with trio.move_on_after(self._time_s()) as time:
                    await self._converse(call, own.voucher, terms, take)
                if time.cancelled_caught:
                    await self._stop(call, own.voucher, terms, take)
            except trio.Cancelled:
                left()
                await self._cancel(call, own.voucher, terms)
                raise
            whole()
            await self._take_leave(call)

    async def _converse(self, call: Call, sent: SignedVoucher | None, terms: Terms, take: Take) -> None:
        """Until the conversation is over; the ask showed the worker the voucher `sent`."""
        while not self._stream.over:
            message = await self._hearing.receive(call, prompt_tokens(self._options, self._answer))
            if isinstance(message, Accepted):
                await self._paying.adopt(message.channel, sent)
            else:
                await self._follow(call, message, terms, take)

    def _time_s(self) -> float:
        """Seconds until the worker is to be told that the time is over: enough before the deadline to get and
        pay its last receipt."""
        left_s = (self._terms.deadline_ms - self._parts.clock.now_ms()) / 1000
        return max(0, left_s - min(CLOSING_S, left_s / 4))

    async def _stop(self, call: Call, sent: SignedVoucher | None, terms: Terms, take: Take) -> None:
        """The time is over: end the answer with what was delivered, and paid. Raises DeadlineExceeded where
        that is nothing."""
        script = self._answer.transcript
        if self._stream.over:
            return
        try:
            if self._stream.state in (State.ASKED, State.STREAMING):
                await call.send(self._stream.send(Cancel()))
            await self._converse(call, sent, terms, take)
        except Refused:  # nothing since the last receipt
            if not script.tokens or script.paid_tokens < len(script.tokens):
                raise DeadlineExceeded(self._options.too_late) from None
        if script.finish not in WHOLE:  # it may have come to its end while it was told to stop
            script.finish = DEADLINE

    async def _cancel(self, call: Call, sent: SignedVoucher | None, terms: Terms) -> None:
        """Ask the worker to stop, and pay what it had delivered. Shielded, and short: whoever left waits."""
        with (
            trio.move_on_after(CANCEL_PATIENCE_S, shield=True),
            suppress(CommonloreError),
        ):
            if self._stream.state in (State.ASKED, State.STREAMING):
                await call.send(self._stream.send(Cancel()))
            await self._converse(call, sent, terms, _nobody)
            await self._take_leave(call)

    async def _take_leave(self, call: Call) -> None:
        """Wait until the worker ends the call, with the last voucher on its disk: sent is not yet received,
        and this peer may be about to end. Shielded, for whoever has the whole answer leaves."""
        with trio.move_on_after(FAREWELL_PATIENCE_S, shield=True), suppress(EndOfCall, Unreachable, Refused):
            await call.receive()

    async def _follow(self, call: Call, message: Message, terms: Terms, take: Take) -> None:
        if self._terms.claim is not None and isinstance(message, TokenChunk | ReceiptMessage):
            self._answer = self._terms.claim()
        match message:
            case TokenChunk():
                self._answer.transcript.add(message, self._offer.ad.artefact)
                await take(Delta(message.tokens, message.text, message.logprobs))
            case ReceiptMessage():
                await self._pay(call, message, terms)
            case Refusal():
                raise refused(message)
            case _:
                raise LocalProtocolError(f"a {type(message).__name__} cannot come from a worker")

    async def _pay(self, call: Call, message: ReceiptMessage, terms: Terms) -> None:
        """Verify the receipt, keep it and its voucher, and send the voucher. Shielded: what was verified is
        paid, whoever leaves meanwhile."""
        check_receipt(self._parts.domain, message.receipt, terms, self._stream.step)
        check_parts_named(message.receipt.details, self._prompt(()))
        receipt = message.receipt.receipt
        with trio.move_on_after(PAYING_PATIENCE_S, shield=True) as limit:
            voucher = await self._paying.sign(message.receipt, self._stream.step.tokens, self._opening)
            await call.send(self._stream.send(VoucherMessage(voucher)))
        if limit.cancelled_caught:
            raise Unreachable(f"worker {self._offer.peer} does not take its voucher")
        script = self._answer.transcript
        script.receipts.append(message.receipt)
        script.prompt_tokens = script.prompt_tokens or receipt.prompt_tokens
        if message.final:
            script.finish = message.receipt.details.finish

    def _prompt(self, delivered: tuple[int, ...]) -> Prompt:
        options = self._options
        return Prompt(
            self._parts.entropy(32),
            options.messages,
            options.stop,
            delivered,
            options.top_logprobs,
            self._parts_of_prompt(),
        )

    def _parts_of_prompt(self) -> tuple[PromptPart, ...]:
        try:
            return with_tool_parts(self._options.messages, self._options.prompt_parts)
        except RemoteProtocolError as wrong:
            raise LocalProtocolError(str(wrong)) from None

    def _request(self, prompt: Prompt) -> InferenceRequest:
        ad = self._offer.ad
        return InferenceRequest(
            request_id=self._parts.entropy(16),
            payer=self._parts.session.address,
            lane=ad.binding.binding.session_key,
            base=self._terms.base,
            adapters=self._answer.adapters,
            prompt_root=compute_prompt_root(prompt),
            sampling=self._options.sampling,
            advert_hash=self._offer.advert_hash,
            max_price=self._terms.max_price,
            epoch=self._parts.chain_clock.epoch(),
            deadline=-(-self._terms.deadline_ms // 1000),
            disclosure=self._options.disclosure,
        )

    async def _split(self) -> Split:
        """The split that the receipts of this request must follow.

        Raises NotFound, Unreachable, InvalidAdapter; RemoteProtocolError where the worker's own is out of
        bounds.
        """
        catalog, adapter = self._parts.catalog, heaviest_adapter(self._answer.adapters)
        if adapter is None:
            check_split_bounds(self._offer.ad.base_split, catalog.split_bounds())
            return self._offer.ad.base_split
        manifest = await catalog.payable(adapter)
        if manifest.base != self._terms.base:
            raise RemoteProtocolError(
                f"adapter {adapter} is for base {manifest.base}, not {self._terms.base}"
            )
        return manifest.split


async def _nobody(_delta: Delta) -> None:
    """Takes what comes after its reader has left: it is in the transcript, and paid."""
