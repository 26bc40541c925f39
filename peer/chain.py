"""The chain as a node sees it: its deployment's domain, its time, and a client when there is an endpoint.

Rules of this file: a node starts and serves without the chain; the last offset of the chain's clock is kept
in the store.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from ..contracts.deploying.deployment import Deployment
from ..protocol.content.splits import SPLIT_BOUNDS, SplitBounds
from ..protocol.errors import ChainError, ConfigError, MissingDependency, Unreachable
from ..protocol.ids import ZERO_ADDRESS
from ..protocol.signing.eip712 import Domain
from .clock import ChainClock, Clock
from .config import Config
from .identity.keystore import Keys
from .settling.crediting import NetworkAccounts
from .store.node_store import Settings

if TYPE_CHECKING:
    from ..contracts.client.chain import ChainClient

log = logging.getLogger("commonlore.peer.chain")
CLOCK_INTERVAL_S = 15.0
CLOCK_RETRY_S = 2.0
DEPLOYMENT = "deployment"
OFFSET_KEPT_MS = 2_000
"""By how much the offset of the chain's clock must have changed to be written down again."""
DAY_S = 86_400
OFFLINE = Domain(0, ZERO_ADDRESS)


@dataclass(slots=True)
class ChainLink:
    """The chain part of a node. `client` is None without an endpoint, `deployment` without a chain at all."""

    deployment: Deployment | None
    client: ChainClient | None
    clock: ChainClock
    settings: Settings
    split_bounds: SplitBounds = SPLIT_BOUNDS
    """The network's: what its Registry says, from the first time that the chain answers."""
    _is_read: bool = False
    _kept_offset_ms: int = 0

    @property
    def domain(self) -> Domain:
        """The EIP-712 domain of the network; without a chain receipts are signed and kept, and nothing can be
        settled.
        """
        return self.deployment.domain if self.deployment else OFFLINE

    @property
    def accounts(self) -> NetworkAccounts:
        """Where the platform's and the work pool's shares go."""
        if self.deployment is None:
            return NetworkAccounts(ZERO_ADDRESS, ZERO_ADDRESS)
        return NetworkAccounts(self.deployment.platform, self.deployment.work_pool)

    async def observe(self) -> None:
        """Read the chain's time, and at first what never changes. Raises Unreachable, ChainError."""
        if self.client is None:
            return
        self.clock.observe(await trio.to_thread.run_sync(self.client.chain_time, abandon_on_cancel=True))
        await self._keep_offset()
        if not self._is_read:
            read = self.client.registry.split_bounds
            self.split_bounds = await trio.to_thread.run_sync(read, abandon_on_cancel=True)
            self._is_read = True

    async def recall(self) -> None:
        """Go by the offset of the chain's clock that was seen last, in an earlier run too."""
        kept = await self.settings.get(self._offset_name)
        if kept is not None:
            self.clock.offset_ms = self._kept_offset_ms = int.from_bytes(kept, "big", signed=True)

    async def _keep_offset(self) -> None:
        if abs(self.clock.offset_ms - self._kept_offset_ms) > OFFSET_KEPT_MS:
            self._kept_offset_ms = self.clock.offset_ms
            await self.settings.put(self._offset_name, self._kept_offset_ms.to_bytes(8, "big", signed=True))

    @property
    def _offset_name(self) -> str:
        return f"chain_clock_offset_ms/{self.domain.separator.hex()}"

    async def run(self) -> None:
        """Keep the chain's clock; without an answer, the last offset stands."""
        while self.client is not None:
            try:
                await self.observe()
            except (Unreachable, ChainError) as error:
                log.warning("the chain does not answer: %s", error)
                await trio.sleep(CLOCK_RETRY_S)
            else:
                await trio.sleep(CLOCK_INTERVAL_S)


@asynccontextmanager
async def open_chain(
    config: Config, keys: Keys, settings: Settings, clock: Clock
) -> AsyncIterator[ChainLink]:
    """The node's link to its chain.

    Raises ConfigError on an unusable deployment, MissingDependency without web3.
    """
    deployment = load_deployment(config.deployment)
    await _remember(settings, deployment)
    genesis, length = (deployment.genesis, deployment.epoch_length) if deployment else (0, DAY_S)
    link = ChainLink(deployment, None, ChainClock(clock, genesis, length), settings)
    if not config.chain_url:
        yield link
        return
    if deployment is None:
        raise ConfigError("chain_url is set but deployment is not; give the deployment JSON of this network")
    link.client = _client(config, deployment, keys)
    await link.recall()
    try:
        with trio.move_on_after(CLOCK_RETRY_S):
            await _first_look(link)
        yield link
    finally:
        link.client.close()


async def _remember(settings: Settings, deployment: Deployment | None) -> None:
    """The last network of this home: what its receipts are signed for, also when no flag says so."""
    if deployment is None:
        return
    text = json.dumps(deployment.to_dict(), sort_keys=True).encode()
    if await settings.get(DEPLOYMENT) != text:
        await settings.put(DEPLOYMENT, text)


async def last_deployment(settings: Settings) -> Deployment | None:
    """The network that a node of this home was last in; None where it was in none with a chain."""
    kept = await settings.get(DEPLOYMENT)
    return None if kept is None else Deployment.from_dict(json.loads(kept))


async def _first_look(link: ChainLink) -> None:
    try:
        await link.observe()
    except (Unreachable, ChainError) as error:
        log.warning("the chain does not answer (%s); going on by its last known time", error)


def _client(config: Config, deployment: Deployment, keys: Keys) -> ChainClient:
    try:
        from ..contracts.calling.transactions import Sending
        from ..contracts.client.chain import ChainClient
    except ImportError as error:
        raise MissingDependency("settling needs web3: pip install 'commonlore[settle]'") from error
    sending = Sending(max_fee_wei=config.max_gas_gwei * 10**9)
    return ChainClient(config.chain_url, deployment, keys.owner.secret, sending=sending)


def load_deployment(text: str) -> Deployment | None:
    """The deployment that a setting names: JSON text, or the path of a file with it. Raises ConfigError."""
    if not text:
        return None
    if text.lstrip().startswith("{"):
        try:
            return Deployment.from_dict(json.loads(text))
        except ValueError as error:
            raise ConfigError(f"deployment is not JSON: {error}") from None
    return Deployment.load(Path(text))
