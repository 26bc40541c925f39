"""The worker's door: which asks are served, in the order size, signature, freshness, terms, adapters, money,
capacity.

Rules of this file: an ask is refused with a code and a sentence before anything is computed for it; a request
id is served once (asked again, it is refused, unless its first try failed here); an ask that fails, fails
alone.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from ..protocol.credits import compute_price, heaviest_adapter
from ..protocol.errors import (
    CommonloreError,
    EngineFailed,
    InvalidAdapter,
    NotFound,
    ProtocolError,
    Refused,
    Stale,
    Unreachable,
)
from ..protocol.ids import RequestId, public_key_of
from ..protocol.inference import InferenceStream, Role
from ..protocol.manifests import Split
from ..protocol.messages import Ask, Refusal, RefusalCode
from ..protocol.receipt_rules import Terms
from ..protocol.request_rules import check_redeemable, check_request
from ..scheduler.admission import Admission
from ..worker.adapters.store import AdapterStore
from .attempt import INFER
from .calls import Call
from .catalog import Catalog
from .clock import ChainClock
from .funds import Funds
from .ledger_rows import Role as Side
from .offers import Offers
from .records import Records, Requests, RequestState
from .rpc import Rpc
from .serving import Serving, ServingParts

log = logging.getLogger("commonlore.peer.serve")
REDEEM_HORIZON_S = 86_400
"""How long a payer's key must still last: its vouchers are redeemed within a day."""
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
        self.serving_now = 0
        self.draining = False

    def register(self, rpc: Rpc) -> None:
        """Take calls of `infer` from now on."""
        rpc.serve(INFER, self.handle)

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
            if not stream.over:
                await call.send(stream.send(refusal))

    async def _serve(self, call: Call, stream: InferenceStream, ask: Ask) -> None:
        request = ask.signed.request
        now = self._serving.clock.now_ms() // 1000
        lane = self._serving.lane_key.address
        check_request(self._serving.domain, ask.signed, now, lane, public_key_of(call.peer))
        check_redeemable(ask.signed, now + REDEEM_HORIZON_S)
        await self._parts.records.put_binding(ask.signed.binding)
        terms = await self._terms(ask, stream.request_hash)
        async with self._once(ask, stream.request_hash), self._room(ask, terms):
            serving = Serving(self._serving, call, stream, ask, terms)
            resident = self._serving.engine.resident
            ready = all(entry.adapter in resident for entry in request.adapters)
            await serving.accept(max(0, self.serving_now - self._serving.engine.facts.max_batch), ready)
            async with self._parts.adapters.lease(tuple(a.adapter for a in request.adapters)) as prepare:
                await serving.deliver(prepare)

    # ---- the checks

    async def _terms(self, ask: Ask, request_hash: bytes) -> Terms:
        """What both sides agreed on. Raises Refused."""
        request, facts = ask.signed.request, self._serving.engine.facts
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
        return Terms(request, request_hash, facts.artefact, rates, await self._split(ask))

    def _check_epoch(self, epoch: int) -> None:
        mine = self._parts.chain_clock.epoch()
        if abs(epoch - mine) > EPOCH_SLACK:
            raise Refused(RefusalCode.STALE, f"the request is for epoch {epoch}; it is epoch {mine}")

    async def _split(self, ask: Ask) -> Split:
        request = ask.signed.request
        heaviest = heaviest_adapter(request.adapters)
        if heaviest is None:
            return self._parts.base_split
        for entry in request.adapters:
            manifest = await self._parts.catalog.adapter(entry.adapter)
            if manifest.base != self._serving.engine.facts.base:
                raise Refused(
                    RefusalCode.BAD_ADAPTER,
                    f"adapter {entry.adapter} is for base {manifest.base}; this worker serves another",
                    retryable=False,
                )
        return (await self._parts.catalog.adapter(heaviest)).split

    @asynccontextmanager
    async def _once(self, ask: Ask, request_hash: bytes) -> AsyncIterator[None]:
        """Serve an id once until its deadline; one that failed here may be asked again."""
        request = ask.signed.request
        request_id = RequestId(request.request_id)
        known = await self._parts.requests.admit(request.payer, request_id, request_hash, request.deadline)
        if known not in (None, RequestState.FAILED):
            raise Refused(
                RefusalCode.INVALID, f"request {request_id.hex()} was already {known}", retryable=False
            )
        state = RequestState.FAILED
        try:
            yield
            state = RequestState.DONE
        finally:
            with trio.CancelScope(shield=True):
                await self._parts.requests.finish(request.payer, request_id, state)

    @asynccontextmanager
    async def _room(self, ask: Ask, terms: Terms) -> AsyncIterator[None]:
        """Hold the request's price against its payer's credit while it runs. Raises Refused."""
        request = terms.request
        channel = await self._serving.ledger.channel(Side.WORKER, request.payer, request.lane)
        unvouched = await self._serving.ledger.unvouchered(request.payer, request.lane)
        owner = ask.signed.binding.binding.owner
        limit = await self._parts.funds.limit(request.payer, owner, channel.cumulative)
        if request.max_price > limit:
            raise Refused(
                RefusalCode.CREDIT,
                f"this ask may cost {request.max_price} token units and its payer's escrow covers {limit}: "
                "deposit more (commonlore deposit AMOUNT), or ask for fewer tokens",
                retryable=False,
            )
        with self._admission.hold(request.payer, request.max_price, unvouched, limit):
            self.serving_now += 1
            try:
                yield
            finally:
                self.serving_now -= 1


def _refusal(error: CommonloreError) -> Refusal:
    """How an error is told to the client."""
    message = str(error).encode()[:256].decode(errors="ignore")
    match error:
        case Refused():
            return Refusal(error.code, message, error.retryable)
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
