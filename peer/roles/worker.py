"""The worker role: an engine in its own process, adapters fetched on demand, adverts, and statements on what
was served.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from ...protocol.content.splits import BASE_SPLIT
from ...protocol.errors import CommonloreError, ConfigError, NotFound
from ...protocol.gossip.adverts import WorkerAd
from ...protocol.ids import Cid
from ...protocol.receipts.credits import compute_price
from ...protocol.signing.bindings import MAX_CLOCK_SKEW_S
from ...worker.adapters.store import AdapterStore, FetchedAdapter
from ...worker.engine.process.engine_process import EngineProcess, open_engine
from ...worker.engine.types import EngineConfig
from ...worker.models.artefacts import find_artefact
from ...worker.models.cache import default_cache_dir, find_base
from ...worker.models.reference import MANIFEST_FILE, load_base
from ..asking.prefetch import METHOD as PREFETCH
from ..asking.prefetch import Prefetching, PrefetchParts
from ..attribution.attributing import Attributing, open_attributing
from ..config import Config
from ..keyed_lock import KeyedLock
from ..node import Node
from ..serving.conversation_parts import ServingParts
from ..serving.door import DoorParts, WorkerService
from ..serving.offers import Load, Offers, Terms
from ..serving.registered import RegisteredTerms
from ..serving.request_log import RequestLog
from ..settling.escrow_readings import EscrowReadings
from ..settling.funds import Funds
from ..store.ledger_rows import Role

log = logging.getLogger("commonlore.peer.worker")
MAX_ADAPTER_BYTES = 4 * 1024**3
FIRST_ADVERTS_S = 1.0
"""Until the mesh has formed, an advert may reach nobody: the first few come quickly."""
FIRST_ADVERTS = 5


@dataclass(frozen=True, slots=True)
class AdapterFetch:
    """An adapter that came from other peers: its weights' size and how long that took."""

    adapter: Cid
    bytes: int
    milliseconds: int


@dataclass(slots=True)
class WorkerRole:
    """The worker part of a node."""

    engine: EngineProcess
    adapters: AdapterStore
    offers: Offers
    service: WorkerService
    attributing: Attributing
    fetches: list[AdapterFetch]


@asynccontextmanager
async def open_worker(node: Node) -> AsyncIterator[WorkerRole]:
    """Serve on this node's lane until the block ends.

    Raises NotFound, InvalidModel, EngineFailed when the base cannot run, MissingDependency where its engine
    cannot.
    """
    config = node.config
    base_dir = await trio.to_thread.run_sync(base_directory, config.cache_dir, config.base)
    async with AsyncExitStack() as stack:
        artefact_dir = await trio.to_thread.run_sync(artefact_directory, config, base_dir)
        engine_config = _engine_config(node, base_dir, artefact_dir)
        engine = await stack.enter_async_context(open_engine(engine_config))
        fetches: list[AdapterFetch] = []
        sources = _Sources(node, fetches)
        adapters = AdapterStore(engine, sources.fetch)
        attributing = await stack.enter_async_context(open_attributing(node, base_dir, engine.facts.base))
        offers = Offers(_terms(node, engine))
        door = _door(node, engine, adapters, offers, attributing)
        if node.chain.client is not None:
            registered = RegisteredTerms(node.chain.client, node.content.get, node.chain.clock.epoch)
            node.catalog.checks.append(registered.check)
        await door.funds.recall(await node.store.records.owners())
        node.nursery.start_soon(door.funds.run)
        service = WorkerService(door)
        await node.store.ledger.abandon_all(Role.WORKER)
        service.register(node.rpc)
        prefetching = Prefetching(_prefetching(node, door, sources))
        node.rpc.serve(PREFETCH, prefetching.serve)
        node.nursery.start_soon(prefetching.run)
        await node.content.put_file(
            base_dir / MANIFEST_FILE
        )  # its id is the base's: others can read what that is
        node.discovery.provide(engine.facts.base)
        await node.gossip.follow(engine.facts.base)
        role = WorkerRole(engine, adapters, offers, service, attributing, fetches)
        node.nursery.start_soon(_advertise, node, role)
        node.nursery.start_soon(_prefetch, node, role)
        yield role


def base_directory(cache_dir: str, base: str) -> Path:
    """Where a base that was imported before lies. Raises NotFound, saying how to import it."""
    folder = Path(cache_dir) if cache_dir else default_cache_dir()
    try:
        return find_base(folder, base)
    except NotFound:
        raise NotFound(
            f"base model {base!r} is not on this machine; first run: commonlore base add {base}"
        ) from None


def artefact_directory(config: Config, base_dir: Path) -> str:
    """Where the quantised base lies that the engine loads; empty for an engine that loads the reference.

    Raises NotFound, saying how to make one.
    """
    if config.engine == "torch":
        return ""
    folder = Path(config.cache_dir) if config.cache_dir else default_cache_dir()
    return str(find_artefact(folder, load_base(base_dir), config.artefact).directory)


def _engine_config(node: Node, base_dir: Path, artefact_dir: str) -> EngineConfig:
    config = node.config
    return EngineConfig(
        base_dir=str(base_dir),
        precision=config.precision,
        threads=config.threads or max(1, (os.cpu_count() or 2) // 2),
        pages=config.engine_pages,
        page_size=config.engine_page_size,
        max_batch=config.max_batch,
        slots=config.engine_slots,
        adapter_ram=config.adapter_ram,
        engine=config.engine,
        artefact_dir=artefact_dir,
        device=config.device,
    )


def _terms(node: Node, engine: EngineProcess) -> Terms:
    facts = engine.facts
    return Terms(
        binding=node.binding.current,
        base=facts.base,
        artefact=facts.artefact,
        rates=node.config.rates,
        base_split=BASE_SPLIT,
        max_context=facts.max_context,
        max_batch=facts.max_batch,
        max_rank=facts.max_rank,
        slots=facts.slots,
        addresses=node.host.addresses,
        base_name=_showable(facts.name),
    )


def _showable(name: str) -> str | None:
    """A base's name as an advert may carry it: 64 bytes at most, and printable."""
    text = "".join(letter for letter in name if letter.isprintable())
    return text.encode()[:64].decode(errors="ignore") or None


def _readings(node: Node) -> EscrowReadings | None:
    """Of the payers of this node's lane; None without a chain."""
    if node.chain.client is None:
        return None
    lifetime_ms = node.config.escrow_reading_s * 1000
    return EscrowReadings(node.chain.client, node.keys.session.address, node.clock, lifetime_ms)


def _door(
    node: Node, engine: EngineProcess, adapters: AdapterStore, offers: Offers, attributing: Attributing
) -> DoorParts:
    lane = node.keys.session
    serving = ServingParts(
        domain=node.domain,
        lane_key=lane,
        ledger=node.store.ledger,
        clock=node.clock,
        engine=engine,
        channels=KeyedLock(),
        step_tokens=node.config.step_tokens,
        attribution=attributing,
        request_log=_request_log(node),
    )
    return DoorParts(
        serving=serving,
        requests=node.store.requests,
        records=node.store.records,
        catalog=node.catalog,
        adapters=adapters,
        offers=offers,
        funds=Funds(_readings(node), lane.address, node.config.credit_limit, node.store.ledger),
        chain_clock=node.chain.clock,
        base_split=BASE_SPLIT,
    )


def _request_log(node: Node) -> RequestLog:
    """Raises ConfigError where the configured file cannot be written."""
    name, home = node.config.request_log, node.home
    try:
        return RequestLog(home.logs / name if name else None)
    except OSError as error:
        raise ConfigError(f"request_log: cannot write {home.logs / name}: {error.strerror}") from error


def _prefetching(node: Node, door: DoorParts, sources: _Sources) -> PrefetchParts:
    facts = door.serving.engine.facts
    return PrefetchParts(
        adapters=door.adapters,
        fetch=sources.fetch,
        catalog=node.catalog,
        funds=door.funds,
        domain=node.domain,
        clock=node.clock,
        base=facts.base,
        least_price=compute_price(node.config.rates, 1, 1),
    )


@dataclass(frozen=True, slots=True)
class _Sources:
    """Adapters by id from wherever they are: manifest, then weights, both verified by their content ids."""

    node: Node
    fetches: list[AdapterFetch]

    async def fetch(self, adapter: Cid) -> FetchedAdapter:
        """Raises NotFound, Unreachable, InvalidAdapter."""
        manifest = await self.node.catalog.adapter(adapter)
        await trio.to_thread.run_sync(self.node.content.store.pin, adapter)  # settlement reads it again
        limit = min(manifest.weights_size, MAX_ADAPTER_BYTES)
        was_here, started = self.node.content.store.has(manifest.weights), self.node.clock.now_ms()
        path = await self.node.content.path(manifest.weights, limit)
        if not was_here:
            took = self.node.clock.now_ms() - started
            self.fetches.append(AdapterFetch(adapter, path.stat().st_size, took))
            log.info("fetched adapter %s: %d bytes in %d ms", adapter, path.stat().st_size, took)
        self.node.discovery.provide(adapter)
        return FetchedAdapter(manifest, path)


async def _advertise(node: Node, role: WorkerRole) -> None:
    """Say what is offered, again and again, at an interval that grows with the number of workers."""
    for count in range(1 << 62):
        try:
            await node.store.requests.forget(node.clock.now_ms() // 1000 - 2 * MAX_CLOCK_SKEW_S)
            ad = await _make_ad(node, role)
            await node.announce(ad)
        except CommonloreError as error:
            log.warning("no advert this time: %s", error)
        interval = node.gossip.advert_interval_s(role.engine.facts.base)
        await trio.sleep(FIRST_ADVERTS_S if count < FIRST_ADVERTS else interval)


async def _make_ad(node: Node, role: WorkerRole) -> WorkerAd:
    stats = await role.engine.stats()
    resident = tuple((entry.adapter, entry.rank) for entry in stats.resident)
    count = sum(one.count for one in stats.ranks)
    load = Load(stats.queued, stats.running, stats.free_pages, resident, count)
    return role.offers.advertise(load, await node.next_seq(), node.clock.now_ms())


async def _prefetch(node: Node, role: WorkerRole) -> None:
    """Have the configured adapters ready before the first request."""
    for name in node.config.adapters:
        try:
            await role.adapters.ensure(node.catalog.adapter_id(name))
        except CommonloreError as error:
            log.warning("adapter %s is not ready: %s", name, error)
