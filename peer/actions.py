"""What a person may order a running peer to do; behind the control API, the command line and the demo."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import asdict
from typing import Any

import trio

from ..contracts.client.chain import ChainClient
from ..protocol.attribution.faithfulness import Faithfulness
from ..protocol.content.manifests import Row
from ..protocol.errors import ChainError, ConfigError, NotFound, Unreachable
from ..protocol.gossip.adverts import DatanetRecord
from ..protocol.ids import Address, Cid, checksummed
from .attribution.evidence import Evidence, Sources, gather
from .attribution.faithfulness import Said, announce, read_measured
from .attribution.second_draw import facts_of
from .datanets.shards import Contribution, DatanetPlan, publish_datanet, publish_shard, record_of
from .datanets.takedown import withdraw
from .gateway.node import MergeOrder, RowsDraft, TrainOrder
from .identity.keystore import Keystore
from .node import Node
from .settling.beacons import registered_beacon
from .settling.claiming import Claimer
from .settling.committed_indexes import standing_of
from .settling.depositing import deposit, purse_of
from .settling.receipt_progress import progress_within
from .settling.settle_plan import SettleReport
from .store.ledger_rows import StoredReceipt

CHAIN_PATIENCE_S = 3.0
"""How long somebody who asks how the node is doing waits for what only the chain knows."""
MAX_TREES_BYTES = 64 * 1024 * 1024


class Actions:
    """The orders that one node takes."""

    def __init__(self, node: Node, keystore: Keystore) -> None:
        self._node = node
        self._keystore = keystore

    async def status(self) -> Mapping[str, Any]:
        """How this peer is doing, as plain values."""
        node = self._node
        return {
            "peer_id": node.host.peer_id,
            "addresses": list(node.host.addresses),
            "roles": list(node.config.roles),
            "owner": checksummed(node.keys.owner.address),
            "session": checksummed(node.keys.session.address),
            "connected": sorted(node.host.connected()),
            "workers": [_offer(offer.peer, offer.ad) for offer in node.asker.offers()],
            "adapters": [record.alias for record in node.catalog.adapters()],
            "datanets": [record.name for record in node.catalog.datanets()],
            "retrieval": node.retriever.described,
            "chain": None if node.chain.client is None else node.config.chain_url,
            "epoch": node.chain.clock.epoch(),
            "purse": await self._purse(),
            "worker": await self._worker(),
            "settlement": None if node.settler is None else asdict(node.settler.status),
            "registering": None if node.registrar is None else asdict(node.registrar.status),
            "checking": None if node.checker is None else asdict(node.checker.status),
            "watching": None if node.watchman is None else asdict(node.watchman.status),
        }

    async def _purse(self) -> Mapping[str, int] | None:
        """What the owner has; None without a chain, or while it does not answer."""
        client = self._node.chain.client
        purse = None
        if client is not None:
            with trio.move_on_after(CHAIN_PATIENCE_S), suppress(ChainError, Unreachable):
                purse = await purse_of(client, self._node.keys.owner.address)
        return purse

    async def _worker(self) -> Mapping[str, Any] | None:
        role = self._node.worker
        if role is None:
            return None
        stats = await role.engine.stats()
        return {
            "base": role.engine.facts.base,
            "name": role.engine.facts.name,
            "precision": role.engine.facts.precision,
            "resident": [entry.adapter for entry in stats.resident],
            "queued": stats.queued,
            "running": stats.running,
            "held": stats.held,
            "free_pages": stats.free_pages,
            "adapter_bytes": stats.adapter_bytes,
            "slot_bytes": stats.slot_bytes,
            "spare_bytes": stats.spare_bytes,
            "restarts": role.engine.restarts,
            "fetches": [asdict(fetch) for fetch in role.fetches],
        }

    async def gather(self, stored: StoredReceipt, level: int) -> Mapping[str, Any]:
        """Fetch what a check of a receipt up to `level` reads, so that it can be carried out on this machine.

        Raises NotFound, Unreachable, ProtocolError, InvalidAdapter.
        """
        parts = await gather_here(self._node, stored, level)
        adapters = [evidence.adapter for evidence in parts if evidence.adapter is not None]
        return {"level": level, "adapters": adapters}

    async def gather_faithfulness(self, name: str) -> Mapping[str, Any]:
        """Fetch what measuring an adapter's faithfulness reads. Raises as `faithfulness.read_measured`."""
        measured = await read_measured(self._node, name)
        return {"indexed": len(measured.indexed), "others": len(measured.others)}

    async def announce_faithfulness(self, found: Faithfulness) -> Said:
        """Announce a measurement, of this peer's own adapter or of another's. Raises as
        `faithfulness.announce`."""
        return await announce(self._node, found)

    # ---- Datanets and adapters

    async def publish_datanet(self, plan: DatanetPlan, drafts: Sequence[RowsDraft]) -> DatanetRecord:
        """Salt, sign and publish rows as the next version of a Datanet. Raises InvalidShard, NotFound."""
        node = self._node
        shards = []
        for draft in drafts:
            identity = await trio.to_thread.run_sync(self._keystore.identity, draft.contributor)
            rows = tuple(Row(pair.question, pair.answer, secrets.token_bytes(32)) for pair in draft.rows)
            contribution = Contribution(identity, rows, draft.licence, draft.origin, draft.notice)
            shards.append(await publish_shard(node.content, node.domain, plan.name, contribution))
        previous = None
        try:
            known = node.catalog.datanet_record(plan.name)
            previous = (known.datanet, await node.catalog.datanet(known.datanet))
        except NotFound:
            pass  # the first version
        datanet, manifest = await publish_datanet(node.content, node.keys.peer, plan, shards, previous)
        record = record_of(datanet, manifest, await node.next_seq(), node.clock.now_ms())
        await node.announce(record)
        return record

    async def withdraw(self, datanet: str, contributor: str, reason: str) -> Mapping[str, Any]:
        """Take a contributor's shards of a Datanet back; where this peer curates it, a version without them
        is published. Raises NotFound, ConfigError, Unreachable, ProtocolError.
        """
        identity = await trio.to_thread.run_sync(self._keystore.identity, contributor)
        return await withdraw(self._node, datanet, identity.peer, reason)

    def train(self, order: TrainOrder) -> AbstractAsyncContextManager[AsyncIterator[object]]:
        """Train, index and publish an adapter; the last update tells what was published. Leaving the block
        stops the training; ordered again, it goes on.
        """
        from .training.pipeline import open_training

        return open_training(self._node, order)

    def merge(self, order: MergeOrder) -> AbstractAsyncContextManager[AsyncIterator[object]]:
        """Merge adapters into one and publish it; the last update tells what was published. Leaving the block
        stops it.
        """
        from .training.merging import open_merging

        return open_merging(self._node, order)

    # ---- money

    async def settle_once(self) -> SettleReport:
        """One round of settlement. Raises ConfigError without a settler, Unreachable, ChainError."""
        await self._node.chain.observe()
        if self._node.settler is None:
            raise ConfigError(
                "this peer settles no lane: it needs the role worker, and chain_url and deployment"
            )
        return await self._node.settler.settle_once()

    async def claim(self) -> list[Mapping[str, Any]]:
        """Claim what this home's accounts have earned in the lanes of known workers.

        Raises ConfigError, ChainError.
        """
        client = self._client()
        claimer = Claimer(client, self._node.store.epochs, self._node.clock)
        accounts = await self.accounts()
        paid: list[Mapping[str, Any]] = []
        for lane in sorted({offer.ad.binding.binding.session_key for offer in self._node.asker.offers()}):
            for claim in await claimer.claim_published(lane, accounts.keys(), self._fetch_trees):
                paid.append(
                    {
                        "name": accounts[claim.account],
                        "account": checksummed(claim.account),
                        "lane": checksummed(lane),
                        "amount": claim.amount,
                    }
                )
        return paid

    async def accounts(self) -> Mapping[Address, str]:
        """Every account of this home that can earn, with a name for people."""
        return await trio.to_thread.run_sync(names_of, self._node.keys.owner.address, self._keystore)

    async def progress(self, receipts: Sequence[StoredReceipt]) -> Mapping[int, str]:
        """How far receipts have come on the chain; nothing while it does not answer."""
        return await progress_within(CHAIN_PATIENCE_S, self._node.chain.client, receipts)

    async def _fetch_trees(self, _lane: Address, cid: Cid) -> bytes:
        return await self._node.content.get(cid, MAX_TREES_BYTES)

    async def deposit(self, amount: int) -> Mapping[str, Any]:
        """Bind this home's session key and move token units into its escrow.

        Raises ConfigError, ChainError.
        """
        return await deposit(self._client(), self._node.binding.current(), amount)

    def _client(self) -> ChainClient:
        client = self._node.chain.client
        if client is None:
            raise ConfigError("this needs the chain: set chain_url and deployment")
        return client


async def gather_here(node: Node, stored: StoredReceipt, level: int) -> tuple[Evidence, ...]:
    """What a check of a receipt up to `level` reads, from wherever it is. Raises as `evidence.gather`."""
    await node.statements.credits(stored.receipt_id)  # asks the worker for its statement
    sources = Sources(
        domain=node.domain,
        ledger=node.store.ledger,
        records=node.store.records,
        catalog=node.catalog,
        content=node.content,
        credits=node.statements.known.credits_of,
        beacon=lambda manifest: registered_beacon(node.domain, node.chain.client, manifest),
        standing=lambda manifest, index: standing_of(node.domain, node.chain.client, manifest, index),
        draws=lambda receipt, listed: facts_of(node.chain.client, receipt, listed),
        differences=node.differences.known,
        now_ms=node.clock.now_ms,
    )
    return await gather(sources, stored, level)


def names_of(owner: Address, keystore: Keystore) -> dict[Address, str]:
    """The accounts of a home, by what people call them."""
    return {owner: "own"} | {identity.payee: identity.name for identity in keystore.identities()}


def _offer(peer: str, ad: Any) -> Mapping[str, Any]:
    return {
        "peer": peer,
        "lane": checksummed(ad.binding.binding.session_key),
        "base": ad.base,
        "resident": list(ad.resident),
        "queue_depth": ad.queue_depth,
        "running": ad.running,
        "rates": [ad.rates.prompt_per_1000, ad.rates.output_per_1000, ad.rates.request_fee],
    }
