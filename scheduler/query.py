"""One choice of a worker: the ask, what has been tried for it, and the workers to choose from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..protocol.ids import Cid, PeerId
from .estimates import Estimates
from .events import AskSpec
from .members import Field, Member
from .prng import Prng

NOTHING_TRIED: Mapping[PeerId, int] = {}


@dataclass(slots=True)
class Query:
    """What draws and scores look at.

    `tried` maps peers to when they may be tried again; `tokens` is how long the answer will be, about;
    `cached` says who read how
    many of the prompt's first tokens before.
    """

    spec: AskSpec
    field: Field
    estimates: Estimates
    rng: Prng
    now_ms: int
    tried: Mapping[PeerId, int]
    tokens: int
    cached: Mapping[Member, int]

    @property
    def adapter(self) -> Cid | None:
        """The heaviest adapter, if any."""
        return self.spec.adapters[0] if self.spec.adapters else None

    def missing(self, member: Member) -> int:
        """How many of the ask's adapters the worker would have to load."""
        held, missing = member.held, 0
        for adapter in self.spec.adapters:
            if adapter not in held:
                missing += 1
        return missing
