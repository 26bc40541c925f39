"""The number that seeds an adapter's projection: the hash of the block in which the adapter was registered.

Rules of this file: nobody knew the hash before the adapter's id was fixed, and an adapter is registered once,
so its author has one, and no choice. A block's hash can be steered a little by who makes blocks. Where a
network has no chain there is no beacon, which is None; an adapter that is not registered has the empty one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from ...contracts.client.registering import adapter_record_id
from ...protocol.content.manifests import AdapterManifest
from ...protocol.encoding.codec import record_cid
from ...protocol.errors import CommonloreError, NotFound
from ...protocol.signing.eip712 import Domain
from ..chain import OFFLINE
from .claiming import on_chain

if TYPE_CHECKING:
    from ...contracts.client.chain import ChainClient
    from .registering import Registrar

log = logging.getLogger("commonlore.peer.settling.beacons")
PATIENCE_S = 180.0
"""How long an adapter's registration may take: what it learnt from may have to be registered first."""
INTERVAL_S = 2.0


async def registered_beacon(
    domain: Domain, client: ChainClient | None, manifest: AdapterManifest
) -> bytes | None:
    """An adapter's beacon. Raises NotFound where this peer has no endpoint of its network's chain,
    Unreachable, ChainError."""
    if domain == OFFLINE:
        return None
    if client is None:
        raise NotFound("whether an index's beacon is its adapter's the chain tells: set chain_url")
    record = adapter_record_id(manifest.author_payee, record_cid(manifest))
    return await on_chain(client.registrations.beacon_of, record)


async def own_beacon(
    domain: Domain, client: ChainClient | None, registrar: Registrar | None, manifest: AdapterManifest
) -> bytes | None:
    """The beacon of an adapter of this peer's, which is registered for it. Raises NotFound where that does
    not succeed in time, and why."""
    if domain == OFFLINE:
        return None
    if client is None or registrar is None:
        raise NotFound(f"the adapter {manifest.name!r} is not registered: this peer has no endpoint")
    until, reason = trio.current_time() + PATIENCE_S, "the chain does not show it"
    while True:
        try:
            await registrar.register(record_cid(manifest))
            if found := await registered_beacon(domain, client, manifest):
                return found
        except CommonloreError as error:
            reason = str(error)
            log.info("the adapter %s is not registered yet: %s", manifest.name, reason)
        if trio.current_time() >= until:
            raise NotFound(f"the adapter {manifest.name!r} is not registered on the chain: {reason}")
        await trio.sleep(INTERVAL_S)
