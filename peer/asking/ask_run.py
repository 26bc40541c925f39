"""One ask on its way: told to the scheduler, tried where it says, until the answer is whole or it has failed.

Rules of this file: an ask ends in an answer or one typed error; whatever ended it, the answer's reader learns
it. What was delivered is continued on the same artefact where a worker of it is to be had, since another one
is another model; only else on any, and the transcript says so. To the scheduler that is a new ask under the
same id, for what remains.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import trio

from ...protocol.errors import CommonloreError, DeadlineExceeded
from ...protocol.ids import Cid, PeerId
from ...scheduler import events
from .answers import Answer, Delta
from .ask_state import AskState, Scene, Wanted
from .attempting import attempt_at, attempt_beside
from .last_words import error_of, escrow_or
from .prompt_prefixes import prompt_prefixes
from .race import Leg, Race

log = logging.getLogger("commonlore.peer.asking.asker")
NEWCOMER_PATIENCE_S = 3.0
APPEARANCE_PATIENCE_S = 10.0
"""How long an ask waits for the first worker of its base to appear."""
SAME_ARTEFACT_PATIENCE_S = 10.0
"""How long a continuation waits for a worker of the same artefact that has no room now, or is resting."""
CHARACTERS_PER_TOKEN = 3
"""A cautious guess: the client has no tokenizer, and the estimate only bounds the price and the context."""
Order = events.Dispatch | events.GiveUp | None
"""None: a hedge has given the whole answer."""


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
        own = wanted.options.max_price
        limit = scene.parts.max_price if own is None else own
        self.answer = answer
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self.ask_id = ask_id
        self._orders_in, self._orders = trio.open_memory_channel[Order](16)
        self._scene = scene
        self._wanted = wanted
        self._ask = AskState(ask_id, wanted, answer, deltas, limit)
        self._race = Race(answer)
        self._nursery: trio.Nursery | None = None
        self._may_insist = True  # on the artefact of what was delivered
        self._insists = False

    @property
    def left_s(self) -> float:
        """Seconds to its deadline, at least 0."""
        return max(0, self._wanted.deadline_ms - self._scene.parts.clock.now_ms()) / 1000

    @property
    def spent(self) -> int:
        """Token units since the scheduler was last told of this ask."""
        return self._ask.spent

    def follow(self, action: events.Dispatch | events.GiveUp | events.Abandon) -> None:
        """Do what the scheduler says: a hedge and its end at once, anything else when its turn comes."""
        match action:
            case events.Abandon():
                self._race.abandon(action.peer)
            case events.Dispatch(hedge=True):
                if self._nursery is not None:
                    leg = self._race.enter(action.peer)
                    self._nursery.start_soon(self._try_beside, self._race, leg)
            case events.Dispatch():
                self._race.close()
                self._race = Race(self.answer)
                self._race.enter(action.peer)
                self._orders_in.send_nowait(action)
            case events.GiveUp():
                self._orders_in.send_nowait(action)

    async def run(self) -> None:
        """To its end, at the latest at its deadline. Raises nothing: the answer has the error."""
        self.answer.fail(DeadlineExceeded(self._wanted.options.too_late))
        try:
            with self._ask.deltas, self.scope, trio.move_on_after(self.left_s):
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    self.answer.fail(await self._outcome())
                    self._ask.deltas.close()
                    nursery.cancel_scope.cancel()
        finally:
            self._nursery = None
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
        self._scene.step(events.AskArrived(self._patient(self._spec(None))))
        async for order in self._orders:
            match order:
                case events.GiveUp() if self._insists and self.left_s:
                    self._arrive_again(None)  # nobody else of this artefact: then anybody
                case events.GiveUp():
                    return escrow_or(self._ask.refusal) or error_of(order, self._wanted.options)
                case events.Dispatch() if self._insists and order.peer in self._ask.failed:
                    self._arrive_again(None)  # those of this artefact had their chance
                case events.Dispatch() if self._is_elsewhere(order.peer):
                    self._arrive_again(self.answer.transcript.artefacts[-1])
                case events.Dispatch():
                    race = self._race
                    await attempt_at(self._scene, self._ask, race, race.legs[0])
                    if self._ask.is_whole:
                        return None
                case None:
                    return None
        return self._ask.refusal

    async def _try_beside(self, race: Race, leg: Leg) -> None:
        await attempt_beside(self._scene, self._ask, race, leg)
        if self._ask.is_whole and race.winner is leg:
            self._orders_in.send_nowait(None)

    # ---- what the scheduler is told

    def _arrive_again(self, artefact: Cid | None) -> None:
        """Ask for what remains, of workers of this artefact if one is named."""
        script = self.answer.transcript
        self._insists = artefact is not None
        self._may_insist = self._may_insist and not self._insists
        self._race.close()
        self._scene.step(events.Cancelled(self.ask_id, self.spent))
        self._ask.begun = (len(script.tokens), script.price)
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
            max_price=max(0, self._ask.limit - script.price),
            deadline_ms=self._wanted.deadline_ms,
            rank=self._wanted.rank,
            client=options.client,
            prefixes=prompt_prefixes(options.messages, self._wanted.base, self.answer.adapters),
            artefact=artefact,
            excluded=() if artefact is None else tuple(self._ask.failed),
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
