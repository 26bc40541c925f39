"""Peers in this process: hosts on loopback, networks, a clock."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

if TYPE_CHECKING:
    from commonlore.peer.network import Network
    from commonlore.peer.wire.host import Host


@asynccontextmanager
async def open_hosts(count: int, connected: bool = True) -> AsyncIterator[list["Host"]]:
    """Hosts on loopback with fixed keys; unless told otherwise the first is connected to every other."""
    from commonlore.peer.wire.host import open_host  # libp2p takes half a second: only where it is needed
    from commonlore.peer.wire.host_build import HostConfig

    async with AsyncExitStack() as stack:
        hosts = [
            await stack.enter_async_context(open_host(HostConfig(bytes([n + 1]) * 32))) for n in range(count)
        ]
        for host in hosts[1:] if connected else []:
            await host.connect(hosts[0].addresses[0])
        yield hosts


class Clock:
    """Unix milliseconds that only tests move."""

    def __init__(self) -> None:
        self.ms = 1_900_000_000_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def networks(tmp_path: Path, clock: Clock) -> Callable[..., AbstractAsyncContextManager["Network"]]:
    """Opens the network services of peer `n`, starting from networks or addresses; not yet joined."""
    from commonlore.peer.blobs.blob_store import BlobStore
    from commonlore.peer.network import NetworkConfig, open_network
    from commonlore.protocol.ids import Address
    from commonlore.protocol.signing.eip712 import Domain
    from commonlore.protocol.signing.keys import PeerKey

    def open_one(
        n: int, *bootstrap: "Network | str", chain: int = 1, **more: Any
    ) -> AbstractAsyncContextManager["Network"]:
        config = NetworkConfig(
            PeerKey.generate(bytes([n + 1]) * 32),
            Domain(chain, Address(bytes(20))),
            clock,
            bootstrap=tuple(b if isinstance(b, str) else b.host.addresses[0] for b in bootstrap),
            **more,
        )
        return open_network(config, BlobStore(tmp_path / f"store{n}", 1 << 30))

    return open_one


async def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Return once `condition()` holds; TooSlowError when it never does."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - conditions of libp2p raise no event
            await trio.sleep(0.005)


@pytest.fixture
def hosts() -> Callable[..., AbstractAsyncContextManager[list["Host"]]]:
    return open_hosts


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    return wait_until


class DatanetShelf:
    """Content in memory, and Datanets made of it; contributors are single letters, which make their keys."""

    def __init__(self) -> None:
        from commonlore.peer.catalog import Catalog
        from commonlore.protocol.signing.eip712 import Domain

        self.kept: dict[Any, bytes] = {}
        self.pinned: set[Any] = set()
        self.domain = Domain(0, bytes(20))
        self.catalog = Catalog(self.get)

    async def put(self, data: bytes) -> Any:
        from commonlore.protocol.content.blob_names import describe_blob

        cid = describe_blob([data])[0]
        self.kept[cid] = data
        return cid

    async def get(self, cid: Any, _most: int = 0) -> bytes:
        from commonlore.protocol.errors import NotFound

        if cid not in self.kept:
            raise NotFound(f"no content {cid}")
        return self.kept[cid]

    def has(self, cid: Any) -> bool:
        return cid in self.kept

    def is_pinned(self, cid: Any) -> bool:
        return cid in self.pinned

    async def starting_with(self, beginning: bytes) -> tuple[Any, ...]:
        return tuple(cid for cid, data in self.kept.items() if data.startswith(beginning))

    def forget(self, cid: Any) -> None:
        self.kept.pop(cid, None)

    async def contribute(self, name: str, *pairs: tuple[str, str]) -> Any:
        """A shard of the Datanet `codes`, (id, shard); without pairs of one row of its own."""
        from commonlore.peer.datanets.shards import Contribution, publish_shard
        from commonlore.peer.identity.keystore import Identity
        from commonlore.protocol.content.manifests import Row
        from commonlore.protocol.signing.keys import AccountKey, PeerKey

        secret = name.encode() * 32
        identity = Identity(name, PeerKey.generate(secret), AccountKey.from_secret(secret))
        pairs = pairs or ((f"question of {name}", f"answer of {name}"),)
        rows = tuple(Row(q, a, secret[:31] + bytes([n])) for n, (q, a) in enumerate(pairs))
        given = Contribution(identity, rows, "CC0-1.0", "here")
        return await publish_shard(self, self.domain, "codes", given)  # type: ignore[arg-type]

    async def publish(self, shards: Any, previous: Any = None) -> Any:
        """A version of it, (id, manifest)."""
        from commonlore.peer.datanets.shards import DatanetPlan, publish_datanet
        from commonlore.protocol.signing.keys import PeerKey

        plan = DatanetPlan("codes", "", "questions", "CC0-1.0")
        return await publish_datanet(self, PeerKey.generate(b"c" * 32), plan, shards, previous)  # type: ignore[arg-type]


@pytest.fixture
def shelf() -> DatanetShelf:
    return DatanetShelf()
