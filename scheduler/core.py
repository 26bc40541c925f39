"""The scheduler: `step(now_ms, event) -> actions`. No I/O, no clock, no randomness but its own seeded stream.

Rules of this file: an ask is in exactly one state (waiting for a worker, pausing before a retry, dispatched
once or, hedged, twice) and always has a due time no later than its deadline, so it always ends; what comes
for an ask that has ended, or from a worker that is no longer its own, is ignored; all state is bounded by the
configuration; a step costs what it changes, however many workers and asks there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..protocol.errors import LocalProtocolError
from ..protocol.ids import PeerId
from ..protocol.inference.messages import RefusalCode
from .config import SchedulerConfig
from .desk import Desk
from .events import (
    Action,
    AdvertSeen,
    AskArrived,
    AskId,
    AskSpec,
    Cancelled,
    Completed,
    Event,
    Failed,
    GiveUp,
    Judged,
    Progress,
    Refused,
    Tick,
    Wake,
)
from .policies import POLICIES
from .prefixes import Prefixes
from .prng import Prng
from .retries import BROKEN, Again, Blame, Reaction, reaction_to
from .route import Router
from .standing import Standing, Standings
from .survey import may_serve
from .tasks import Leg, Task
from .view import NEVER_MS, NetworkView

__all__ = ["Scheduler", "SchedulerConfig"]


class Scheduler:
    """Routes asks to workers and sees every one of them to an end."""

    def __init__(self, config: SchedulerConfig, seed: int) -> None:
        self.config = config
        self._standings = Standings(2 * config.max_workers)
        self.view = NetworkView(
            config.advert_lifetime_ms, config.max_workers, config.backlog, self._standings
        )
        self._router = Router(POLICIES[config.policy], self.view, Prng(seed), Prefixes())
        self._desk = Desk(config, self._router)
        self._wake_ms = NEVER_MS
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            AdvertSeen: self._on_advert,
            AskArrived: self._on_ask,
            Progress: self._on_progress,
            Refused: self._on_refused,
            Failed: self._on_failed,
            Completed: self._on_completed,
            Cancelled: self._on_cancelled,
            Judged: self._on_judged,
            Tick: _on_tick,
        }

    def __len__(self) -> int:
        """Asks that have not ended."""
        return len(self._desk.tasks)

    def step(self, now_ms: int, event: Event) -> list[Action]:
        """Take in what happened at `now_ms` (Unix milliseconds; never runs backwards) and say what to do.

        Raises LocalProtocolError if an ask arrives under the id of one that has not ended.
        """
        desk = self._desk
        actions: list[Action] = []
        desk.actions = actions
        if now_ms > desk.now_ms:
            desk.now_ms = now_ms
        if now_ms >= self.view.stale_ms:
            self._forget_stale()
        if now_ms >= desk.wake_ms:
            desk.run_due()
            self._wake_ms = NEVER_MS  # the Wake that was ordered has come
        self._handlers[type(event)](event)
        if desk.wake_ms != self._wake_ms:
            self._wake_ms = desk.wake_ms
            if desk.wake_ms != NEVER_MS:
                actions.append(Wake(desk.wake_ms))
        return actions

    def standing(self, peer: PeerId) -> Standing | None:
        """This peer's own record of a worker, for display."""
        return self._standings.get(peer)

    def can_serve(self, spec: AskSpec) -> bool:
        """Whether a worker that is known may serve the ask, now or later; otherwise one must appear."""
        return self._router.can_serve(self._desk.now_ms, spec)

    def has_other(self, now_ms: int, ask_id: AskId) -> bool:
        """Whether a worker other than the one that has this ask could serve it at `now_ms`."""
        task = self._desk.tasks.get(ask_id)
        query = self._router.query(now_ms, task.rest, task.avoided) if task is not None else None
        if task is None or query is None:
            return False
        return any(
            task.leg_at(member.peer) is None and may_serve(member, query) for member in query.field.everyone
        )

    def _forget_stale(self) -> None:
        for stale in self.view.forget_stale(self._desk.now_ms):
            self._standings.forget_blank(stale.peer)

    # ---- what happens to asks

    def _on_ask(self, event: AskArrived) -> None:
        spec, desk = event.spec, self._desk
        if spec.ask_id in desk.tasks:
            raise LocalProtocolError(
                f"ask {spec.ask_id!r} is already under way; give each ask an id of its own"
            )
        if len(desk.tasks) >= self.config.max_asks or spec.deadline_ms <= desk.now_ms or spec.client:
            refusal = self._refusal(spec)
            if refusal is not None:
                desk.actions.append(GiveUp(spec.ask_id, str(refusal[0]), refusal[1]))
                return
        desk.open(spec)

    def _refusal(self, spec: AskSpec) -> tuple[str, str] | None:
        """Why this peer itself does not take the ask on, for programs and for people; None if it does."""
        desk = self._desk
        if len(desk.tasks) >= self.config.max_asks:
            message = f"{len(desk.tasks)} asks are under way, as many as this peer allows; try again later"
            return "busy", message
        if spec.deadline_ms <= desk.now_ms:
            return "deadline_exceeded", "the deadline passed before the ask came"
        if spec.client:
            return desk.clients.admit(desk.now_ms, spec.client, spec.max_price)
        return None

    def _on_progress(self, event: Progress) -> None:
        task, leg = self._find(event.ask_id, event.peer)
        if task is not None and leg is not None:
            task.failures = task.retries = 0
            task.delivered = event.tokens
            self._desk.prefer(task, leg)

    def _on_completed(self, event: Completed) -> None:
        task, leg = self._find(event.ask_id, event.peer)
        if task is None or leg is None:
            return
        desk, standing, ttft_ms = self._desk, leg.standing, event.ttft_ms
        if task.hedge is not None:
            desk.prefer(task, leg)
        standing.succeeded(desk.now_ms, event.total_ms - ttft_ms, event.tokens - 1)
        estimates, wait_ms = leg.estimates, leg.wait_ms
        standing.learn_lag((ttft_ms - estimates.held_ms - leg.own_ms - wait_ms) * 1000)
        estimates.learn(event.tokens, ttft_ms, event.total_ms)
        estimates.learn_first(leg.way, ttft_ms, wait_ms, task.rest.prompt_tokens)
        if task.declined:
            self._hold_against(task.declined)
        if event.spent > task.spent:
            task.spent = event.spent
        desk.end(task)
        if desk.waiting.lines:
            desk.offer(event.peer)

    def _hold_against(self, declined: Iterable[PeerId]) -> None:
        """They declined what could be served."""
        for wrong in declined:
            self._standings.of(wrong).failed(self._desk.now_ms)
            self._reprice(wrong)

    def _on_cancelled(self, event: Cancelled) -> None:
        task = self._desk.tasks.get(event.ask_id)
        if task is None:
            return
        peers = [leg.peer for leg in (task.leg, task.hedge) if leg is not None]
        task.spent = max(task.spent, event.spent)
        self._desk.end(task)
        for peer in peers:
            self._desk.offer(peer)

    def _on_failed(self, event: Failed) -> None:
        task, leg = self._find(event.ask_id, event.peer)
        if task is None or leg is None:
            return
        if event.tokens > task.delivered:
            task.failures = task.retries = 0
        task.delivered, task.spent = event.tokens, event.spent
        self._go_on(task, leg, RefusalCode.FAILED, BROKEN)

    def _on_refused(self, event: Refused) -> None:
        task, leg = self._find(event.ask_id, event.peer)
        if task is not None and leg is not None:
            self._go_on(task, leg, event.code, reaction_to(event.code, retryable=event.retryable))

    def _go_on(self, task: Task, leg: Leg, code: str, reaction: Reaction) -> None:
        """An attempt ended without an answer: hold it against its worker, and try another, unless one is
        trying already."""
        desk, now_ms = self._desk, self._desk.now_ms
        task.last_code = code
        if reaction.declines:
            task.declined = (*task.declined, leg.peer)
        if reaction.blame is Blame.FAILED:
            leg.standing.failed(now_ms)
        elif reaction.blame is Blame.BUSY:
            leg.standing.busy(now_ms)
        elif reaction.blame is Blame.GONE:
            self.view.forget(leg.peer)
        desk.drop(task, leg)
        pause_ms = task.spec.deadline_ms - now_ms
        if reaction.again is Again.SOON:
            tries = task.failures if reaction.counts else task.retries
            pause_ms = desk.backoff.pause_ms(tries + 1)
        if task.leg is None:
            desk.retry(task, leg.peer, pause_ms, counts=reaction.counts)
        else:
            task.avoid(leg.peer, now_ms, now_ms + pause_ms)

    def _find(self, ask_id: AskId, peer: PeerId) -> tuple[Task | None, Leg | None]:
        task = self._desk.tasks.get(ask_id)
        if task is None:
            return None, None
        leg = task.leg
        return task, leg if leg is not None and leg.peer == peer else task.leg_at(peer)

    # ---- what is learnt of workers

    def _on_advert(self, event: AdvertSeen) -> None:
        if self.view.apply(self._desk.now_ms, event.worker):
            self._desk.offer(event.worker.peer)

    def _on_judged(self, event: Judged) -> None:
        self._standings.of(event.peer).audited(self._desk.now_ms, passed=event.passed)
        self._reprice(event.peer)

    def _reprice(self, peer: PeerId) -> None:
        member = self.view.member(peer)
        if member is not None:
            member.reprice()


def _on_tick(_event: Tick) -> None:
    """Time passed: what was due is done."""
