"""The attempts at one ask: each tries one worker, and tells the scheduler what came of it.

Rules of this file: an attempt that another one beat to the first token writes neither into the answer nor
into the scheduler's books. A failure of this peer's own is raised, for another worker would not help.
"""

from __future__ import annotations

import logging

from ...protocol.errors import (
    ChainError,
    CommonloreError,
    DeadlineExceeded,
    ProtocolError,
    Refused,
    Unreachable,
)
from ...protocol.inference.messages import RefusalCode
from ...protocol.receipts.credits import compute_price
from ...protocol.requests.records import MAX_OUTPUT_TOKENS
from ...protocol.requests.rules import most_prompt_tokens
from ...scheduler import events
from .answers import Answer, Delta
from .ask_state import AskState, Scene
from .attempt import Attempt
from .attempt_parts import AttemptTerms, Offer
from .race import Leg, Race

log = logging.getLogger("commonlore.peer.asking.asker")


async def attempt_at(scene: Scene, ask: AskState, race: Race, leg: Leg) -> None:
    """One attempt: the answer is whole afterwards, or the scheduler knows why not, or another was first.

    Raises CommonloreError where the fault is this peer's own.
    """
    with leg.scope:
        try:
            refusal = await Attempting(scene, ask, race, leg).run()
        finally:
            race.settle(leg)
        if refusal is not None and not ask.is_whole:
            ask.refusal = refusal
            late = f"{ask.wanted.options.too_late}; the last worker said: {refusal}"
            ask.answer.fail(DeadlineExceeded(late))


async def attempt_beside(scene: Scene, ask: AskState, race: Race, leg: Leg) -> None:
    """A hedge: where it comes to nothing, the first attempt goes on. Raises nothing."""
    try:
        await attempt_at(scene, ask, race, leg)
        return
    except CommonloreError as error:  # of this peer, who meets it in the first attempt as well
        log.warning("no second attempt at %s: %s", leg.peer, error)
    except Exception:
        log.exception("a second attempt at an ask failed")
    if not race.lost(leg):
        scene.step(events.Refused(ask.ask_id, leg.peer, RefusalCode.PRICE))  # which blames nobody


class Attempting:
    """What one leg of a race does."""

    def __init__(self, scene: Scene, ask: AskState, race: Race, leg: Leg) -> None:
        self._scene = scene
        self._ask = ask
        self._race = race
        self._leg = leg
        self._started_ms = 0
        self._before = 0
        self._paid = 0

    async def run(self) -> CommonloreError | None:
        """Why there is no whole answer; None when there is, or when the leg was not begun."""
        leg, script = self._leg, self._ask.answer.transcript
        offer = self._scene.known.get(leg.peer)
        if offer is None:  # it fell silent just now
            self._tell_refusal(RefusalCode.SHUTDOWN)
            return Unreachable(f"worker {leg.peer} fell silent")
        if not self._can_afford(offer):
            self._tell_refusal(RefusalCode.PRICE)
            return None
        if script.artefacts[-1:] not in ([], [offer.ad.artefact]):
            log.warning(
                "%s goes on with another artefact, %s: nobody had the same", leg.peer, offer.ad.artefact
            )
        try:
            await self._attempt_in_time(offer)
        except Refused as refusal:
            log.info("%s refused: %s", leg.peer, refusal)
            self._tell_refusal(refusal.code, retryable=refusal.retryable)
            return refusal
        except (Unreachable, ProtocolError) as error:
            self._tell_failure(error)
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
        ask, leg, clock = self._ask, self._leg, self._scene.parts.clock
        self._started_ms, self._before = clock.now_ms(), len(ask.answer.transcript.tokens)
        leg.first_token_ms, self._paid = 0, len(ask.answer.transcript.receipts)

        def has_other() -> bool:
            return self._scene.scheduler.has_other(clock.now_ms(), ask.ask_id)

        terms = AttemptTerms(ask.wanted.base, ask.wanted.deadline_ms, leg.limit, has_other, self._claim)
        attempt = Attempt(self._scene.parts, ask.wanted.options, ask.answer, offer, terms)
        await attempt.run(self._take, self._whole, self._left)

    def _can_afford(self, offer: Offer) -> bool:
        """Set what this leg may cost: what is left of the caller's limit; without one, what the offer's rates
        make of the most this ask can use. A hedge needs all of that beside the first attempt's."""
        ask, leg, options = self._ask, self._leg, self._ask.wanted.options
        output = min(options.sampling.max_tokens, MAX_OUTPUT_TOKENS)
        most = compute_price(offer.ad.rates, most_prompt_tokens(options.messages), output)
        left = ask.limit - ask.answer.transcript.price - self._race.reserved(leg)
        leg.limit = min(most, max(0, left))
        return leg is self._race.legs[0] or leg.limit == most

    # ---- what comes

    def _claim(self) -> Answer:
        """Something was delivered. Raises nothing."""
        if self._race.claim(self._leg):
            workers = self._ask.answer.transcript.workers
            workers.remove(self._leg.peer)
            workers.append(self._leg.peer)  # the last is who answers
            self._tell_progress()  # the scheduler then has the other one abandoned
        return self._leg.answer

    async def _take(self, delta: Delta) -> None:
        leg = self._leg
        if not self._race.lost(leg):
            leg.first_token_ms = leg.first_token_ms or self._scene.parts.clock.now_ms()
            self._tell_progress()
            await self._ask.deltas.send(delta)

    def _whole(self) -> None:
        ask, leg = self._ask, self._leg
        if self._race.lost(leg):
            return
        ask.is_whole = True
        ask.answer.fail(None)
        ask.deltas.close()
        now = self._scene.parts.clock.now_ms()
        ttft = (leg.first_token_ms or now) - self._started_ms
        tokens = len(ask.answer.transcript.tokens) - self._before
        times = (ttft, now - self._started_ms)
        self._scene.step(events.Completed(ask.ask_id, leg.peer, *times, tokens, ask.spent))
        if len(ask.answer.transcript.receipts) > self._paid:  # each stood its check
            self._scene.step(events.Judged(leg.peer, passed=True))

    def _left(self) -> None:
        if not self._race.lost(self._leg):
            self._ask.deltas.close()

    # ---- what the scheduler is told

    def _tell_progress(self) -> None:
        self._scene.step(events.Progress(self._ask.ask_id, self._leg.peer, self._ask.news))

    def _tell_refusal(self, code: str, *, retryable: bool = True) -> None:
        if not self._race.lost(self._leg):
            self._scene.step(events.Refused(self._ask.ask_id, self._leg.peer, code, retryable))

    def _tell_failure(self, error: CommonloreError) -> None:
        ask, peer, step = self._ask, self._leg.peer, self._scene.step
        log.warning(
            "attempt at %s failed after %d tokens: %s", peer, len(ask.answer.transcript.tokens), error
        )
        ask.failed.append(peer)
        if isinstance(error, ProtocolError):  # what it sent did not stand its check
            step(events.Judged(peer, passed=False))
        if not self._race.lost(self._leg):
            step(events.Failed(ask.ask_id, peer, ask.news, ask.spent))
