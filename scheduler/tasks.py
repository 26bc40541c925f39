"""An ask on its way: what remains of it, who has it, who failed it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..protocol.ids import PeerId
from .events import AskSpec

_MAX_TRIED = 64


@dataclass(slots=True)
class Task:
    """An ask that has not ended. `rest` is what remains of it when a worker is chosen; `delivered` tokens and
    `spent` token units count over all its workers. `peer` is its worker while dispatched, `held` whether that
    one was believed to hold its adapters; `tried` says when peers may be tried again, `declined` who refused
    it for good; `failures` counts in a row, `retries` since it last moved on.
    """

    spec: AskSpec
    rest: AskSpec
    give_up_ms: int
    peer: PeerId | None = None
    held: bool = True
    delivered: int = 0
    spent: int = 0
    attempts: int = 0
    failures: int = 0
    retries: int = 0
    last_code: str = ""
    tried: dict[PeerId, int] = field(default_factory=dict[PeerId, int])
    declined: list[PeerId] = field(default_factory=list[PeerId])

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
        if len(self.tried) >= _MAX_TRIED:
            self.tried = {each: until for each, until in self.tried.items() if until > now_ms}
        self.tried[peer] = until_ms
