"""Every peer ends and starts again. The last file of this folder: who joins soon afterwards does not meet as
many peers as other files count on."""

from __future__ import annotations

from typing import Any

from commonlore.peer.store.ledger_rows import Role
from commonlore.protocol.requests.records import Sampling

DEPOSIT = 10_000_000
SHORT = Sampling(seed=5, max_tokens=12, temperature_ppm=700_000)


async def test_everybody_restarts_with_what_they_had(town: Any, ask: Any, adapter: str) -> None:
    town.deposit("walter", DEPOSIT)
    async with town.client("walter") as walter:
        before = await ask(walter, adapter, sampling=SHORT)
    town.network.stop_peers()
    for name in ("bootstrap", "worker-1", "worker-2", "contributor"):
        town.network.start_peer(name).wait_ready()
    async with town.client("walter") as walter:
        after = await ask(walter, adapter, sampling=SHORT)
        assert after.transcript.text == before.transcript.text
        seqs = {channel.lane: channel.seq for channel in await walter.node.store.ledger.channels(Role.CLIENT)}
        last = after.transcript.receipts[-1].receipt
        assert seqs[last.lane] == last.seq


async def test_a_newcomer_is_told_who_has_what_no_worker_has(town: Any, until: Any, adapter: str) -> None:
    """A Datanet's rows are on no worker: their author says so again after each start."""
    author = town.network.peers["contributor"].ready.peer_id
    async with town.client("nora") as nora:
        catalog, discovery = nora.node.catalog, nora.node.discovery
        await until(lambda: "numbers" in {record.name for record in catalog.datanets()})
        datanet = catalog.datanet_record("numbers").datanet

        async def named() -> bool:
            return author in await discovery.providers(datanet)

        await until(named)
