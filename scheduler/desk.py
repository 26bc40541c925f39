"""The dispatch desk: asks under way, those that wait, and what is due. The core tells it what happened; it
writes the actions.

Rules of this file: whoever takes an ask out of a state puts it into another or ends it; a timer is set for
every ask that has not ended, at its deadline or before.
"""

from __future__ import annotations

from ..protocol.ids import Cid, PeerId
from .clients import Clients
from .config import SchedulerConfig
from .estimates import Way
from .events import Abandon, Action, AskId, AskSpec, Dispatch, GiveUp
from .hedging import Hedges
from .members import LISTED, Member
from .prefetch import suggest
from .query import NOTHING_TRIED, Query
from .retries import Backoff
from .route import LOOKED_AT, Router
from .scores import outlook
from .standing import Standing
from .survey import Bar, Survey, bar_of
from .tasks import Leg, Task, WaitingRoom
from .timers import Timers
from .view import NEVER_MS

OFFERED = 64
"""How many waiting asks a worker with news is offered at a time."""
POLL_MS = 1_000
"""How often an ask looks again that waits for a worker with room, where the line is short."""
LINE_MS = 4
"""Asks that wait look so seldom that one of their line does every so often (one of a very long line every
millisecond): they would spend all time on looking otherwise."""


class Desk:
    """`now_ms` and `actions` are the step's; `wake_ms` is the soonest time that something may be due."""

    def __init__(self, config: SchedulerConfig, router: Router) -> None:
        self.config = config
        self.now_ms = 0
        self.actions: list[Action] = []
        self.wake_ms = NEVER_MS
        self.tasks: dict[AskId, Task] = {}
        self.clients = Clients(config.budget)
        self.backoff = Backoff(config.backoff_ms, config.max_backoff_ms, router.rng)
        self._router = router
        self._view = router.view
        self._hedges = Hedges(config.hedge_ppm)
        self.waiting = WaitingRoom()
        self._timers: Timers[AskId] = Timers()

    # ---- asks come and go

    def open(self, spec: AskSpec) -> None:
        """An ask that was admitted begins."""
        give_up_ms = spec.deadline_ms
        if spec.patience_ms is not None:
            give_up_ms = min(give_up_ms, self.now_ms + spec.patience_ms)
        self.tasks[spec.ask_id] = task = Task(spec, give_up_ms)
        if self._hedges.share_ppm:
            self._hedges.earn()
        self.route(task)

    def end(self, task: Task) -> None:
        """The ask has ended, whatever is under way for it."""
        spec = task.spec
        for leg in (task.leg, task.hedge) if task.hedge is not None else (task.leg,):
            if leg is not None:
                self._free(leg.standing)
        task.leg = task.hedge = None
        if task.is_waiting:
            self.waiting.leave(task)
        self._timers.clear(spec.ask_id)
        del self.tasks[spec.ask_id]
        if spec.client:
            self.clients.settle(self.now_ms, spec.client, spec.max_price, task.spent)

    def give_up(self, task: Task, code: str, message: str) -> None:
        """The ask has failed for good."""
        self.end(task)
        self.actions.append(GiveUp(task.spec.ask_id, str(code), message))

    def drop(self, task: Task, leg: Leg) -> None:
        """One attempt is over."""
        task.drop(leg)
        self._free(leg.standing)

    def _free(self, standing: Standing) -> None:
        """Its worker has an ask less."""
        standing.outstanding -= 1
        member = standing.member
        if member is not None:
            self._view.weigh(self.now_ms, member)

    def prefer(self, task: Task, leg: Leg) -> None:
        """This attempt has tokens: the other one is not needed."""
        if task.hedge is None or task.leg is None:
            return
        other = task.hedge if leg is task.leg else task.leg
        self.drop(task, other)
        self.actions.append(Abandon(task.spec.ask_id, other.peer))

    # ---- choosing

    def route(self, task: Task) -> None:
        """Send it to a worker, or let it wait for one."""
        router = self._router
        query = router.query(self.now_ms, task.rest, task.tried or NOTHING_TRIED)
        member = router.choose(query) if query is not None else None
        if member is not None and query is not None:
            self._dispatch(task, query, member)
        elif task.declined:
            self.give_up(
                task, task.last_code, f"the only worker that could serve it declined: {task.last_code}"
            )
        else:
            self._wait(task, query)

    def offer(self, peer: PeerId) -> None:
        """Give waiting asks to a worker that has news or room, the longest waiting first, until it is
        full."""
        member = self._view.member(peer) if self.waiting.lines else None
        if member is None:
            return
        waiting = self.waiting.first(member.ad.base, OFFERED)
        for place, task in enumerate(waiting):
            query = self._query(task)
            bar = bar_of(member, query) if query is not None else Bar.EXCLUDED
            if bar is None and query is not None:
                self._dispatch(task, query, member)
            elif bar in (Bar.FULL, Bar.RESTING):
                self._poll(waiting[place:])
                return
            else:
                self.waiting.yield_place(task)

    def retry(self, task: Task, peer: PeerId, pause_ms: int, *, counts: bool) -> None:
        """Try elsewhere: at once the first time, after a growing pause from then on; `peer` itself after
        `pause_ms`."""
        task.shrink()
        task.avoid(peer, self.now_ms, self.now_ms + pause_ms)
        task.failures += counts
        task.retries += 1
        if len(task.declined) >= self.config.final_opinions:
            self.give_up(
                task, task.last_code, f"{len(task.declined)} workers declined it for good: {task.last_code}"
            )
        elif task.failures >= self.config.max_attempts:
            self.give_up(
                task,
                task.last_code,
                f"{task.failures} workers in a row failed; the last said: {task.last_code}",
            )
        elif task.retries == 1:
            self.route(task)
        else:
            self._set_due(task, self.now_ms + self.backoff.pause_ms(task.retries - 1))

    def survey(self, task: Task) -> Survey:
        """Why nobody can serve it."""
        return self._router.survey(self._query(task), task.rest)

    def _query(self, task: Task) -> Query | None:
        return self._router.query(self.now_ms, task.rest, task.avoided)

    def _dispatch(self, task: Task, query: Query, member: Member, *, hedge: bool = False) -> None:
        spec, peer, standing = task.spec, member.peer, member.standing
        leg = Leg(peer, standing, query.estimates, outlook(member, query))
        task.attempts += 1
        if hedge:
            task.hedge, task.may_hedge = leg, False
        else:
            task.leg = leg
            if task.is_waiting:
                self.waiting.leave(task)
            if query.adapter is not None:
                self._prefetch(query, query.adapter, member)
        standing.outstanding += 1
        self._view.weigh(self.now_ms, member)
        if spec.adapters:
            self._warm(spec, member, leg)
        if spec.prefixes:
            self._router.prefixes.read(spec, peer)
        self.actions.append(Dispatch(spec.ask_id, peer, task.attempts, leg.way is Way.HELD, hedge))
        if self._hedges.share_ppm:
            self._watch(task, query)
        else:
            self._set_timer(task, spec.deadline_ms)

    def _prefetch(self, query: Query, adapter: Cid, member: Member) -> None:
        """Count the ask for its adapter, and say who else should hold that, if somebody should."""
        shelf = query.shelf or query.field.shelf(adapter)
        shelf.demand.note(self.now_ms)
        hint = suggest(query, adapter, shelf, member)
        if hint is not None:
            self.actions.append(hint)

    def _warm(self, spec: AskSpec, member: Member, leg: Leg) -> None:
        """From now on it is believed to hold what the ask needs."""
        ready_ms = self.now_ms + (leg.own_ms + leg.wait_ms if leg.way is not Way.HELD else 0)
        if leg.way is Way.FETCH:
            member.line_free_ms = ready_ms
        for adapter in spec.adapters:
            if member.held.get(adapter) != LISTED:
                self._view.warm(ready_ms, member, adapter)

    def _watch(self, task: Task, query: Query) -> None:
        """Wait for the answer, and look after a late first token if a hedge is allowed."""
        due_ms = task.spec.deadline_ms
        if task.may_hedge and not task.delivered:
            due_ms = min(due_ms, self.now_ms + self._hedges.wait_ms(query.field.estimates))
        self._set_timer(task, due_ms)

    def _wait(self, task: Task, query: Query | None) -> None:
        """Nobody can serve it now: adverts and freed workers are offered to it; bars that pass by time are
        polled."""
        self.waiting.enter(task)
        if query is None:
            self._set_due(task, task.give_up_ms)
            return
        waiting = len(self.waiting.lines[task.spec.base])
        turn_ms = self.now_ms + min(LINE_MS * waiting, POLL_MS + waiting)
        poll_ms = max(turn_ms, self.now_ms + POLL_MS)
        if len(query.field.everyone) > LOOKED_AT:
            self._set_due(task, poll_ms)
            return
        due_ms, (next_ms, is_full) = task.give_up_ms, self._router.next_chance(query)
        if next_ms is not None:
            due_ms = max(next_ms, turn_ms)
        if is_full:
            due_ms = min(due_ms, poll_ms)
        self._set_due(task, due_ms)

    # ---- what is due

    def run_due(self) -> None:
        """Look after every ask whose time has come."""
        for ask_id in self._timers.pop_due(self.now_ms):
            task = self.tasks[ask_id]
            if self.now_ms >= task.spec.deadline_ms:
                self._expire(task)
            elif task.leg is not None:
                self._look_after(task)
            elif self.now_ms >= task.give_up_ms and not task.attempts:
                survey = self.survey(task)
                self.give_up(task, survey.code, survey.explain(task.rest.max_price))
            else:
                self._look_again(task)
        self.wake_ms = self._timers.next_ms() or NEVER_MS

    def _look_again(self, task: Task) -> None:
        """It waited long enough. Whoever finds a worker hurries the first of a line that looks seldom."""
        self.waiting.leave(task)
        self.route(task)
        line = self.waiting.lines.get(task.spec.base)
        if task.leg is not None and line is not None and len(line) * LINE_MS > POLL_MS:
            self._set_due(next(iter(line.values())), self.now_ms)

    def _look_after(self, task: Task) -> None:
        """Its first token is late: send it to a second worker, if one is idle."""
        self._set_timer(task, task.spec.deadline_ms)
        query = self._query(task)
        if task.leg is None or task.delivered or query is None:
            return
        tried = {**task.avoided, task.leg.peer: task.spec.deadline_ms}
        other = self._router.query(self.now_ms, task.rest, tried)
        member = self._router.choose(other) if other is not None else None
        if member is not None and other is not None and self._hedges.take(other, member):
            self._dispatch(task, other, member, hedge=True)

    def _poll(self, tasks: list[Task]) -> None:
        """They wait for a worker that may soon have room, of which nobody might tell."""
        due_ms = self.now_ms + POLL_MS
        for task in tasks:
            if self._timers.due_ms(task.spec.ask_id) > due_ms:
                self._set_due(task, due_ms)

    def _expire(self, task: Task) -> None:
        if task.leg is not None:
            reason = f"worker {task.leg.peer} had not finished"
        elif task.last_code:
            reason = f"the last of {task.attempts} workers tried said: {task.last_code}"
        else:
            reason = self.survey(task).explain(task.rest.max_price)
        self.give_up(task, "deadline_exceeded", f"no answer before the deadline: {reason}")

    def _set_due(self, task: Task, due_ms: int) -> None:
        limit_ms = task.spec.deadline_ms if task.attempts else task.give_up_ms
        self._set_timer(task, min(max(due_ms, self.now_ms + 1), limit_ms))

    def _set_timer(self, task: Task, due_ms: int) -> None:
        self._timers.set(task.spec.ask_id, due_ms)
        if due_ms < self.wake_ms:
            self.wake_ms = due_ms
