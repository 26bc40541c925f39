"""A home in which no node runs: its receipts, and the names that it has heard, read from its store.

Rules of this file: nothing is changed, nobody is asked but the chain, and a node may start meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import trio

from ..contracts.client.chain import ChainClient
from ..contracts.deploying.deployment import Deployment
from ..protocol.errors import ConfigError, NotFound
from ..protocol.ids import ZERO_ADDRESS, Address, Cid
from ..protocol.signing.eip712 import Domain
from .actions import CHAIN_PATIENCE_S, names_of
from .aio import open_aio
from .attribution.evidence import Sources
from .attribution.known_differences import known_differences
from .attribution.second_draw import facts_of
from .attribution.statements import KnownStatements
from .catalog import Catalog
from .chain import OFFLINE, last_deployment, load_deployment
from .clock import Clock, WallClock
from .config import Config
from .datanets.withdrawing import known_withdrawn
from .gateway.receipts import Receipts
from .home import Home
from .identity.keystore import Keystore
from .settling.beacons import registered_beacon
from .settling.committed_indexes import standing_of
from .settling.crediting import NetworkAccounts
from .settling.receipt_progress import progress_within
from .store.ledger_rows import StoredReceipt
from .store.node_store import Store, open_store

T = TypeVar("T")


class LocalContent:
    """The blobs in a folder, read and never tidied: a node may be at work there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "content"

    async def get(self, cid: Cid, max_bytes: int) -> bytes:
        """The content. Raises NotFound where it is not here."""
        path = await self.path(cid, max_bytes)
        return await trio.to_thread.run_sync(path.read_bytes)

    async def path(self, cid: Cid, max_size: int) -> Path:
        """The file with it. Raises NotFound where it is not here."""
        path = self._folder / cid
        if not self.has(cid) or path.stat().st_size > max_size:
            raise NotFound(f"{cid} is not on this machine; ask again while a node runs")
        return path

    def has(self, cid: Cid) -> bool:
        """Whether it is here."""
        return (self._folder / cid).is_file()


@dataclass(frozen=True, slots=True)
class ClosedHome:
    """What a home knows. A source of receipts, and what is known beyond them."""

    home: Home
    store: Store
    domain: Domain
    catalog: Catalog
    content: LocalContent
    statements: KnownStatements
    chain: ChainClient | None
    clock: Clock = field(default_factory=WallClock)

    async def progress(self, receipts: Sequence[StoredReceipt]) -> Mapping[int, str]:
        """How far receipts have come on the configured chain; nothing while it does not answer."""
        return await progress_within(CHAIN_PATIENCE_S, self.chain, receipts)

    async def accounts(self) -> Mapping[Address, str]:
        """The accounts of this home, with a name for people."""
        return await trio.to_thread.run_sync(_names, Keystore(self.home.keys))


@asynccontextmanager
async def open_closed_home(home: Home, config: Config) -> AsyncIterator[ClosedHome]:
    """Read a home. Raises NotFound where no node has run in it."""
    if not home.store.exists():
        raise NotFound(f"no node has run in {home.path} yet; ask something: commonlore ask QUESTION")
    async with open_aio() as aio, open_store(home.store, aio) as store:
        deployment = load_deployment(config.deployment) or await last_deployment(store.settings)
        content = LocalContent(home.blobs)
        catalog = Catalog(content.get)
        for sealed in await store.records.all():
            catalog.learn(sealed)
        catalog.withdrawn |= await known_withdrawn(store.settings)
        statements = KnownStatements(store.records, store.ledger, catalog, _accounts(deployment))
        domain = deployment.domain if deployment else OFFLINE
        chain = _chain(config, deployment)
        try:
            yield ClosedHome(home, store, domain, catalog, content, statements, chain)
        finally:
            if chain is not None:
                chain.close()


def read_closed_home(home: Home, config: Config, read: Callable[[ClosedHome], Awaitable[T]]) -> T:
    """What `read` makes of a home in which no node runs; not for use within a running loop."""

    async def work() -> T:
        async with open_closed_home(home, config) as closed:
            return await read(closed)

    return trio.run(work)


def _names(keystore: Keystore) -> Mapping[Address, str]:
    """Without the passphrase, the names of the identities alone."""
    try:
        return names_of(keystore.own().owner.address, keystore)
    except ConfigError:
        return {identity.payee: identity.name for identity in keystore.identities()}


def sources_of(closed: ClosedHome) -> Sources:
    """Where a check of its receipts reads."""
    return Sources(
        domain=closed.domain,
        ledger=closed.store.ledger,
        records=closed.store.records,
        catalog=closed.catalog,
        content=closed.content,
        credits=closed.statements.credits_of,
        beacon=lambda manifest: registered_beacon(closed.domain, closed.chain, manifest),
        standing=lambda manifest, index: standing_of(closed.domain, closed.chain, manifest, index),
        draws=lambda receipt, listed: facts_of(closed.chain, receipt, listed),
        differences=lambda: known_differences(closed.store.settings),
        now_ms=closed.clock.now_ms,
    )


def receipts_of(closed: ClosedHome) -> Receipts:
    """Its receipts, to look at."""
    return Receipts(closed, closed)


def _accounts(deployment: Deployment | None) -> NetworkAccounts:
    if deployment is None:
        return NetworkAccounts(ZERO_ADDRESS, ZERO_ADDRESS)
    return NetworkAccounts(deployment.platform, deployment.work_pool)


def _chain(config: Config, deployment: Deployment | None) -> ChainClient | None:
    """Where how far receipts have come can be read; short of patience, since it is only looked at."""
    if not config.chain_url or deployment is None:
        return None
    return ChainClient(config.chain_url, deployment, patience_s=CHAIN_PATIENCE_S)
