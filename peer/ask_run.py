"""One ask on its way: told to the scheduler, tried where it says, until the answer is whole or it has failed.

Rules of this file: an ask ends in an answer or one typed error; whatever ended it, the answer's reader learns
it. What was delivered is continued on the same artefact where a worker of it is to be had, since another one
is another model; only else on any, and the transcript says so. To the scheduler that is a new ask under the
same id, for what remains.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import trio

from ..protocol.credits import compute_price
from ..protocol.errors import (
    ChainError,
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
from ..protocol.requests import MAX_OUTPUT_TOKENS
from ..scheduler import events
from ..scheduler.core import Scheduler
from .answers import Answer, AskOptions, Delta
from .attempt import Attempt
from .attempt_parts import AttemptParts, AttemptTerms, Offer
from .known_workers import KnownWorkers
from .prompt_prefixes import prompt_prefixes

log = logging.getLogger("commonlore.peer.asker")
NEWCOMER_PATIENCE_S = 3.0
APPEARANCE_PATIENCE_S = 10.0
"""How long an ask waits for the first worker of its base to appear."""
SAME_ARTEFACT_PATIENCE_S = 10.0
"""How long a continuation waits for a worker of the same artefact that has no room now, or is resting."""
CHARACTERS_PER_TOKEN = 3
"""A cautious guess: the client has no tokenizer, and the estimate only bounds the price and the context."""
Order = events.Dispatch | events.GiveUp


@dataclass(frozen=True, slots=True)
class Scene:
    """What all asks of a node share. `step` gives the scheduler an event and carries out its actions."""

    parts: AttemptParts
    scheduler: Scheduler
    known: KnownWorkers
    step: Callable[[events.Event], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one ask is for. `rank` is the largest of its adapters', `deadline_ms` Unix milliseconds."""

    options: AskOptions
    base: Cid
    rank: int
    deadline_ms: int


class AskRun:
    """Carries out the orders for one ask. `deltas` go to the answer's reader."""

    def __init__(
        self,
        scene: Scene,
        ask_id: events.AskId,
        wanted: Wanted,
        answer: Answer,
        deltas: trio.MemorySendChannel[Delta],
    ) -> None:
        self.answer = answer
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self._orders_in, self._orders = trio.open_memory_channel[Order](16)
        self._scene = scene
        self.ask_id = ask_id
        self._wanted = wanted
        self._deltas = deltas
        self._first_token_ms = 0
        self._failed: list[PeerId] = []
        self._may_insist = True  # on the artefact of what was delivered
        self._insists = False
        self._begun = (0, 0)  # tokens and price before what the scheduler was told last

    @property
    def left_s(self) -> float:
        """Seconds to its deadline, at least 0."""
        return max(0, self._wanted.deadline_ms - self._scene.parts.clock.now_ms()) / 1000

    @property
    def spent(self) -> int:
        """Token units since the scheduler was last told of this ask."""
        return self.answer.transcript.price - self._begun[1]

    def order(self, order: Order) -> None:
        """What the scheduler says."""
        self._orders_in.send_nowait(order)

    async def run(self) -> None:
        """To its end, at the latest at its deadline. Raises nothing: the answer has the error."""
        self.answer.fail(DeadlineExceeded(self._wanted.options.too_late))
        try:
            with self._deltas, self.scope, trio.move_on_after(self.left_s):
                self.answer.fail(await self._outcome())
        finally:
            self.ended.set()

    async def _outcome(self) -> CommonloreError | None:
        """None when the answer is whole, else what ended it. The task is the node's, so nothing is raised."""
        try:
            return await self._follow_orders()
        except CommonloreError as error:  # of this peer, not of a worker: another would not help
            return error
        except Exception:
            log.exception("an ask failed")
            return CommonloreError("asking failed inside this peer; its log says why")

    async def _follow_orders(self) -> CommonloreError | None:
        refusal: CommonloreError | None = None
        self._scene.step(events.AskArrived(self._patient(self._spec(None))))
        async for order in self._orders:
            match order:
                case events.GiveUp() if self._insists and self.left_s:
                    self._arrive_again(None)  # nobody else of this artefact: then anybody
                case events.GiveUp():
                    return _as_escrow(refusal) or _error_of(order, self._wanted.options)
                case events.Dispatch() if self._insists and order.peer in self._failed:
                    self._arrive_again(None)  # those of this artefact had their chance
                case events.Dispatch() if self._is_elsewhere(order.peer):
                    self._arrive_again(self.answer.transcript.artefacts[-1])
                case events.Dispatch():
                    refusal = await self._try(order.peer)
                    if refusal is None:
                        return None
                    late = f"{self._wanted.options.too_late}; the last worker said: {refusal}"
                    self.answer.fail(DeadlineExceeded(late))
        return refusal

    # ---- what the scheduler is told

    def _arrive_again(self, artefact: Cid | None) -> None:
        """Ask for what remains, of workers of this artefact if one is named."""
        script = self.answer.transcript
        self._insists = artefact is not None
        self._may_insist = self._may_insist and not self._insists
        self._scene.step(events.Cancelled(self.ask_id, self.spent))
        self._begun = (len(script.tokens), script.price)
        self._scene.step(events.AskArrived(self._patient(self._spec(artefact))))

    def _is_elsewhere(self, peer: PeerId) -> bool:
        """Whether this worker would go on with another artefact while one with the same could."""
        script, offer = self.answer.transcript, self._scene.known.get(peer)
        if not self._may_insist or not script.artefacts or offer is None:
            return False
        same = script.artefacts[-1]
        return offer.ad.artefact != same and self._scene.scheduler.can_serve(self._spec(same))

    def _spec(self, artefact: Cid | None) -> events.AskSpec:
        options, script = self._wanted.options, self.answer.transcript
        prompt_tokens = sum(len(m.content) for m in options.messages) // CHARACTERS_PER_TOKEN + 64
        heaviest_first = sorted(self.answer.adapters, key=lambda a: (-a.weight_ppm, a.adapter))
        return events.AskSpec(
            ask_id=self.ask_id,
            base=self._wanted.base,
            adapters=tuple(a.adapter for a in heaviest_first),
            prompt_tokens=prompt_tokens + len(script.tokens),
            max_tokens=max(1, options.sampling.max_tokens - len(script.tokens)),
            max_price=max(0, self._limit - script.price),
            deadline_ms=self._wanted.deadline_ms,
            rank=self._wanted.rank,
            client=options.client,
            prefixes=prompt_prefixes(options.messages, self._wanted.base, self.answer.adapters),
            artefact=artefact,
            excluded=() if artefact is None else tuple(self._failed),
        )

    def _patient(self, spec: events.AskSpec) -> events.AskSpec:
        """With a bound to the wait where nobody who is known may serve it, or only few are asked."""
        if spec.artefact is not None:
            patience_s = min(SAME_ARTEFACT_PATIENCE_S, self.left_s / 4)
        elif self._scene.scheduler.can_serve(spec):
            return spec
        else:
            is_served = self._scene.known.is_served(spec.base)
            patience_s = NEWCOMER_PATIENCE_S if is_served else APPEARANCE_PATIENCE_S
        return replace(spec, patience_ms=int(patience_s * 1000))

    # ---- one worker

    async def _try(self, peer: PeerId) -> CommonloreError | None:
        """One attempt at one worker; None when the answer is whole, else why not (the scheduler was told)."""
        offer, step = self._scene.known.get(peer), self._scene.step
        if offer is None:  # it fell silent just now
            step(events.Refused(self.ask_id, peer, RefusalCode.SHUTDOWN))
            return Unreachable(f"worker {peer} fell silent")
        if self.answer.transcript.artefacts[-1:] not in ([], [offer.ad.artefact]):
            log.warning("%s goes on with another artefact, %s: nobody had the same", peer, offer.ad.artefact)
        try:
            await self._attempt_in_time(offer)
        except Refused as refusal:
            log.info("%s refused: %s", peer, refusal)
            step(events.Refused(self.ask_id, peer, refusal.code, refusal.retryable))
            return refusal
        except (Unreachable, ProtocolError) as error:
            script = self.answer.transcript
            log.warning("attempt at %s failed after %d tokens: %s", peer, len(script.tokens), error)
            self._failed.append(peer)
            if isinstance(error, ProtocolError):  # what it sent did not stand its check
                step(events.Judged(peer, passed=False))
            step(events.Failed(self.ask_id, peer, len(script.tokens) - self._begun[0], self.spent))
            return error
        return None

    async def _attempt_in_time(self, offer: Offer) -> None:
        """A peer that has not seen its chain yet takes a later epoch from the worker, once: whoever lies is
        paid in an epoch that does not come. Raises as `_attempt`; ChainError where that is no remedy."""
        try:
            await self._attempt(offer)
        except Refused as refusal:
            clock = self._scene.parts.chain_clock
            if refusal.epoch is None or clock.is_seen:
                raise
            if not clock.suppose(refusal.epoch):  # nobody else would think otherwise
                told = f"this peer has not seen its chain yet and goes by its own clock: {refusal}"
                raise ChainError(told) from None
            log.warning("the chain was not seen yet: %s says that it is epoch %d", offer.peer, refusal.epoch)
            await self._attempt(offer)

    async def _attempt(self, offer: Offer) -> None:
        """Raises Refused, Unreachable, ProtocolError."""
        clock, script, step = self._scene.parts.clock, self.answer.transcript, self._scene.step
        started, before = clock.now_ms(), len(script.tokens)
        self._first_token_ms = 0

        async def take(delta: Delta) -> None:
            self._first_token_ms = self._first_token_ms or clock.now_ms()
            step(events.Progress(self.ask_id, offer.peer, len(script.tokens) - self._begun[0]))
            await self._deltas.send(delta)

        def whole() -> None:
            self.answer.fail(None)
            self._deltas.close()
            now = clock.now_ms()
            ttft = (self._first_token_ms or now) - started
            tokens = len(script.tokens) - before
            step(events.Completed(self.ask_id, offer.peer, ttft, now - started, tokens, self.spent))

        def has_other() -> bool:
            return self._scene.scheduler.has_other(clock.now_ms(), self.ask_id)

        terms = AttemptTerms(self._wanted.base, self._wanted.deadline_ms, self._max_price(offer), has_other)
        attempt = Attempt(self._scene.parts, self._wanted.options, self.answer, offer, terms)
        await attempt.run(take, whole, self._deltas.close)

    def _max_price(self, offer: Offer) -> int:
        """What is left of the caller's limit; without one, what the offer's rates make of the most this ask
        can use."""
        options = self._wanted.options
        output = min(options.sampling.max_tokens, MAX_OUTPUT_TOKENS)
        most = compute_price(offer.ad.rates, most_prompt_tokens(options.messages), output)
        return min(most, max(0, self._limit - self.answer.transcript.price))

    @property
    def _limit(self) -> int:
        own = self._wanted.options.max_price
        return self._scene.parts.max_price if own is None else own


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
