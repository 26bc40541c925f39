"""The worker's door: which asks are served, in the order size, signature, freshness, terms, money, adapters,
capacity.

Rules of this file: an ask is refused with a code and a sentence before anything is computed for it; a
stranger without money leaves nothing on the disk; a request id is served once (asked again, it is refused,
unless its first try failed here); an ask that fails, fails alone.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import trio

from ...protocol.content.manifests import Split
from ...protocol.encoding.codec import decode_all
from ...protocol.errors import (
    CommonloreError,
    EngineFailed,
    InvalidAdapter,
    LocalProtocolError,
    NotFound,
    ProtocolError,
    Refused,
    RemoteProtocolError,
    Stale,
    Unreachable,
)
from ...protocol.gossip.adverts import Rates
from ...protocol.ids import RequestId, public_key_of
from ...protocol.inference.conversation import InferenceStream, Role
from ...protocol.inference.messages import Ask, Refusal, RefusalCode
from ...protocol.inference.transitions import State
from ...protocol.receipts.credits import compute_price, heaviest_adapter
from ...protocol.receipts.records import SignedVoucher
from ...protocol.receipts.rules import Terms
from ...protocol.requests.records import InferenceRequest
from ...protocol.requests.rules import check_redeemable, check_request
from ...protocol.signing.eip712 import require_signer
from ...scheduler.admission import Admission, Debts
from ...worker.adapters.store import AdapterStore
from ..asking.attempt import INFER
from ..asking.paying import MAX_VOUCHERS_BYTES, VOUCHERS
from ..catalog import Catalog
from ..clock import ChainClock
from ..settling.funds import Funds
from ..store.ledger_rows import Role as Side
from ..store.records import Records, Requests, RequestState
from ..wire.calls import Call
from ..wire.rpc import Rpc
from .conversation import Serving
from .conversation_parts import ServingParts
from .offers import Offers
from .step_receipts import Conversation

log = logging.getLogger("commonlore.peer.serving.door")
REDEEM_HORIZON_S = 86_400
"""How long a payer's key must still last, at least: its vouchers are redeemed within a day."""
EPOCH_SLACK = 1
"""Epochs by which client and worker may differ on what time it is on the chain."""


@dataclass(frozen=True, slots=True)
class DoorParts:
    """What decides about an ask."""

    serving: ServingParts
    requests: Requests
    records: Records
    catalog: Catalog
    adapters: AdapterStore
    offers: Offers
    funds: Funds
    chain_clock: ChainClock
    base_split: Split


class WorkerService:
    """Answers asks on this node's lane. Register it with `register`."""

    def __init__(self, parts: DoorParts) -> None:
        self._parts = parts
        self._serving = parts.serving
        self._admission = Admission()
        self._debts = Debts()
        self.serving_now = 0
        self.draining = False

    def register(self, rpc: Rpc) -> None:
        """Take calls of `infer` and `vouchers` from now on."""
        rpc.serve(INFER, self.handle)
        rpc.serve(VOUCHERS, self.take_vouchers)

    async def handle(self, call: Call) -> None:
        """One conversation, from ask to last voucher or refusal."""
        stream = InferenceStream(Role.WORKER, self._serving.domain)
        try:
            ask = stream.receive(await call.receive())
            if not isinstance(ask, Ask):
                raise Refused(RefusalCode.INVALID, "a conversation begins with an ask", retryable=False)
            await self._serve(call, stream, ask)
        except Unreachable as gone:
            log.info("a client left: %s", gone)
        except CommonloreError as error:
            refusal = _refusal(error)
            log.info("refused (%s): %s", refusal.code, refusal.message)
            await _tell(call, stream, refusal)

    async def take_vouchers(self, call: Call) -> None:
        """Vouchers that were signed but lost on their way, the lowest first: nothing after them can be paid
        without them. Whoever brings them, the payer's signature counts. Raises ProtocolError."""
        lane = self._serving.lane_key.address
        for signed in decode_all(SignedVoucher, await call.receive(), MAX_VOUCHERS_BYTES):
            if signed.voucher.lane != lane:
                raise RemoteProtocolError(f"a voucher for another lane than 0x{lane.hex()}")
            require_signer(self._serving.domain, signed.voucher, signed.signature, signed.voucher.payer)
            await self._serving.ledger.adopt_voucher(Side.WORKER, signed)
            bound = await self._parts.records.binding(signed.voucher.payer)
            if bound is not None:
                await self._parts.funds.keep(signed.voucher.payer, bound.binding.owner)
        await call.send(b"")

    async def _serve(self, call: Call, stream: InferenceStream, ask: Ask) -> None:
        request = ask.signed.request
        now = self._serving.clock.now_ms() // 1000
        lane = self._serving.lane_key.address
        check_request(self._serving.domain, ask.signed, now, lane, public_key_of(call.peer))
        check_redeemable(ask.signed, now + self._redeem_horizon_s())
        rates = self._offered(request)
        async with self._room(ask), self._once(ask, stream):
            await self._parts.records.put_binding(ask.signed.binding)
            facts, resident = self._serving.engine.facts, self._serving.engine.resident
            split = await self._split(ask)
            terms = Terms(request, stream.request_hash, facts.artefact, rates, split)
            serving = Serving(self._serving, Conversation(call, stream, ask, terms))
            ready = all(entry.adapter in resident for entry in request.adapters)
            await serving.accept(self.serving_now, ready)
            with self._owing(ask, serving):
                async with self._parts.adapters.lease(tuple(a.adapter for a in request.adapters)) as prepare:
                    await serving.deliver(prepare)

    def _redeem_horizon_s(self) -> int:
        """Vouchers of an epoch, or of the next, are redeemed after it."""
        return max(REDEEM_HORIZON_S, 2 * self._parts.chain_clock.epoch_length)

    @contextmanager
    def _owing(self, ask: Ask, serving: Serving) -> Iterator[None]:
        """Whoever ends an answer without paying what was delivered owes it."""
        try:
            yield
        except EngineFailed:
            raise  # our own fault
        except BaseException:
            owner, now_ms = ask.signed.binding.binding.owner, self._serving.clock.now_ms()
            self._debts.add(owner, serving.unpaid, now_ms)
            raise

    # ---- the checks

    def _offered(self, request: InferenceRequest) -> Rates:
        """The rates of the offer that a request takes up. Raises Refused."""
        facts = self._serving.engine.facts
        if self.draining:
            raise Refused(RefusalCode.SHUTDOWN, "this worker is shutting down")
        if request.base not in (facts.base, facts.artefact):
            raise Refused(
                RefusalCode.UNKNOWN_BASE, f"this worker serves base {facts.base}, not {request.base}"
            )
        self._check_epoch(request.epoch)
        rates = self._parts.offers.rates_of(request.advert_hash)
        least = compute_price(rates, 1, 1)
        if request.max_price < least:
            raise Refused(
                RefusalCode.PRICE, f"max price {request.max_price} is below the least possible, {least}"
            )
        return rates

    def _check_epoch(self, epoch: int) -> None:
        mine = self._parts.chain_clock.epoch()
        if abs(epoch - mine) > EPOCH_SLACK:
            told = f"the request is for epoch {epoch}; it is epoch {mine}"
            raise Refused(RefusalCode.STALE, told, epoch=mine)

    async def _split(self, ask: Ask) -> Split:
        request = ask.signed.request
        heaviest = heaviest_adapter(request.adapters)
        if heaviest is None:
            return self._parts.base_split
        for entry in request.adapters:
            manifest = await self._parts.catalog.payable(entry.adapter, request.epoch)
            if manifest.base != self._serving.engine.facts.base:
                raise Refused(
                    RefusalCode.BAD_ADAPTER,
                    f"adapter {entry.adapter} is for base {manifest.base}; this worker serves another",
                    retryable=False,
                )
        return (await self._parts.catalog.payable(heaviest)).split

    @asynccontextmanager
    async def _once(self, ask: Ask, stream: InferenceStream) -> AsyncIterator[None]:
        """Serve an id once until its deadline; one that failed here may be asked again."""
        request = ask.signed.request
        request_id = RequestId(request.request_id)
        known = await self._parts.requests.admit(
            request.payer, request_id, stream.request_hash, request.deadline
        )
        if known not in (None, RequestState.FAILED):
            raise Refused(
                RefusalCode.INVALID, f"request {request_id.hex()} was already {known}", retryable=False
            )
        try:
            yield
        finally:
            state = RequestState.DONE if stream.state is State.DONE else RequestState.FAILED
            with trio.CancelScope(shield=True):
                await self._parts.requests.finish(request.payer, request_id, state)

    @asynccontextmanager
    async def _room(self, ask: Ask) -> AsyncIterator[None]:
        """Hold the request's price against the credit of its payer's owner while it runs: an owner may have
        any number of session keys, and has one escrow. Raises Refused."""
        request, owner = ask.signed.request, ask.signed.binding.binding.owner
        unvouched = await self._serving.ledger.unvouchered(request.payer, request.lane)
        unvouched += self._debts.of(owner, self._serving.clock.now_ms())
        limit = await self._parts.funds.limit(request.payer, owner)
        if request.max_price > limit:
            raise Refused(
                RefusalCode.CREDIT,
                f"this ask may cost {request.max_price} token units and its payer's escrow covers {limit}: "
                "deposit more (commonlore deposit AMOUNT), or ask for fewer tokens",
                retryable=False,
            )
        with self._admission.hold(owner, request.max_price, unvouched, limit):
            self.serving_now += 1
            try:
                yield
            finally:
                with trio.CancelScope(shield=True):
                    await self._parts.funds.keep(request.payer, owner)
                self.serving_now -= 1


async def _tell(call: Call, stream: InferenceStream, refusal: Refusal) -> None:
    """Say no in the conversation where it is this worker's turn, else end the call with it."""
    if stream.over:
        return
    try:
        body = stream.send(refusal)
    except LocalProtocolError:
        raise Refused(refusal.code, refusal.message, retryable=refusal.retryable) from None
    await call.send(body)


def _refusal(error: CommonloreError) -> Refusal:
    """How an error is told to the client."""
    message = str(error).encode()[:256].decode(errors="ignore")
    match error:
        case Refused():
            return Refusal(error.code, message, error.retryable, error.epoch)
        case Stale():
            return Refusal(RefusalCode.STALE, message, True)
        case ProtocolError():
            return Refusal(RefusalCode.INVALID, message, False)
        case InvalidAdapter():
            return Refusal(RefusalCode.BAD_ADAPTER, message, False)
        case NotFound():
            return Refusal(RefusalCode.UNKNOWN_ADAPTER, message, True)
        case EngineFailed() | _:
            return Refusal(RefusalCode.FAILED, message, True)
