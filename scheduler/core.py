"""The scheduler: `step(now_ms, event) -> actions`. No I/O, no clock, no randomness but its own seeded stream.

Rules of this file: an ask is in exactly one state (waiting for a worker, pausing before a retry,
dispatched) and always has a due time no later than its deadline, so it always ends; what comes for an ask
that has ended, or from a worker that is no longer its own, is ignored; all state is bounded by the
configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from ..protocol.adverts import ADVERT_LIFETIME_MS
from ..protocol.errors import ConfigError, LocalProtocolError
from ..protocol.ids import Cid, PeerId
from ..protocol.messages import RefusalCode
from .estimates import Estimates
from .events import (
    Action,
    AdvertSeen,
    AskArrived,
    AskId,
    AskSpec,
    Cancelled,
    Completed,
    Dispatch,
    Event,
    Failed,
    GiveUp,
    Progress,
    Refused,
    Tick,
    Wake,
)
from .policies import DEFAULT_POLICY, POLICIES, Candidate, Field
from .prefetch import Prefetcher
from .prng import Prng
from .route import Bar, Router, Survey
from .standing import Standing, Standings
from .tasks import Task
from .timers import Timers
from .view import NetworkView, WorkerView

_OFFERED = 64
_POLL_MS = 1_000
_FINAL_CODES = frozenset((RefusalCode.BAD_ADAPTER, RefusalCode.INVALID, RefusalCode.TOO_LONG))
_PASSING_CODES = frozenset((RefusalCode.BUSY, RefusalCode.CREDIT))
_UNABLE_CODES = frozenset(
    (
        RefusalCode.UNKNOWN_BASE,
        RefusalCode.UNKNOWN_ADAPTER,
        RefusalCode.PRICE,
        RefusalCode.STALE,
        RefusalCode.SHUTDOWN,
    )
)


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """`max_attempts` bounds failed dispatches in a row without a token; `final_opinions` is how many
    workers must decline an ask for good before it is given up; `backlog` is in batches. Raises ConfigError
    on an unknown policy."""

    policy: str = DEFAULT_POLICY
    advert_lifetime_ms: int = ADVERT_LIFETIME_MS
    max_workers: int = 20_000
    max_asks: int = 10_000
    max_attempts: int = 6
    final_opinions: int = 2
    backoff_ms: int = 50
    max_backoff_ms: int = 5_000
    backlog: int = 4

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ConfigError(f"unknown routing policy {self.policy!r}; choose one of: {', '.join(POLICIES)}")


class Scheduler:
    """Routes asks to workers and sees every one of them to an end."""

    def __init__(self, config: SchedulerConfig, seed: int) -> None:
        self.config = config
        self.view = NetworkView(config.advert_lifetime_ms, config.max_workers)
        self._rng = Prng(seed)
        self._standings = Standings(2 * config.max_workers, self.view)
        self._router = Router(
            POLICIES[config.policy], Field(self.view, self._rng), self._standings, Estimates(), config.backlog
        )
        self._prefetcher = Prefetcher(self._router)
        self._tasks: dict[AskId, Task] = {}
        self._waiting: dict[Cid, dict[AskId, None]] = {}
        self._timers: Timers[AskId] = Timers()
        self._now = 0
        self._wake: int | None = None
        self._actions: list[Action] = []

    def __len__(self) -> int:
        """Asks that have not ended."""
        return len(self._tasks)

    def step(self, now_ms: int, event: Event) -> list[Action]:
        """Take in what happened at `now_ms` (Unix milliseconds; never runs backwards) and say what to do.

        Raises LocalProtocolError if an ask arrives under the id of one that has not ended.
        """
        self._now = max(self._now, now_ms)
        self._actions = []
        for stale in self.view.forget_stale(self._now):
            self._standings.forget_blank(stale.peer)
        self._run_due()
        self._apply(event)
        self._set_wake()
        return self._actions

    def standing(self, peer: PeerId) -> Standing | None:
        """This peer's own record of a worker, for display."""
        return self._standings.get(peer)

    def can_serve(self, spec: AskSpec) -> bool:
        """Whether a worker that is known may serve the ask, now or later; otherwise one must appear."""
        return any(self._router.is_able(self._now, spec, peer) for peer in self.view.serving(spec.base))

    def has_other(self, now_ms: int, ask_id: AskId) -> bool:
        """Whether a worker other than the one that has this ask could serve it at `now_ms`."""
        task = self._tasks.get(ask_id)
        if task is None:
            return False
        others = (peer for peer in self.view.serving(task.spec.base) if peer != task.peer)
        return any(
            isinstance(self._router.assess(now_ms, task.rest, task.tried, peer), Candidate) for peer in others
        )

    def _apply(self, event: Event) -> None:
        match event:
            case AdvertSeen(worker):
                self._on_advert(worker)
            case AskArrived(spec):
                self._on_ask(spec)
            case Progress():
                self._on_progress(event)
            case Refused():
                self._on_refused(event)
            case Failed():
                self._on_failed(event)
            case Completed():
                self._on_completed(event)
            case Cancelled(ask_id):
                self._on_cancelled(ask_id)
            case Tick():
                pass

    def _on_advert(self, worker: WorkerView) -> None:
        if self.view.apply(self._now, worker):
            self._standings.of(worker.peer).advertised(worker)
            self._offer(worker.peer)

    def _on_ask(self, spec: AskSpec) -> None:
        if spec.ask_id in self._tasks:
            raise LocalProtocolError(
                f"ask {spec.ask_id!r} is already under way; give each ask an id of its own"
            )
        patience_ms = spec.deadline_ms - self._now if spec.patience_ms is None else spec.patience_ms
        task = Task(spec, spec, min(spec.deadline_ms, self._now + patience_ms))
        if len(self._tasks) >= self.config.max_asks:
            message = f"{len(self._tasks)} asks are under way, as many as this peer allows; try again later"
            self._actions.append(GiveUp(spec.ask_id, "busy", message))
        elif spec.deadline_ms <= self._now:
            self._actions.append(
                GiveUp(spec.ask_id, "deadline_exceeded", "the deadline passed before the ask came")
            )
        else:
            self._tasks[spec.ask_id] = task
            self._route(task)

    def _on_progress(self, event: Progress) -> None:
        task = self._task_at(event.ask_id, event.peer)
        if task is not None:
            task.failures = task.retries = 0
            task.delivered = event.tokens

    def _on_completed(self, event: Completed) -> None:
        task = self._task_at(event.ask_id, event.peer)
        if task is None:
            return
        standing = self._standings.of(event.peer)
        standing.succeeded(self._now, event.total_ms - event.ttft_ms, event.tokens - 1)
        self._router.estimates.learn(event.tokens, event.ttft_ms, held=task.held)
        for wrong in task.declined:
            self._standings.of(wrong).failed(self._now)
        self._end(task)
        self._offer(event.peer)

    def _on_cancelled(self, ask_id: AskId) -> None:
        task = self._tasks.get(ask_id)
        if task is not None:
            peer = task.peer
            self._end(task)
            if peer is not None:
                self._offer(peer)

    def _on_failed(self, event: Failed) -> None:
        task = self._task_at(event.ask_id, event.peer)
        if task is None:
            return
        if event.tokens > task.delivered:
            task.failures = task.retries = 0
        task.delivered, task.spent = event.tokens, event.spent
        self._leave(task)
        self._standings.of(event.peer).failed(self._now)
        task.last_code = RefusalCode.FAILED
        self._retry(task, event.peer, self._backoff(task.failures + 1), counts=True)

    def _on_refused(self, event: Refused) -> None:
        task = self._task_at(event.ask_id, event.peer)
        if task is None:
            return
        self._leave(task)
        task.last_code = event.code
        never_ms = task.spec.deadline_ms - self._now
        if not event.retryable or event.code in _FINAL_CODES:
            task.declined.append(event.peer)
            self._retry(task, event.peer, never_ms, counts=True)
        elif event.code in _PASSING_CODES:
            if event.code == RefusalCode.BUSY:
                self._standings.of(event.peer).busy(self._now)
            self._retry(task, event.peer, self._backoff(task.retries + 1), counts=False)
        elif event.code in _UNABLE_CODES:
            if event.code == RefusalCode.SHUTDOWN:
                self.view.forget(event.peer)
            self._retry(task, event.peer, never_ms, counts=True)
        else:
            self._standings.of(event.peer).failed(self._now)
            self._retry(task, event.peer, self._backoff(task.failures + 1), counts=True)

    def _retry(self, task: Task, peer: PeerId, pause_ms: int, *, counts: bool) -> None:
        """Try elsewhere: at once the first time, after a growing pause from then on; `peer` itself after
        `pause_ms`."""
        task.shrink()
        task.avoid(peer, self._now, self._now + pause_ms)
        task.failures += counts
        task.retries += 1
        if len(task.declined) >= self.config.final_opinions:
            self._give_up(
                task, task.last_code, f"{len(task.declined)} workers declined it for good: {task.last_code}"
            )
        elif task.failures >= self.config.max_attempts:
            self._give_up(
                task,
                task.last_code,
                f"{task.failures} workers in a row failed; the last said: {task.last_code}",
            )
        elif task.retries == 1:
            self._route(task)
        else:
            self._set_due(task, self._now + self._backoff(task.retries - 1))

    def _route(self, task: Task) -> None:
        candidate = self._router.choose(self._now, task.rest, task.tried)
        if candidate is not None:
            self._dispatch(task, candidate)
        elif task.declined:
            self._give_up(
                task, task.last_code, f"the only worker that could serve it declined: {task.last_code}"
            )
        else:
            self._wait(task)

    def _dispatch(self, task: Task, candidate: Candidate) -> None:
        peer = candidate.worker.peer
        self._stop_waiting(task)
        task.peer = peer
        task.held = not candidate.missing
        task.attempts += 1
        self._standings.of(peer).dispatched()
        for adapter in task.spec.adapters:
            self.view.warm(self._now, peer, adapter)
        self._timers.set(task.spec.ask_id, task.spec.deadline_ms)
        self._actions.append(Dispatch(task.spec.ask_id, peer, task.attempts, task.held))
        prefetch = self._prefetcher.suggest(self._now, task.rest, candidate)
        if prefetch is not None:
            self._actions.append(prefetch)

    def _wait(self, task: Task) -> None:
        """Nobody can serve it now: adverts and freed workers are offered to it; bars that pass by time are
        polled."""
        survey = self._survey(task)
        self._waiting.setdefault(task.spec.base, {})[task.spec.ask_id] = None
        if survey.next_ms is not None:
            self._set_due(task, survey.next_ms)
        elif survey.bars[Bar.FULL]:
            self._set_due(task, self._now + _POLL_MS)
        else:
            self._set_due(task, task.give_up_ms)

    def _offer(self, peer: PeerId) -> None:
        """Give waiting asks to a worker that has news or room, the longest waiting first, until it is
        full."""
        worker = self.view.get(peer)
        waiting = self._waiting.get(worker.base) if worker else None
        for ask_id in list(islice(waiting or (), _OFFERED)):
            task = self._tasks[ask_id]
            candidate = self._router.assess(self._now, task.rest, task.tried, peer)
            if isinstance(candidate, Candidate):
                self._dispatch(task, candidate)
            elif candidate in (Bar.FULL, Bar.RESTING):
                return
            else:
                self._waiting[task.spec.base][ask_id] = self._waiting[task.spec.base].pop(ask_id)

    def _run_due(self) -> None:
        for ask_id in self._timers.pop_due(self._now):
            task = self._tasks[ask_id]
            if self._now >= task.spec.deadline_ms:
                self._expire(task)
            elif task.peer is None and self._now >= task.give_up_ms and not task.attempts:
                survey = self._survey(task)
                self._give_up(task, survey.code, survey.explain(task.rest.max_price))
            else:
                self._stop_waiting(task)
                self._route(task)

    def _expire(self, task: Task) -> None:
        if task.peer is not None:
            reason = f"worker {task.peer} had not finished"
        elif task.last_code:
            reason = f"the last of {task.attempts} workers tried said: {task.last_code}"
        else:
            reason = self._survey(task).explain(task.rest.max_price)
        self._give_up(task, "deadline_exceeded", f"no answer before the deadline: {reason}")

    def _give_up(self, task: Task, code: str, message: str) -> None:
        self._end(task)
        self._actions.append(GiveUp(task.spec.ask_id, str(code), message))

    def _end(self, task: Task) -> None:
        self._leave(task)
        self._stop_waiting(task)
        self._timers.clear(task.spec.ask_id)
        del self._tasks[task.spec.ask_id]

    def _leave(self, task: Task) -> None:
        if task.peer is not None:
            self._standings.of(task.peer).ended()
            task.peer = None

    def _stop_waiting(self, task: Task) -> None:
        waiting = self._waiting.get(task.spec.base)
        if waiting is not None:
            waiting.pop(task.spec.ask_id, None)
            if not waiting:
                del self._waiting[task.spec.base]

    def _set_due(self, task: Task, due_ms: int) -> None:
        limit_ms = task.spec.deadline_ms if task.attempts else task.give_up_ms
        self._timers.set(task.spec.ask_id, min(max(due_ms, self._now + 1), limit_ms))

    def _set_wake(self) -> None:
        next_ms = self._timers.next_ms()
        if next_ms is not None and (self._wake is None or next_ms < self._wake or self._wake <= self._now):
            self._wake = next_ms
            self._actions.append(Wake(next_ms))

    def _backoff(self, step: int) -> int:
        """Doubling from `backoff_ms`, with up to a quarter more at random so that retries spread."""
        pause_ms = min(self.config.backoff_ms << min(step - 1, 20), self.config.max_backoff_ms)
        return pause_ms + self._rng.below(pause_ms // 4 + 1)

    def _task_at(self, ask_id: AskId, peer: PeerId) -> Task | None:
        task = self._tasks.get(ask_id)
        return task if task is not None and task.peer == peer else None

    def _survey(self, task: Task) -> Survey:
        return self._router.survey(self._now, task.rest, task.tried)
