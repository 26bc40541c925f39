"""An ask on its way: what remains of it, who has it, who failed it; and the asks that wait for a worker."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice

from ..protocol.ids import Cid, PeerId
from .estimates import Estimates, Way
from .events import AskId, AskSpec
from .query import NOTHING_TRIED
from .standing import Standing

_MAX_TRIED = 64


class Leg:
    """One attempt under way. `way` is what its worker had to do for the adapters, about `own_ms` long after a
    wait of `wait_ms`; `estimates` are what was known of its base's answers."""

    __slots__ = ("estimates", "own_ms", "peer", "standing", "wait_ms", "way")

    def __init__(
        self, peer: PeerId, standing: Standing, estimates: Estimates, outlook: tuple[Way, int, int]
    ) -> None:
        self.peer = peer
        self.standing = standing
        self.estimates = estimates
        self.way, self.own_ms, self.wait_ms = outlook


class Task:
    """An ask that has not ended. `rest` is what remains of it when a worker is chosen; `delivered` tokens and
    `spent` token units count over all its workers. `leg` is its attempt while dispatched, `hedge` the one
    beside it; `tried` says when peers may be tried again, `declined` who refused it for good; `failures`
    counts in a row, `retries` since it last moved on.
    """

    __slots__ = (
        "attempts",
        "declined",
        "delivered",
        "failures",
        "give_up_ms",
        "hedge",
        "is_waiting",
        "last_code",
        "leg",
        "may_hedge",
        "rest",
        "retries",
        "spec",
        "spent",
        "tried",
    )

    def __init__(self, spec: AskSpec, give_up_ms: int) -> None:
        self.spec = self.rest = spec
        self.give_up_ms = give_up_ms
        self.leg: Leg | None = None
        self.hedge: Leg | None = None
        self.is_waiting = False
        self.may_hedge = True
        self.delivered = self.spent = 0
        self.attempts = self.failures = self.retries = 0
        self.last_code = ""
        self.tried: dict[PeerId, int] | None = None
        self.declined: tuple[PeerId, ...] = ()

    @property
    def avoided(self) -> Mapping[PeerId, int]:
        """Who may not be tried before when."""
        return self.tried if self.tried is not None else NOTHING_TRIED

    def leg_at(self, peer: PeerId) -> Leg | None:
        """The attempt at this worker, if one is under way."""
        leg = self.leg
        if leg is not None and leg.peer == peer:
            return leg
        return self.hedge if self.hedge is not None and self.hedge.peer == peer else None

    def drop(self, leg: Leg) -> None:
        """The attempt is over; the other one, if any, is the ask's from now on."""
        if leg is self.leg:
            self.leg = self.hedge
        self.hedge = None

    def shrink(self) -> None:
        """Reduce what remains by what came: the next worker is sent the delivered tokens as part of its
        prompt.
        """
        done = min(self.delivered, self.spec.max_tokens - 1)
        self.rest = replace(
            self.spec,
            prompt_tokens=self.spec.prompt_tokens + done,
            max_tokens=self.spec.max_tokens - done,
            max_price=max(0, self.spec.max_price - self.spent),
        )

    def avoid(self, peer: PeerId, now_ms: int, until_ms: int) -> None:
        """Do not try `peer` before `until_ms`."""
        tried = self.tried or {}
        if len(tried) >= _MAX_TRIED:
            tried = {each: until for each, until in tried.items() if until > now_ms}
        tried[peer] = until_ms
        self.tried = tried


class WaitingRoom:
    """The asks that nobody can serve now, by base, in the order in which they began to wait."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        self.lines: dict[Cid, OrderedDict[AskId, Task]] = {}

    def enter(self, task: Task) -> None:
        """Wait, at the end of the line unless it waits already."""
        task.is_waiting = True
        self.lines.setdefault(task.spec.base, OrderedDict())[task.spec.ask_id] = task

    def leave(self, task: Task) -> None:
        """Wait no longer."""
        if task.is_waiting:
            task.is_waiting = False
            line = self.lines[task.spec.base]
            del line[task.spec.ask_id]
            if not line:
                del self.lines[task.spec.base]

    def yield_place(self, task: Task) -> None:
        """Let the others pass."""
        self.lines[task.spec.base].move_to_end(task.spec.ask_id)

    def first(self, base: Cid, count: int) -> list[Task]:
        """At most `count` of those that have waited longest for this base."""
        line = self.lines.get(base)
        return [] if line is None else [*islice(line.values(), count)]
