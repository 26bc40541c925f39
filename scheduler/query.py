"""One choice of a worker: the ask, what has been tried for it, and the workers to choose from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..protocol.ids import Cid, PeerId
from .estimates import Estimates
from .events import AskSpec
from .fields import Field, Shelf
from .members import Member
from .prng import Prng

NOTHING_TRIED: Mapping[PeerId, int] = {}
NOTHING_READ: Mapping[Member, int] = {}


@dataclass(slots=True)
class Query:
    """What draws and scores look at.

    `tried` maps peers to when they may be tried again; `tokens` is how long the answer will be, about;
    `cached` says who read how many of the prompt's first tokens before; `adapter` is the heaviest one, if
    any, and `shelf` who has it at hand, if anybody.
    """

    spec: AskSpec
    field: Field
    estimates: Estimates
    rng: Prng
    now_ms: int
    tried: Mapping[PeerId, int]
    tokens: int
    cached: Mapping[Member, int]
    adapter: Cid | None
    shelf: Shelf | None

    def missing(self, member: Member) -> int:
        """How many of the ask's adapters the worker would have to load."""
        held, missing = member.held, 0
        for adapter in self.spec.adapters:
            if adapter not in held:
                missing += 1
        return missing
