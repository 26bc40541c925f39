"""Which adapters are ready to serve, and making more of them so: the network → this machine's disk → an
engine slot.

Rules of this file:
- A request holds a lease on its adapters; an adapter under a lease keeps its slot. At most as many distinct
  adapters are under lease as there are slots, so there is always one to evict, the least recently used, and
  nobody waits in a circle.
- An adapter is fetched and loaded once, however many wait for it; they share the outcome. When the one who
  does it is cancelled, another of them takes over.
- A bad adapter fails those who ask for it, is remembered as bad for a while, and holds up nobody else.
- The engine's own list is the truth about its slots: after a restart it is empty, and adapters are loaded
  again on demand.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import trio

from ...protocol.errors import CommonloreError, InvalidAdapter, Refused
from ...protocol.ids import Cid
from ...protocol.manifests import AdapterManifest
from ...protocol.messages import RefusalCode
from ..engine.types import AdapterSource, EngineFacts
from .validate import check_manifest

BAD_FOR_S = 600.0
MAX_REMEMBERED_BAD = 1024


class AdapterHost(Protocol):
    """What the store needs of an engine (`EngineProcess`)."""

    facts: EngineFacts

    @property
    def resident(self) -> Mapping[Cid, int]:
        """Adapters in slots, with their ranks."""

    async def load_adapter(self, source: AdapterSource) -> None:
        """Fill a slot."""

    async def unload_adapter(self, adapter: Cid) -> None:
        """Free a slot."""


@dataclass(frozen=True, slots=True)
class FetchedAdapter:
    """An adapter on this machine's disk.

    `manifest` is the one that the adapter id names, `path` its safetensors.
    """

    manifest: AdapterManifest
    path: Path


Fetch = Callable[[Cid], Awaitable[FetchedAdapter]]
"""Get an adapter's manifest and file, from disk or from peers.

Raises NotFound, Unreachable, InvalidAdapter.
"""


@dataclass(frozen=True, slots=True)
class ReadyAdapter:
    """An adapter in a slot."""

    adapter: Cid
    rank: int


@dataclass(slots=True)
class StoreCounts:
    """What the store has done since its start."""

    loads: int = 0
    evictions: int = 0
    failures: int = 0


@dataclass(slots=True)
class _Flight:
    done: trio.Event = field(default_factory=trio.Event)
    error: CommonloreError | None = None


class AdapterStore:
    """The adapters of one engine."""

    def __init__(self, engine: AdapterHost, fetch: Fetch) -> None:
        self.counts = StoreCounts()
        self._engine = engine
        self._fetch = fetch
        self._pins: Counter[Cid] = Counter()
        self._turn = trio.Lock()
        self._unpinned = trio.Event()
        self._used: OrderedDict[Cid, None] = OrderedDict()  # least recently used first
        self._flights: dict[Cid, _Flight] = {}
        self._loading = 0
        self._bad: OrderedDict[Cid, tuple[float, str]] = OrderedDict()

    def is_ready(self, adapter: Cid) -> bool:
        """Whether it is in a slot now."""
        return adapter in self._engine.resident

    def ready(self) -> list[Cid]:
        """What the slots hold, the most recently used first."""
        resident = self._engine.resident
        return [adapter for adapter in reversed(self._used) if adapter in resident]

    @asynccontextmanager
    async def lease(self, adapters: Sequence[Cid]) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """For the life of a request.

        Await what it gives before generating: then all of them have slots and keep them.

        That wait raises Refused(busy) when there are more than the engine has slots, InvalidAdapter,
        NotFound, Unreachable, EngineFailed; cancel it at the request's deadline.
        """
        wanted = frozenset(adapters)
        pinned = False

        async def prepare() -> None:
            nonlocal pinned
            if not pinned:
                await self._pin(wanted)
                pinned = True
            for adapter in adapters:
                await self._make_ready(adapter)

        try:
            yield prepare
        finally:
            if pinned:
                self._unpin(wanted)

    async def ensure(self, adapter: Cid) -> ReadyAdapter:
        """Make it ready, without a claim to stay so: what a prefetch does. Raises as a lease does."""
        async with self.lease((adapter,)) as prepare:
            await prepare()
            return ReadyAdapter(adapter, self._engine.resident.get(adapter, 0))

    # ---- leases

    async def _pin(self, wanted: frozenset[Cid]) -> None:
        slots = self._engine.facts.slots
        if len(wanted) > slots:
            raise Refused(
                RefusalCode.BUSY,
                f"the request composes {len(wanted)} adapters; this worker has {slots} slots",
            )
        if not wanted <= self._pins.keys():
            async with self._turn:
                while len(self._pins.keys() | wanted) > slots:
                    self._unpinned = trio.Event()
                    await self._unpinned.wait()
        self._pins.update(wanted)

    def _unpin(self, wanted: frozenset[Cid]) -> None:
        self._pins -= Counter(wanted)  # drops what falls to zero
        self._unpinned.set()

    # ---- one adapter

    async def _make_ready(self, adapter: Cid) -> None:
        while True:
            self._refuse_bad(adapter)
            self._used[adapter] = None
            self._used.move_to_end(adapter)
            if self.is_ready(adapter):
                return
            flight = self._flights.get(adapter)
            if flight is None:
                await self._lead(adapter)
                return
            await flight.done.wait()
            if flight.error is not None:
                raise flight.error

    async def _lead(self, adapter: Cid) -> None:
        flight = self._flights[adapter] = _Flight()
        try:
            await self._bring(adapter)
        except CommonloreError as error:
            flight.error = error
            self.counts.failures += 1
            if isinstance(error, InvalidAdapter):
                self._remember_bad(adapter, str(error))
            raise
        finally:
            del self._flights[adapter]
            flight.done.set()

    async def _bring(self, adapter: Cid) -> None:
        fetched = await self._fetch(adapter)
        manifest, facts = fetched.manifest, self._engine.facts
        check_manifest(manifest, (facts.base, facts.artefact), facts.max_rank)
        source = AdapterSource(adapter, str(fetched.path), manifest.rank, manifest.alpha, manifest.targets)
        await self._make_room()
        self._loading += 1
        try:
            await self._engine.load_adapter(source)
        finally:
            self._loading -= 1
        self.counts.loads += 1

    async def _make_room(self) -> None:
        """Evict until a slot is free. The caller's adapter is pinned, so there is always one that may go."""
        while len(self._engine.resident) + self._loading >= self._engine.facts.slots:
            victim = self._victim()
            if victim is None:
                raise Refused(RefusalCode.BUSY, "every adapter slot is in use: try again or another worker")
            self._used.pop(victim, None)
            await self._engine.unload_adapter(victim)
            self.counts.evictions += 1

    def _victim(self) -> Cid | None:
        idle = [adapter for adapter in self._engine.resident if adapter not in self._pins]
        order = {adapter: age for age, adapter in enumerate(self._used)}
        return min(idle, key=lambda adapter: order.get(adapter, -1), default=None)

    # ---- bad ones

    def _refuse_bad(self, adapter: Cid) -> None:
        until, message = self._bad.get(adapter, (0.0, ""))
        if trio.current_time() < until:
            raise InvalidAdapter(message)

    def _remember_bad(self, adapter: Cid, message: str) -> None:
        self._bad[adapter] = (trio.current_time() + BAD_FOR_S, message)
        while len(self._bad) > MAX_REMEMBERED_BAD:
            self._bad.popitem(last=False)
