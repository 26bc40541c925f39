"""When an adapter's holders are full, name an idle worker that should load it before the next ask needs
it."""

from __future__ import annotations

from ..protocol.ids import Cid, PeerId
from .events import AskSpec, Prefetch
from .policies import HOLDERS_DRAWN, Candidate, homes
from .route import Bar, Router

SPACING_MS = 5_000
MAX_REMEMBERED = 1_024


class Prefetcher:
    """At most one suggestion an adapter every `SPACING_MS`."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._last_ms: dict[tuple[Cid, Cid], int] = {}

    def suggest(self, now_ms: int, spec: AskSpec, chosen: Candidate) -> Prefetch | None:
        """After an ask went to `chosen`: who else should hold its heaviest adapter, if that is needed."""
        if not spec.adapters or chosen.missing or chosen.load < chosen.worker.max_batch:
            return None
        key = (spec.base, spec.adapters[0])
        if now_ms - self._last_ms.get(key, -SPACING_MS) < SPACING_MS:
            return None
        peer = self._idle(now_ms, spec)
        if peer is None:
            return None
        self._remember(key, now_ms)
        return Prefetch(peer, spec.adapters[0])

    def _idle(self, now_ms: int, spec: AskSpec) -> PeerId | None:
        for peer in homes(self._router.field, spec, HOLDERS_DRAWN):
            candidate = self._router.assess(now_ms, spec, {}, peer)
            if (
                not isinstance(candidate, Bar)
                and candidate.missing
                and candidate.load < candidate.worker.max_batch
            ):
                return peer
        return None

    def _remember(self, key: tuple[Cid, Cid], now_ms: int) -> None:
        self._last_ms.pop(key, None)
        self._last_ms[key] = now_ms
        if len(self._last_ms) > MAX_REMEMBERED:
            del self._last_ms[next(iter(self._last_ms))]
