"""One attempt to have an ask answered by one worker: the client's half of the inference conversation.

Rules of this file: a receipt is verified in full before its voucher is signed, and the voucher is on disk
before it is sent; a channel signs one voucher at a time, and one that its worker never got is sent again;
delivered tokens are handed on at once and never taken back; a worker that falls silent is left.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import trio

from ..protocol.adverts import WorkerAd
from ..protocol.codec import encode_all
from ..protocol.credits import heaviest_adapter
from ..protocol.eip712 import Domain, digest
from ..protocol.errors import CommonloreError, LocalProtocolError, Refused, RemoteProtocolError, Unreachable
from ..protocol.ids import Address, Cid, PeerId
from ..protocol.inference import InferenceStream, Role, refused
from ..protocol.keys import AccountKey
from ..protocol.manifests import Split
from ..protocol.messages import Accepted, Ask, Message, ReceiptMessage, Refusal, TokenChunk, VoucherMessage
from ..protocol.receipt_rules import Terms, adopt_voucher, check_receipt, make_voucher
from ..protocol.receipts import SignedReceipt, SignedVoucher
from ..protocol.request_rules import compute_prompt_root, sign_request
from ..protocol.requests import InferenceRequest, Prompt, SignedBinding
from . import ledger_rows
from .answers import Answer, AskOptions, Delta
from .calls import Call, EndOfCall
from .catalog import Catalog
from .clock import ChainClock, Clock
from .keyed_lock import KeyedLock
from .ledger import Ledger
from .records import Records
from .rpc import Rpc

log = logging.getLogger("commonlore.peer.attempt")
INFER = "infer"
"""The RPC method whose call is one inference conversation."""
VOUCHERS = "vouchers"
"""The RPC method that takes vouchers of a channel which were lost on their way, the lowest first."""
MAX_VOUCHERS, MAX_VOUCHERS_BYTES = 128, 131_072
ACCEPT_PATIENCE_S = 30.0
"""How long a worker may take to admit or refuse an ask: it may have to find an adapter's manifest first."""
SILENCE_PATIENCE_S = 60.0
"""How long a worker may say nothing once it has begun to answer."""
RESEND_PATIENCE_S = 5.0
FAREWELL_PATIENCE_S = 2.0
"""How long a worker may take to put the last voucher on its disk, before its client goes."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A worker's newest advert; requests name it by hash and so agree to its prices."""

    peer: PeerId
    ad: WorkerAd
    advert_hash: bytes


@dataclass(frozen=True, slots=True)
class AttemptParts:
    """What an attempt needs of its node.

    `binding()` gives the one in force; `entropy(n)` n random bytes.
    """

    rpc: Rpc
    ledger: Ledger
    records: Records
    catalog: Catalog
    session: AccountKey
    binding: Callable[[], SignedBinding]
    domain: Domain
    clock: Clock
    chain_clock: ChainClock
    channels: KeyedLock[bytes]
    entropy: Callable[[int], bytes]
    max_price: int
    """Token units that an answer may cost whose caller names no limit."""


@dataclass(frozen=True, slots=True)
class AttemptTerms:
    """What the ask allows this attempt: `deadline_ms` Unix milliseconds, `max_price` token units."""

    base: Cid
    deadline_ms: int
    max_price: int


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
        self._heard = 0

    async def run(
        self, take: Callable[[Delta], Awaitable[None]], whole: Callable[[], None] = lambda: None
    ) -> None:
        """Until the answer is whole, which `whole` is told at once, and the worker has its last voucher.

        Raises Refused, Unreachable, ProtocolError; what was delivered stays delivered.
        """
        script = self._answer.transcript
        if len(script.tokens) >= self._options.sampling.max_tokens:
            return whole()  # a worker died between its last token and its receipt
        script.workers.append(self._offer.peer)
        prompt = self._prompt(tuple(script.tokens))
        request = self._request(prompt)
        split = await self._split()
        await self._parts.records.put_binding(self._offer.ad.binding)
        lane = request.lane
        own = await self._parts.ledger.channel(ledger_rows.Role.CLIENT, request.payer, lane)
        async with self._parts.rpc.open(self._offer.peer, INFER) as call:
            signed = sign_request(
                self._parts.domain, self._parts.session, request, self._parts.binding(), prompt
            )
            await call.send(self._stream.send(Ask(signed, own.voucher)))
            terms = Terms(
                request, self._stream.request_hash, self._offer.ad.artefact, self._offer.ad.rates, split
            )
            while not self._stream.over:
                message = await self._receive(call)
                if isinstance(message, Accepted):
                    await self._adopt(message.channel, own.voucher)
                else:
                    await self._follow(call, message, terms, take)
            whole()
            await self._take_leave(call)

    async def _take_leave(self, call: Call) -> None:
        """Wait until the worker ends the call, with the last voucher on its disk: sent is not yet received,
        and this peer may be about to end. Shielded, for whoever has the whole answer leaves."""
        with trio.move_on_after(FAREWELL_PATIENCE_S, shield=True), suppress(EndOfCall, Unreachable, Refused):
            await call.receive()

    async def _receive(self, call: Call) -> Message:
        """The next message. Between being admitted and the first token an ask may wait in line."""
        patience = {0: ACCEPT_PATIENCE_S, 1: float("inf")}.get(self._heard, SILENCE_PATIENCE_S)
        try:
            with trio.fail_after(patience):
                body = await call.receive()
        except trio.TooSlowError:
            raise Unreachable(f"worker {self._offer.peer} said nothing for {patience:g} s") from None
        except EndOfCall:
            raise Unreachable(f"worker {self._offer.peer} ended the answer before its last receipt") from None
        self._heard += 1
        return self._stream.receive(body)

    async def _follow(
        self, call: Call, message: Message, terms: Terms, take: Callable[[Delta], Awaitable[None]]
    ) -> None:
        match message:
            case TokenChunk():
                script = self._answer.transcript
                script.tokens.extend(message.tokens)
                script.text += message.text
                await take(Delta(message.tokens, message.text, message.logprobs))
            case ReceiptMessage():
                await self._pay(call, message, terms)
            case Refusal():
                raise refused(message)
            case _:
                raise LocalProtocolError(f"a {type(message).__name__} cannot come from a worker")

    async def _pay(self, call: Call, message: ReceiptMessage, terms: Terms) -> None:
        """Verify the receipt, keep it and its voucher, and send the voucher."""
        check_receipt(self._parts.domain, message.receipt, terms, self._stream.step)
        receipt = message.receipt.receipt
        async with self._parts.channels.hold(receipt.lane):
            channel = await self._parts.ledger.channel(ledger_rows.Role.CLIENT, receipt.payer, receipt.lane)
            voucher = make_voucher(self._parts.domain, self._parts.session, receipt, channel.voucher)
            await self._keep(message.receipt, voucher)
        await call.send(self._stream.send(VoucherMessage(voucher)))
        script = self._answer.transcript
        script.receipts.append(message.receipt)
        script.prompt_tokens = script.prompt_tokens or receipt.prompt_tokens
        if message.final:
            script.finish = message.receipt.details.finish

    async def _keep(self, signed: SignedReceipt, voucher: SignedVoucher) -> None:
        kept = ledger_rows.NewReceipt(
            receipt_hash=digest(self._parts.domain, signed.receipt),
            signed=signed,
            tokens=self._stream.step.tokens,
            prompt=None,
            created_ms=self._parts.clock.now_ms(),
        )
        await self._parts.ledger.record_voucher(ledger_rows.Role.CLIENT, voucher, kept)

    async def _adopt(self, shown: SignedVoucher | None, sent: SignedVoucher | None) -> None:
        """Take up a voucher of ours that only the worker still has (this home was restored from a backup,
        say); where the worker lacks some before the one that it was sent, send it those."""
        payer, lane = self._parts.session.address, self._offer.ad.binding.binding.session_key
        own = await self._parts.ledger.channel(ledger_rows.Role.CLIENT, payer, lane)
        highest = adopt_voucher(self._parts.domain, payer, lane, own.voucher, shown)
        if highest is not None and highest != own.voucher:
            await self._parts.ledger.adopt_voucher(ledger_rows.Role.CLIENT, highest)
        reached = shown.voucher.seq if shown is not None else 0
        if sent is not None and reached < sent.voucher.seq:
            await self._resend(payer, lane, reached)

    async def _resend(self, payer: Address, lane: Address, reached: int) -> None:
        """Vouchers that this worker lost: without them it can be paid nothing that comes after."""
        lost = await self._parts.ledger.vouchers_after(payer, lane, reached, MAX_VOUCHERS)
        try:
            with trio.move_on_after(RESEND_PATIENCE_S):
                await self._parts.rpc.call(self._offer.peer, VOUCHERS, encode_all(lost))
        except CommonloreError as error:
            log.warning("%s does not take %d vouchers that it lost: %s", self._offer.peer, len(lost), error)

    def _prompt(self, delivered: tuple[int, ...]) -> Prompt:
        options = self._options
        return Prompt(
            self._parts.entropy(32), options.messages, options.stop, delivered, options.top_logprobs
        )

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

        Raises NotFound, Unreachable, InvalidAdapter.
        """
        adapter = heaviest_adapter(self._answer.adapters)
        if adapter is None:
            return self._offer.ad.base_split
        manifest = await self._parts.catalog.adapter(adapter)
        if manifest.base != self._terms.base:
            raise RemoteProtocolError(
                f"adapter {adapter} is for base {manifest.base}, not {self._terms.base}"
            )
        return manifest.split
