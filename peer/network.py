"""Everything a peer needs of the network, opened together and in the right order.

    async with open_network(config, store) as network:
        await network.discovery.join()
        await network.rpc.call(peer, "method", b"…")

Services are attached before anybody can connect; the host listens last.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import trio

from ..protocol.signing.eip712 import Domain
from ..protocol.signing.keys import PeerKey
from .blobs.blob_store import BlobStore
from .blobs.exchange import BlobService
from .unwrap import single_leaf
from .wire.discovery import Discovery
from .wire.gossip import Gossip
from .wire.host import Host, open_host
from .wire.host_build import HostConfig
from .wire.reconcile import Reconciler
from .wire.rpc import Rpc


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """A peer's place: its key, where it listens and what it announces instead, whom it starts from, which
    deployment."""

    key: PeerKey
    domain: Domain
    now_ms: Callable[[], int]
    listen: tuple[str, ...] = ("/ip4/127.0.0.1/tcp/0",)
    announce: tuple[str, ...] = ()
    bootstrap: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Network:
    """The open services."""

    host: Host
    rpc: Rpc
    gossip: Gossip
    discovery: Discovery
    blobs: BlobService


@asynccontextmanager
async def open_network(config: NetworkConfig, store: BlobStore) -> AsyncIterator[Network]:
    """The services of one peer until the block ends; `discovery.join()` finds the others.

    Raises ConfigError.
    """
    from .wire.host_dht import open_dht  # half of libp2p: not for who only parses a command line
    from .wire.host_pubsub import open_pubsub

    host_config = HostConfig(config.key.seed, config.listen, config.announce)
    with single_leaf():
        async with AsyncExitStack() as stack:
            host = await stack.enter_async_context(open_host(host_config, listening=False))
            pubsub = await stack.enter_async_context(open_pubsub(host))
            dht = await stack.enter_async_context(open_dht(host))
            rpc = Rpc(host)
            gossip = Gossip(pubsub, config.key, config.domain, config.now_ms)
            reconciler = Reconciler(rpc, gossip, config.now_ms)
            discovery = Discovery(host, dht, gossip, reconciler, config.bootstrap)
            blobs = BlobService(host, store)
            await host.listen()
            await gossip.join()
            nursery = await stack.enter_async_context(trio.open_nursery())
            nursery.start_soon(discovery.run)
            try:
                yield Network(host, rpc, gossip, discovery, blobs)
            finally:
                await host.stop_listening()
                await host.sever()
                nursery.cancel_scope.cancel()
