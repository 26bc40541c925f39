"""Where one ask stands: what it is for, what it has got, and what the scheduler knows of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from ...protocol.errors import CommonloreError
from ...protocol.ids import Cid, PeerId
from ...scheduler import events
from ...scheduler.core import Scheduler
from .answers import Answer, AskOptions, Delta
from .attempt_parts import AttemptParts
from .known_workers import KnownWorkers


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


@dataclass(slots=True, eq=False)
class AskState:
    """`deltas` go to the answer's reader. `begun` are tokens and price before what the scheduler was told
    last, `failed` who broke off, `refusal` the last word of a worker that gave no answer."""

    ask_id: events.AskId
    wanted: Wanted
    answer: Answer
    deltas: trio.MemorySendChannel[Delta]
    limit: int
    begun: tuple[int, int] = (0, 0)
    failed: list[PeerId] = field(default_factory=list)
    refusal: CommonloreError | None = None
    is_whole: bool = False

    @property
    def spent(self) -> int:
        """Token units since the scheduler was last told of this ask."""
        return self.answer.transcript.price - self.begun[1]

    @property
    def news(self) -> int:
        """Tokens since then."""
        return len(self.answer.transcript.tokens) - self.begun[0]
