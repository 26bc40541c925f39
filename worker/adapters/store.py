"""Which adapters are ready to serve, and making more of them so: the network → this machine's disk → the
engine's RAM. From there the engine itself gives slots to those that run.

Rules of this file:
- A request holds a lease on its adapters; an adapter under a lease stays in RAM. Leased adapters never take
  more bytes than the engine has for them (`claims`), so there is always one to evict: the least recently
  used.
- What an adapter takes in RAM is known from its manifest, so it is fetched first. The file is needed until it
  is in RAM; should the disk's quota have removed it meanwhile, it is fetched once more.
- An adapter is fetched and loaded once, however many wait for it; they share the outcome (`flights`).
- A bad adapter fails those who ask for it, is remembered as bad for a while, and holds up nobody else.
- The engine's own list is the truth about its RAM: after a restart it is empty, and adapters are loaded again
  on demand.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import trio

from ...protocol.content.manifests import AdapterManifest
from ...protocol.errors import CommonloreError, InvalidAdapter, NotFound, Refused
from ...protocol.ids import Cid
from ...protocol.inference.messages import RefusalCode
from ..engine.types import AdapterSource, EngineFacts
from .claims import Claims
from .flights import Flights
from .validate import check_manifest

BAD_FOR_S = 600.0
MAX_REMEMBERED_BAD = 1024


class AdapterHost(Protocol):
    """What the store needs of an engine (`EngineProcess`)."""

    facts: EngineFacts

    @property
    def resident(self) -> Mapping[Cid, int]:
        """Adapters in RAM, with the bytes that each takes."""

    async def load_adapter(self, source: AdapterSource) -> None:
        """Bring it into RAM."""

    async def unload_adapter(self, adapter: Cid) -> None:
        """Let go of it."""


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


@dataclass(slots=True)
class StoreCounts:
    """What the store has done since its start."""

    loads: int = 0
    evictions: int = 0
    failures: int = 0


class AdapterStore:
    """The adapters of one engine."""

    def __init__(self, engine: AdapterHost, fetch: Fetch) -> None:
        self.counts = StoreCounts()
        self._engine = engine
        self._fetch = fetch
        self._claims = Claims(engine.facts.adapter_ram)
        self._used: OrderedDict[Cid, None] = OrderedDict()  # least recently used first
        self._fetches: Flights[Cid, FetchedAdapter] = Flights()
        self._loads: Flights[Cid, None] = Flights()
        self._loading = 0
        self._bad: OrderedDict[Cid, tuple[float, str]] = OrderedDict()

    def is_ready(self, adapter: Cid) -> bool:
        """Whether it is in RAM now."""
        return adapter in self._engine.resident

    def ready(self) -> list[Cid]:
        """What is in RAM, the most recently used first."""
        resident = self._engine.resident
        return [adapter for adapter in reversed(self._used) if adapter in resident]

    def has_room(self) -> bool:
        """Whether an adapter of any rank fits into RAM without an eviction."""
        facts = self._engine.facts
        return self._taken() + facts.packed_bytes(facts.max_rank) <= facts.adapter_ram

    @asynccontextmanager
    async def lease(self, adapters: Sequence[Cid]) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """For the life of a request.

        Await what it gives before generating: then all of them are in RAM and stay there.

        That wait raises Refused(busy) when they are more than the engine has slots or RAM for,
        InvalidAdapter, NotFound, Unreachable, EngineFailed; cancel it at the request's deadline.
        """
        claimed: frozenset[Cid] = frozenset()

        async def prepare() -> None:
            nonlocal claimed
            fetched = await self._fetch_missing(adapters)
            if not claimed:
                sizes = {adapter: self._size_of(adapter, fetched.get(adapter)) for adapter in adapters}
                await self._claims.take(sizes)
                claimed = frozenset(sizes)
            for adapter in adapters:
                await self._make_ready(adapter, fetched.get(adapter))

        try:
            yield prepare
        finally:
            self._claims.release(claimed)

    async def ensure(self, adapter: Cid) -> None:
        """Make it ready, without a claim to stay so: what a prefetch does. Raises as a lease does."""
        async with self.lease((adapter,)) as prepare:
            await prepare()

    def _size_of(self, adapter: Cid, fetched: FetchedAdapter | None) -> int:
        if fetched is None:
            return self._engine.resident[adapter]
        return self._engine.facts.packed_bytes(fetched.manifest.rank)

    # ---- on disk

    async def _fetch_missing(self, adapters: Sequence[Cid]) -> dict[Cid, FetchedAdapter]:
        """Those that are not in RAM, on this machine's disk."""
        if len(adapters) > self._engine.facts.slots:
            raise Refused(
                RefusalCode.BUSY,
                f"the request composes {len(adapters)} adapters; this worker has "
                f"{self._engine.facts.slots} slots",
            )
        fetched: dict[Cid, FetchedAdapter] = {}
        while missing := [one for one in adapters if one not in fetched and not self.is_ready(one)]:
            fetched[missing[0]] = await self._fetches.join(missing[0], partial(self._get, missing[0]))
        return fetched

    async def _get(self, adapter: Cid) -> FetchedAdapter:
        with self._judging(adapter):
            fetched = await self._fetch(adapter)
            facts = self._engine.facts
            check_manifest(fetched.manifest, (facts.base, facts.artefact), facts.max_rank)
            return fetched

    # ---- in RAM

    async def _make_ready(self, adapter: Cid, fetched: FetchedAdapter | None) -> None:
        if not self.is_ready(adapter):
            await self._loads.join(adapter, partial(self._bring, adapter, fetched))
        self._used[adapter] = None
        self._used.move_to_end(adapter)

    async def _bring(self, adapter: Cid, fetched: FetchedAdapter | None) -> None:
        if fetched is None:  # it was in RAM, but the engine was replaced or another took its place
            fetched = await self._get(adapter)
        with self._judging(adapter):
            try:
                await self._load(adapter, fetched)
            except NotFound:
                await self._load(adapter, await self._fetch(adapter))
        self.counts.loads += 1

    async def _load(self, adapter: Cid, fetched: FetchedAdapter) -> None:
        manifest = fetched.manifest
        size = self._engine.facts.packed_bytes(manifest.rank)
        await self._make_room(size)
        self._loading += size
        try:
            await self._engine.load_adapter(
                AdapterSource(adapter, str(fetched.path), manifest.rank, manifest.alpha, manifest.targets)
            )
        finally:
            self._loading -= size

    async def _make_room(self, size: int) -> None:
        """Evict until `size` bytes are free. What is claimed fits, the caller's too: there is one that may
        go.
        """
        while self._taken() + size > self._engine.facts.adapter_ram:
            victim = self._victim()
            if victim is None:
                raise Refused(RefusalCode.BUSY, "all adapters here are in use: try again or another worker")
            self._used.pop(victim, None)
            await self._engine.unload_adapter(victim)
            self.counts.evictions += 1

    def _taken(self) -> int:
        return sum(self._engine.resident.values()) + self._loading

    def _victim(self) -> Cid | None:
        idle = [adapter for adapter in self._engine.resident if adapter not in self._claims]
        order = {adapter: age for age, adapter in enumerate(self._used)}
        return min(idle, key=lambda adapter: order.get(adapter, -1), default=None)

    # ---- bad ones

    @contextmanager
    def _judging(self, adapter: Cid) -> Iterator[None]:
        """Refuse what is known to be bad; count failures, and remember an adapter that turns out bad."""
        until, message = self._bad.get(adapter, (0.0, ""))
        if trio.current_time() < until:
            raise InvalidAdapter(message)
        try:
            yield
        except CommonloreError as error:
            self.counts.failures += 1
            self._used.pop(adapter, None)
            if isinstance(error, InvalidAdapter):
                self._remember_bad(adapter, str(error))
            raise

    def _remember_bad(self, adapter: Cid, message: str) -> None:
        self._bad[adapter] = (trio.current_time() + BAD_FOR_S, message)
        while len(self._bad) > MAX_REMEMBERED_BAD:
            self._bad.popitem(last=False)
