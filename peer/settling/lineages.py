"""Who contributed to adapters, by the Registry's records and the published manifests behind them.

Rules of this file: the Registry names, the manifests list, and a list counts only where it has the root that
was registered. What was read once is remembered, as records and manifests do not change; manifests themselves
are not kept.
"""

from __future__ import annotations

from dataclasses import replace

from ...contracts.client.chain import ChainClient
from ...contracts.client.registrations import RegisteredDatanet
from ...protocol.content.lineage import Lineage
from ...protocol.content.manifests import DatanetManifest, Shard
from ...protocol.content.rows import contributors_root
from ...protocol.encoding.codec import decode
from ...protocol.errors import NotFound, ProtocolError, RemoteProtocolError, Unreachable
from ...protocol.ids import CHUNK_SIZE, RAW, Address, cid_of_digest
from ...protocol.settlement.commitments import EpochTrees
from ...protocol.settlement.epoch_leaves import NO_POOL, ROLES
from ...protocol.settlement.frauds import LaneFacts, RawManifest
from .claiming import FetchTrees, on_chain

_CONTRIBUTOR = ROLES.index("contributor")


class Lineages:
    """Lineages and manifests for judging lanes. `fetch` as the watchtower's."""

    def __init__(self, client: ChainClient, fetch: FetchTrees) -> None:
        self._client = client
        self._fetch = fetch
        self._authors: dict[bytes, Address] = {}
        self._contributors: dict[bytes, tuple[Address, ...]] = {}

    async def complete(self, facts: LaneFacts, current: EpochTrees) -> tuple[LaneFacts, list[str]]:
        """The facts with the lineages that judging these trees needs, and the manifests of adapters whose
        author they name otherwise; and what of that cannot be had and why. Raises Unreachable, ChainError
        where the chain does not answer.
        """
        missing: list[str] = []
        adapters, manifests = dict(facts.adapters), dict(facts.manifests)
        for adapter, author in sorted({(line.adapter, line.author) for line in current.lines}):
            try:
                if adapter != NO_POOL and await self._author(facts.lane, adapter) != author:
                    manifests[adapter] = await self._manifest(facts.lane, adapter)
            except (NotFound, Unreachable, ProtocolError) as error:
                missing.append(f"the author of an adapter is not judged: {error}")
        for pool in sorted({each.pool for each in current.pool_credits if each.role == _CONTRIBUTOR}):
            if pool not in adapters:
                continue  # unregistered: its lineage binds nobody
            try:
                lineage = await self.of(facts.lane, pool)
            except (NotFound, Unreachable, ProtocolError) as error:
                missing.append(f"the contributors of an adapter are not judged: {error}")
            else:
                adapters[pool] = replace(adapters[pool], lineage=lineage)
        return replace(facts, adapters=adapters, manifests=manifests), missing

    async def of(self, lane: Address, pool: bytes) -> Lineage:
        """A registered adapter's lineage with its contributors; `lane` is whose peers are asked first.

        Raises NotFound, Unreachable, ProtocolError where the lists behind the records cannot be had.
        """
        lineage = Lineage(await on_chain(self._client.registrations.ancestry, pool))
        registered = await on_chain(self._client.registrations.datanets)
        for datanet in lineage.datanets:
            if datanet not in self._contributors:
                self._contributors[datanet] = await self._listed(lane, registered[datanet])
        return replace(lineage, contributors={each: self._contributors[each] for each in lineage.datanets})

    async def _author(self, lane: Address, adapter: bytes) -> Address:
        if adapter not in self._authors:
            self._authors[adapter] = (await self._manifest(lane, adapter)).author_payee
        return self._authors[adapter]

    async def _manifest(self, lane: Address, adapter: bytes) -> RawManifest:
        return RawManifest(await self._fetch(lane, cid_of_digest(adapter, RAW)))

    async def _listed(self, lane: Address, known: RegisteredDatanet) -> tuple[Address, ...]:
        """The contributors of a Datanet version, from its manifest and shards."""
        raw = await self._fetch(lane, cid_of_digest(known.entry.manifest, RAW))
        manifest = decode(DatanetManifest, raw, CHUNK_SIZE)
        shards = [decode(Shard, await self._fetch(lane, shard), CHUNK_SIZE) for shard in manifest.shards]
        payees = sorted({shard.header.payee for shard in shards})
        if contributors_root(payees) != known.entry.contributors_root:
            raise RemoteProtocolError(
                f"Datanet {known.name!r} is registered with other contributors than its shards name"
            )
        return tuple(payees)
