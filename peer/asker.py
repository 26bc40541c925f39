"""Asking: drives the scheduler's pure core with real time and carries out what it orders, one task an ask.

Rules of this file: only `_step` touches the scheduler; an ask ends in an answer (whole, or what was
delivered when its time was over) or one typed error by its deadline; whoever leaves an answer cancels it, and
waits for its last receipt to be paid, but not beyond the deadline.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

import trio

from ..protocol.advert_rules import advert_hash
from ..protocol.adverts import WorkerAd
from ..protocol.credits import compute_price
from ..protocol.envelope import Sealed
from ..protocol.errors import (
    CommonloreError,
    DeadlineExceeded,
    InsufficientEscrow,
    NotFound,
    ProtocolError,
    Refused,
    Unreachable,
)
from ..protocol.ids import Cid, PeerId
from ..protocol.messages import RefusalCode
from ..protocol.request_rules import most_prompt_tokens
from ..protocol.requests import MAX_OUTPUT_TOKENS, AdapterWeight
from ..scheduler import events
from ..scheduler.core import Scheduler
from ..scheduler.view import worker_view
from .answers import BUFFERED_DELTAS, Answer, AskOptions, Delta
from .attempt import Attempt, AttemptParts, AttemptTerms, Offer
from .catalog import Catalog
from .chosen import chosen_adapters, common_base
from .prefetch import suggest
from .prompt_prefixes import prompt_prefixes

log = logging.getLogger("commonlore.peer.asker")
T = TypeVar("T")
NEWCOMER_PATIENCE_S = 3.0
NEWCOMER_POLL_S = 0.05
APPEARANCE_PATIENCE_S = 10.0
"""How long an ask waits for the first worker of its base to appear."""
CHARACTERS_PER_TOKEN = 3
"""A cautious guess: the client has no tokenizer, and the estimate only bounds the price and the context."""


@dataclass(slots=True)
class _Job:
    """One ask: its answer, and the orders for it."""

    options: AskOptions
    answer: Answer
    base: Cid
    deadline_ms: int
    deltas: trio.MemorySendChannel[Delta]
    orders: trio.MemorySendChannel[events.Dispatch | events.GiveUp]
    first_token_ms: int = 0
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)


class Asker:
    """Every ask of one node. Run `run` in the node's nursery."""

    def __init__(
        self, scheduler: Scheduler, parts: AttemptParts, catalog: Catalog, nursery: trio.Nursery
    ) -> None:
        """Tasks of asks run in `nursery`, the node's; their errors stay in their answers."""
        self._scheduler = scheduler
        self._nursery = nursery
        self._parts = parts
        self._catalog = catalog
        self._clock = parts.clock
        self._offers: dict[PeerId, Offer] = {}
        self._jobs: dict[events.AskId, _Job] = {}
        self._next_id = 0
        self._wake_at_ms: int | None = None
        self._alarm = trio.Event()

    # ---- what the network says

    def see(self, sealed: Sealed[WorkerAd]) -> None:
        """Take a worker's advert that passed its checks."""
        ad = sealed.record
        known = self._offers.get(sealed.peer_id)
        if known is None or known.ad.seq < ad.seq:
            self._offers[sealed.peer_id] = Offer(sealed.peer_id, ad, advert_hash(ad))
        now = self._clock.now_ms()
        self._step(events.AdvertSeen(worker_view(sealed.peer_id, ad, now)))
        self._forget_silent(now)

    def _forget_silent(self, now_ms: int) -> None:
        """Offers go when the scheduler's view has let their workers go."""
        if len(self._offers) > 2 * len(self._scheduler.view) + 64:
            self._offers = {
                peer: o for peer, o in self._offers.items() if self._scheduler.view.get(peer) is not None
            }

    def offers(self) -> tuple[Offer, ...]:
        """The adverts of workers believed alive."""
        return tuple(o for o in self._offers.values() if self._scheduler.view.get(o.peer) is not None)

    # ---- asking

    @asynccontextmanager
    async def ask(self, options: AskOptions) -> AsyncIterator[Answer]:
        """The answer to one question, as it grows; leaving the block cancels it.

        Raises NotFound for an unknown adapter, ConfigError for several that cannot answer together.
        """
        job, orders = await self._open_job(options)
        ask_id = self._next_id = self._next_id + 1
        self._jobs[ask_id] = job
        self._nursery.start_soon(self._run_job, ask_id, job, orders)
        try:
            yield job.answer
        finally:
            job.scope.cancel()
            with trio.move_on_after(self._left_s(job), shield=True):
                await job.ended.wait()  # what was delivered is being paid
            del self._jobs[ask_id]
            self._step(events.Cancelled(ask_id, job.answer.transcript.price))

    async def _open_job(
        self, options: AskOptions
    ) -> tuple[_Job, trio.MemoryReceiveChannel[events.Dispatch | events.GiveUp]]:
        adapters = await self._patiently(lambda: chosen_adapters(self._catalog, options.adapters))
        base = await self._base_of(options, adapters)
        send_delta, receive_delta = trio.open_memory_channel[Delta](BUFFERED_DELTAS)
        send_order, receive_order = trio.open_memory_channel[events.Dispatch | events.GiveUp](16)
        deadline_ms = self._clock.now_ms() + int(options.deadline_s * 1000)
        answer = Answer(adapters, receive_delta, options.citations)
        return _Job(options, answer, base, deadline_ms, send_delta, send_order), receive_order

    async def _base_of(self, options: AskOptions, adapters: tuple[AdapterWeight, ...]) -> Cid:
        """The base of these adapters, or, for a bare question, the one that most workers serve.

        Raises NotFound, ConfigError where adapters are for different bases.
        """
        if options.base is not None and len(adapters) < 2:
            return options.base
        if adapters:
            return await common_base(self._catalog, [entry.adapter for entry in adapters])
        return await self._patiently(self._most_served)

    def _most_served(self) -> Cid:
        bases = [offer.ad.base for offer in self.offers()]
        if not bases:
            raise NotFound("no worker is known: check the bootstrap address, and that a worker is running")
        return max(sorted(set(bases)), key=bases.count)

    async def _patiently(self, look: Callable[[], T]) -> T:
        """What `look` finds; a peer that has just joined is given a moment to hear of it. Raises NotFound."""
        with trio.move_on_after(NEWCOMER_PATIENCE_S):
            while True:
                try:
                    return look()
                except NotFound:
                    await trio.sleep(NEWCOMER_POLL_S)
        return look()

    async def _run_job(
        self,
        ask_id: events.AskId,
        job: _Job,
        orders: trio.MemoryReceiveChannel[events.Dispatch | events.GiveUp],
    ) -> None:
        """Carry one ask to its end; whatever the end is, the answer's reader learns it."""
        job.answer.fail(DeadlineExceeded(job.options.too_late))
        try:
            with job.deltas, job.scope, trio.move_on_after(self._left_s(job)):
                job.answer.fail(await self._outcome(ask_id, job, orders))
        finally:
            job.ended.set()

    def _left_s(self, job: _Job) -> float:
        """Seconds to its deadline, at least 0."""
        return max(0, job.deadline_ms - self._clock.now_ms()) / 1000

    async def _outcome(
        self,
        ask_id: events.AskId,
        job: _Job,
        orders: trio.MemoryReceiveChannel[events.Dispatch | events.GiveUp],
    ) -> CommonloreError | None:
        """None when the answer is whole, else what ended it. The task is the node's, so nothing is raised."""
        try:
            return await self._follow_orders(ask_id, job, orders)
        except CommonloreError as error:  # of this peer, not of a worker: another would not help
            return error
        except Exception:
            log.exception("an ask failed")
            return CommonloreError("asking failed inside this peer; its log says why")

    async def _follow_orders(
        self,
        ask_id: events.AskId,
        job: _Job,
        orders: trio.MemoryReceiveChannel[events.Dispatch | events.GiveUp],
    ) -> CommonloreError | None:
        """None when the answer is whole, else what ended it."""
        refusal: CommonloreError | None = None
        self._step(events.AskArrived(self._spec(ask_id, job)))
        async for order in orders:
            match order:
                case events.GiveUp():
                    return _as_escrow(refusal) or _error_of(order, job.options)
                case events.Dispatch():
                    refusal = await self._try(ask_id, job, order.peer)
                    if refusal is None:
                        return None
        return refusal

    def _spec(self, ask_id: events.AskId, job: _Job) -> events.AskSpec:
        options = job.options
        prompt_tokens = sum(len(m.content) for m in options.messages) // CHARACTERS_PER_TOKEN + 64
        heaviest_first = sorted(job.answer.adapters, key=lambda a: (-a.weight_ppm, a.adapter))
        spec = events.AskSpec(
            ask_id=ask_id,
            base=job.base,
            adapters=tuple(a.adapter for a in heaviest_first),
            prompt_tokens=prompt_tokens,
            max_tokens=options.sampling.max_tokens,
            max_price=self._limit(options),
            deadline_ms=job.deadline_ms,
            client=options.client,
            prefixes=prompt_prefixes(options.messages, job.base, job.answer.adapters),
        )
        if self._scheduler.can_serve(spec):
            return spec
        is_served = any(offer.ad.base == job.base for offer in self._offers.values())
        patience_s = NEWCOMER_PATIENCE_S if is_served else APPEARANCE_PATIENCE_S
        return replace(spec, patience_ms=int(patience_s * 1000))

    async def _try(self, ask_id: events.AskId, job: _Job, peer: PeerId) -> CommonloreError | None:
        """One attempt at one worker; None when the answer is whole, else why not (the scheduler was told)."""
        offer = self._offers.get(peer)
        if offer is None:  # it fell silent just now
            self._step(events.Refused(ask_id, peer, RefusalCode.SHUTDOWN))
            return Unreachable(f"worker {peer} fell silent")
        script = job.answer.transcript
        started, before = self._clock.now_ms(), len(script.tokens)
        job.first_token_ms = 0

        async def take(delta: Delta) -> None:
            job.first_token_ms = job.first_token_ms or self._clock.now_ms()
            self._step(events.Progress(ask_id, peer, len(script.tokens)))
            await job.deltas.send(delta)

        def whole() -> None:
            job.answer.fail(None)
            job.deltas.close()
            now = self._clock.now_ms()
            ttft = (job.first_token_ms or now) - started
            tokens = len(script.tokens) - before
            self._step(events.Completed(ask_id, peer, ttft, now - started, tokens, script.price))

        def has_other() -> bool:
            return self._scheduler.has_other(self._clock.now_ms(), ask_id)

        terms = AttemptTerms(job.base, job.deadline_ms, self._max_price(job, offer), has_other)
        attempt = Attempt(self._parts, job.options, job.answer, offer, terms)
        try:
            await attempt.run(take, whole, job.deltas.close)
        except Refused as refusal:
            log.info("%s refused: %s", peer, refusal)
            self._step(events.Refused(ask_id, peer, refusal.code, refusal.retryable))
            return refusal
        except (Unreachable, ProtocolError) as error:
            log.warning("attempt at %s failed after %d tokens: %s", peer, len(script.tokens), error)
            if isinstance(error, ProtocolError):  # what it sent did not stand its check
                self._step(events.Judged(peer, passed=False))
            self._step(events.Failed(ask_id, peer, len(script.tokens), script.price))
            return error
        return None

    def _max_price(self, job: _Job, offer: Offer) -> int:
        """What is left of the caller's limit; without one, what the offer's rates make of the most this ask
        can use."""
        output = min(job.options.sampling.max_tokens, MAX_OUTPUT_TOKENS)
        most = compute_price(offer.ad.rates, most_prompt_tokens(job.options.messages), output)
        return min(most, max(0, self._limit(job.options) - job.answer.transcript.price))

    def _limit(self, options: AskOptions) -> int:
        return self._parts.max_price if options.max_price is None else options.max_price

    # ---- the scheduler

    def _step(self, event: events.Event) -> None:
        for action in self._scheduler.step(self._clock.now_ms(), event):
            match action:
                case events.Dispatch(ask_id=ask_id) | events.GiveUp(ask_id=ask_id):
                    if (job := self._jobs.get(ask_id)) is not None:
                        job.orders.send_nowait(action)
                case events.Wake(at_ms=at_ms):
                    self._wake_at_ms = at_ms
                    self._alarm.set()
                case events.Prefetch():
                    wanted = (action.peer, action.adapter, self._parts.binding())
                    self._nursery.start_soon(suggest, self._parts.rpc, *wanted)

    async def run(self) -> None:
        """Send a Tick when the latest Wake is due; for ever."""
        while True:
            self._alarm = trio.Event()
            wait_ms = None if self._wake_at_ms is None else self._wake_at_ms - self._clock.now_ms()
            with trio.move_on_after(float("inf") if wait_ms is None else max(0, wait_ms) / 1000) as limit:
                await self._alarm.wait()
            if limit.cancelled_caught:
                self._wake_at_ms = None
                self._step(events.Tick())


def _as_escrow(refusal: CommonloreError | None) -> CommonloreError | None:
    """A worker's last word; that the escrow covers too little has its own error."""
    if isinstance(refusal, Refused) and refusal.code == RefusalCode.CREDIT and not refusal.retryable:
        return InsufficientEscrow(str(refusal))
    return refusal


def _error_of(order: events.GiveUp, options: AskOptions) -> CommonloreError:
    """The typed error for a scheduler's last word."""
    kinds: dict[str, type[CommonloreError]] = {
        DeadlineExceeded.code: DeadlineExceeded,
        NotFound.code: NotFound,
        Unreachable.code: Unreachable,
        InsufficientEscrow.code: InsufficientEscrow,
    }
    kind = kinds.get(order.code)
    whose = ", ".join(name for name, _ in options.adapters)
    message = f"adapter {whose}: {order.message}" if whose else order.message
    return kind(message) if kind else Refused(order.code, message, retryable=False)
