"""What a refusal or a failure says about its worker, and when the ask may go there again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..protocol.inference.messages import RefusalCode
from .prng import Prng


class Blame(Enum):
    """What is held against the worker."""

    NONE = "nothing"
    BUSY = "it is full for a moment"
    FAILED = "it failed"
    GONE = "it is going away"


class Again(Enum):
    """When the same worker may be asked again: after a pause that grows, or not for this ask."""

    SOON = "soon"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Reaction:
    """`counts`: as one of the failures in a row that end an ask; `declines`: as an opinion that the ask
    itself is at fault."""

    blame: Blame
    again: Again
    counts: bool
    declines: bool = False


BROKEN = Reaction(Blame.FAILED, Again.SOON, counts=True)
DECLINED = Reaction(Blame.NONE, Again.NEVER, counts=True, declines=True)
_UNABLE = Reaction(Blame.NONE, Again.NEVER, counts=True)
REACTIONS: dict[str, Reaction] = {
    RefusalCode.BUSY: Reaction(Blame.BUSY, Again.SOON, counts=False),
    RefusalCode.CREDIT: Reaction(Blame.NONE, Again.SOON, counts=False),
    RefusalCode.UNKNOWN_BASE: _UNABLE,
    RefusalCode.UNKNOWN_ADAPTER: _UNABLE,
    RefusalCode.PRICE: _UNABLE,
    RefusalCode.STALE: _UNABLE,
    RefusalCode.SHUTDOWN: Reaction(Blame.GONE, Again.NEVER, counts=True),
    RefusalCode.BAD_ADAPTER: DECLINED,
    RefusalCode.INVALID: DECLINED,
    RefusalCode.TOO_LONG: DECLINED,
}


def reaction_to(code: str, *, retryable: bool) -> Reaction:
    """To a refusal; an unknown code counts as a failure, and what its worker calls final as an opinion."""
    return REACTIONS.get(code, BROKEN) if retryable else DECLINED


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double from `first_ms` to `most_ms`, with up to a quarter more at random so that retries
    spread."""

    first_ms: int
    most_ms: int
    rng: Prng

    def pause_ms(self, step: int) -> int:
        """The pause before try number `step` after the first."""
        pause_ms = min(self.first_ms << min(max(step - 1, 0), 20), self.most_ms)
        return pause_ms + self.rng.below(pause_ms // 4 + 1)
