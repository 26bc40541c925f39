"""One choice of a worker: the ask, what has been tried for it, and the workers to choose from."""

from __future__ import annotations

from collections.abc import Mapping

from ..protocol.ids import Cid, PeerId
from .estimates import Estimates
from .events import AskSpec
from .fields import Field, Shelf
from .members import Member
from .prng import Prng

NOTHING_TRIED: Mapping[PeerId, int] = {}
NOTHING_READ: Mapping[Member, int] = {}


class Query:
    """What draws and scores look at.

    `tried` maps peers to when they may be tried again; `tokens` is how long the answer will be, about;
    `cached` says who read how many of the prompt's first tokens before; `adapter` is the heaviest one, if
    any, and `shelf` who has it at hand, if anybody.
    """

    __slots__ = (
        "adapter",
        "cached",
        "estimates",
        "field",
        "now_ms",
        "rng",
        "shelf",
        "spec",
        "tokens",
        "tried",
    )

    def __init__(
        self,
        now_ms: int,
        spec: AskSpec,
        field: Field,
        rng: Prng,
        tried: Mapping[PeerId, int] = NOTHING_TRIED,
        cached: Mapping[Member, int] = NOTHING_READ,
    ) -> None:
        estimates, adapters = field.estimates, spec.adapters
        self.now_ms = now_ms
        self.spec = spec
        self.field = field
        self.rng = rng
        self.tried = tried
        self.cached = cached
        self.estimates: Estimates = estimates
        self.tokens = spec.max_tokens if spec.max_tokens < estimates.tokens else estimates.tokens
        self.adapter: Cid | None = adapters[0] if adapters else None
        self.shelf: Shelf | None = field.shelves.get(adapters[0]) if adapters else None

    def missing(self, member: Member) -> int:
        """How many of the ask's adapters the worker would have to load."""
        held, missing = member.held, 0
        for adapter in self.spec.adapters:
            if adapter not in held:
                missing += 1
        return missing
