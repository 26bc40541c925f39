"""A peer: everything wired together on one nursery, in the order of this file.

Rules of this file: what a part needs is handed to it, nothing is looked up; a role (worker, settler, gateway)
is opened last and closed first. libp2p's heavier parts, torch and web3 are imported only by nodes that use
them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from ..protocol.errors import CommonloreError
from ..protocol.gossip.adverts import Advert, PeerAd
from ..protocol.ids import Cid, PeerId
from ..scheduler.core import Scheduler, SchedulerConfig
from .aio import open_aio
from .asking.answers import Answer, AskOptions
from .asking.asker import Asker
from .asking.attempt_parts import AttemptParts
from .attribution.difference_records import announce_difference
from .attribution.differences import Differences
from .attribution.statements import Statements
from .blobs.blob_store import BlobStore
from .blobs.content import Content
from .catalog import Catalog, Named, content_of
from .chain import ChainLink, open_chain
from .clock import Clock, WallClock
from .config import Config
from .datanets.meanings import choose_embedder
from .datanets.retrieving import Retriever
from .datanets.withdrawing import Derived, Withdrawals
from .following import follow, learn
from .home import Home
from .identity.keystore import Keys
from .identity.own_binding import OwnBinding
from .keyed_lock import KeyedLock
from .network import Network, NetworkConfig, open_network
from .store.node_store import Store, open_store

if TYPE_CHECKING:
    from .roles.checker import Checker
    from .roles.watcher import Watchman
    from .roles.worker import WorkerRole
    from .settling.lane import Settler
    from .settling.registering import Registrar

log = logging.getLogger("commonlore.peer.node")
FIRST_PEER_AD_S, PEER_AD_INTERVAL_S = 1.0, 30.0


@dataclass(frozen=True, slots=True)
class Own:
    """What makes this peer this one."""

    config: Config
    home: Home
    keys: Keys
    clock: Clock
    binding: OwnBinding


class Node:
    """A running peer. `worker`, `settler`, `checker` and `watchman` are None for a peer without that role,
    `registrar` for one without a chain."""

    def __init__(
        self, own: Own, store: Store, chain: ChainLink, network: Network, nursery: trio.Nursery
    ) -> None:
        self.config, self.home, self.keys, self.clock = own.config, own.home, own.keys, own.clock
        self.binding = own.binding
        self.store = store
        self.chain, self.domain = chain, chain.domain
        self.host, self.rpc = network.host, network.rpc
        self.gossip, self.discovery = network.gossip, network.discovery
        self.nursery = nursery
        self.content = Content(network.blobs, _Providers(self).find)
        self.catalog = Catalog(self.content.get, lambda: chain.split_bounds)
        self.catalog.ask_around = network.discovery.ask_around
        self.statements = Statements(self.rpc, store.records, store.ledger, self.catalog, chain.accounts)
        embedder = choose_embedder(own.config.embeddings)
        self.retriever = Retriever(self.content, self.catalog, self.domain, own.home.retrieval, embedder)
        self.differences = Differences(self.content, self.catalog, store.settings, own.keys.peer, own.clock)
        derived = Derived(self.retriever, self.differences, own.home.jobs)
        self.withdrawals = Withdrawals(self.content, self.catalog, derived, store)
        self.asker = Asker(_scheduler(own.config), _attempt_parts(self), self.catalog, nursery)
        self.bases: set[Cid] = set()
        """Bases whose workers this peer follows."""
        self.worker: WorkerRole | None = None
        self.settler: Settler | None = None
        self.watchman: Watchman | None = None
        self.checker: Checker | None = None
        self.registrar: Registrar | None = None

    @property
    def adapter_fetches(self) -> int:
        """Adapters pulled from other peers since the start."""
        return len(self.worker.fetches) if self.worker else 0

    @asynccontextmanager
    async def ask(self, options: AskOptions) -> AsyncIterator[Answer]:
        """The answer to one question as it grows: `async with node.ask(options) as answer: async for delta in
        answer`.
        """
        async with self.asker.ask(await self.retriever.prepare(options)) as answer:
            yield answer

    async def announce(self, record: Advert) -> None:
        """Sign, keep and gossip a record of this peer, and provide what it names."""
        sealed = await self.gossip.publish(record)
        await learn(self, sealed)
        if self.registrar is not None:
            self.registrar.wake()
        self.provide(record)

    def provide(self, record: Advert) -> None:
        """Say, now and again, that what this record names is to be had here."""
        if isinstance(record, Named):
            self.discovery.provide(content_of(record))

    async def next_seq(self) -> int:
        """A number above every earlier one of this home, for the next announcement."""
        return await self.store.settings.count("announcements", self.clock.now_ms())


@asynccontextmanager
async def open_node(
    config: Config, home: Home, keys: Keys, clock: Clock | None = None
) -> AsyncIterator[Node]:
    """A peer that runs until the block ends.

    Raises ConfigError, Unreachable when no bootstrap peer answers.
    """
    clock = clock or WallClock()
    async with AsyncExitStack() as stack:
        stack.enter_context(home.create().lock())
        aio = await stack.enter_async_context(open_aio())
        store = await stack.enter_async_context(open_store(home.store, aio))
        chain = await stack.enter_async_context(open_chain(config, keys, store.settings, clock))
        blobs = await trio.to_thread.run_sync(BlobStore, home.blobs, config.blob_quota)
        place = NetworkConfig(
            keys.peer, chain.domain, clock.now_ms, listen=config.listen, bootstrap=config.bootstrap
        )
        network = await stack.enter_async_context(open_network(place, blobs))
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        binding = OwnBinding(store.settings, keys, chain.domain, clock)
        await binding.renew()
        node = Node(Own(config, home, keys, clock, binding), store, chain, network, nursery)
        await _start(node)
        await _open_roles(node, stack)
        nursery.start_soon(_say_where, node)
        yield node


def _scheduler(config: Config) -> Scheduler:
    settings = SchedulerConfig(
        policy=config.policy,
        client_asks=config.client_asks,
        client_spend=config.client_spend,
        hedge_ppm=config.hedge_ppm,
    )
    return Scheduler(settings, int.from_bytes(os.urandom(8), "big"))


def _attempt_parts(node: Node) -> AttemptParts:
    return AttemptParts(
        rpc=node.rpc,
        ledger=node.store.ledger,
        records=node.store.records,
        catalog=node.catalog,
        session=node.keys.session,
        binding=node.binding.current,
        domain=node.domain,
        clock=node.clock,
        chain_clock=node.chain.clock,
        channels=KeyedLock(),
        entropy=os.urandom,
        max_price=node.config.max_price,
    )


async def _start(node: Node) -> None:
    """Listen to the network, remember what was known, and take a place in it."""
    await node.withdrawals.recall()
    node.differences.made = lambda *made: announce_difference(node, *made)
    for sealed in await node.store.records.all():
        node.gossip.take(sealed.raw)
        await learn(node, sealed)
        if sealed.peer_id == node.host.peer_id:
            node.provide(sealed.record)
    await node.nursery.start(follow, node)
    node.nursery.start_soon(node.asker.run)
    node.nursery.start_soon(node.chain.run)
    node.nursery.start_soon(node.binding.run)
    node.nursery.start_soon(node.retriever.run)
    node.nursery.start_soon(node.withdrawals.sweep)
    log.info("rows are found %s", node.retriever.described)
    await node.discovery.join()


async def _open_roles(node: Node, stack: AsyncExitStack) -> None:
    roles = node.config.roles
    if node.chain.client is not None:
        from .settling.registering import Registrar

        owner = node.keys.owner
        node.registrar = Registrar(node.chain.client, node.catalog, node.keys.peer.public, owner)
        node.nursery.start_soon(node.registrar.run)
    if "worker" in roles:
        from .roles.worker import open_worker

        node.worker = await stack.enter_async_context(open_worker(node))
    if node.chain.client is not None and ("worker" in roles or "settler" in roles):
        from .roles.settler import open_settler

        node.settler = await stack.enter_async_context(open_settler(node))
    if node.chain.client is not None and "worker" in roles:
        from .roles.checker import open_checker

        node.checker = await stack.enter_async_context(open_checker(node))
    if "watchtower" in roles:
        from .roles.watcher import open_watchman

        node.watchman = await stack.enter_async_context(open_watchman(node))


async def _say_where(node: Node) -> None:
    """Tell the network now and then where this peer is, and what it serves; often at first, for while the
    mesh forms an announcement may reach nobody.
    """
    role = ".".join(node.config.roles) or "client"  # a record takes no comma
    base = node.worker.engine.facts.base if node.worker else None
    pause = FIRST_PEER_AD_S
    while True:
        try:
            if node.host.addresses:
                stamp = (await node.next_seq(), node.clock.now_ms())
                await node.announce(PeerAd(role, tuple(node.host.addresses[:8]), *stamp, base))
        except CommonloreError as error:
            log.warning("others are not told where this peer is: %s", error)
        await trio.sleep(pause)
        pause = min(PEER_AD_INTERVAL_S, 2 * pause)


@dataclass(frozen=True, slots=True)
class _Providers:
    """Who may have some content: whom the DHT names, connected peers (asked cheaply), its announcers."""

    node: Node

    async def find(self, cid: Cid) -> Sequence[PeerId]:
        node = self.node
        connected = sorted(node.host.connected())
        named = await node.discovery.providers(cid)
        return tuple(dict.fromkeys((*named, *connected, *node.catalog.announcers(cid))))
