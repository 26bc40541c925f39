"""From adapters to a merged one: resolve, fetch, merge, describe, announce.

Rules of this file: what does not go together is refused before anything is fetched; the merge happens in a
folder that is gone afterwards, and nothing is stored or announced before it has succeeded.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import trio

from ...protocol.content.compositions import AdapterWeight
from ...protocol.content.manifests import AdapterManifest
from ...protocol.content.names import EXPECTED, is_alias
from ...protocol.encoding.codec import encode
from ...protocol.errors import ConfigError
from ...protocol.gossip.adverts import AdapterRecord
from ...protocol.ids import Cid, PeerId
from ...worker.factory.job import ADAPTER_FILE
from ...worker.factory.merge_job import (
    MergeJob,
    MergePart,
    MergeResult,
    check_weights,
    merged_rank,
    read_merged,
    write_merge,
)
from ...worker.factory.merge_manifest import (
    MergePublication,
    Parent,
    StoredMerge,
    common_licence,
    describe_merge,
    mixed_priors,
    union_of_datanets,
)
from ...worker.factory.process import merge
from ...worker.models.reference import BaseModel, load_base
from ..asking.chosen import common_base
from ..gateway.node import MergeOrder
from ..long_orders import Tell, open_order
from ..node import Node
from ..roles.worker import MAX_ADAPTER_BYTES, base_directory
from .splits import SPLITS
from .train_stages import TrainUpdate


@dataclass(frozen=True, slots=True)
class Merged:
    """The last update: what was announced."""

    alias: str
    adapter: Cid
    peer: PeerId
    method: str
    parts: tuple[AdapterWeight, ...]
    rank: int
    weights_bytes: int


Update = TrainUpdate | Merged


def open_merging(node: Node, order: MergeOrder) -> AbstractAsyncContextManager[AsyncIterator[Update]]:
    """Carry out an order, telling how far it is (phases fetching, loading, merging); the last update is
    `Merged`. Leaving the block stops it.

    Iterating raises NotFound, Unreachable, InvalidAdapter, InvalidModel, ConfigError, TrainingFailed.
    """
    return open_order(node.nursery, _Merging(node, order).run)


class _Merging:
    """One order."""

    def __init__(self, node: Node, order: MergeOrder) -> None:
        self._node = node
        self._order = order

    async def run(self, tell: Tell[Update]) -> None:
        order, node = self._order, self._node
        if not is_alias(order.name):
            raise ConfigError(f"adapter name {order.name!r} is not owner/name, each {EXPECTED}")
        parents = await self._parents()
        licence = order.licence or common_licence(parents)
        base = await trio.to_thread.run_sync(self._load_base, parents[0].manifest.base)
        parts = await self._fetch(parents, tell)
        with tempfile.TemporaryDirectory(prefix="merge-", dir=node.home.jobs) as made:
            folder = Path(made)
            job = MergeJob(order.name, base.directory, parts, order.plan, node.config.threads)
            result = await self._merge(folder, job, tell)
            weights = await node.content.put_file(folder / ADAPTER_FILE)
        manifest = describe_merge(
            self._publication(base, licence), parents, StoredMerge(order.plan, result, weights)
        )
        adapter = await self._announce(manifest)
        await tell(self._merged(adapter, parents, result))

    async def _parents(self) -> tuple[Parent, ...]:
        """The adapters of the order, once it is certain that they can be merged and described."""
        catalog, order = self._node.catalog, self._order
        check_weights([ppm for _, ppm in order.adapters])
        ids = await catalog.patiently(lambda: [catalog.adapter_id(name) for name, _ in order.adapters])
        if len(set(ids)) < len(ids):
            raise ConfigError("the same adapter twice; add up its weights")
        parents = [
            Parent(adapter, await catalog.payable(adapter), ppm)
            for adapter, (_, ppm) in zip(ids, order.adapters, strict=True)
        ]
        await common_base(catalog, ids)
        merged_rank(order.plan, [parent.manifest for parent in parents])
        mixed_priors(parents)
        union_of_datanets(parents)
        return tuple(parents)

    def _load_base(self, base: Cid) -> BaseModel:
        return load_base(base_directory(self._node.config.cache_dir, base))

    async def _fetch(self, parents: Sequence[Parent], tell: Tell[Update]) -> tuple[MergePart, ...]:
        parts = []
        for number, parent in enumerate(parents):
            await tell(TrainUpdate("fetching", number, len(parents)))
            manifest = parent.manifest
            limit = min(manifest.weights_size, MAX_ADAPTER_BYTES)
            path = await self._node.content.path(manifest.weights, limit)
            shape = (manifest.rank, manifest.alpha, manifest.targets)
            parts.append(MergePart(parent.adapter, path, parent.weight_ppm, *shape))
        await tell(TrainUpdate("fetching", len(parents), len(parents)))
        return tuple(parts)

    async def _merge(self, folder: Path, job: MergeJob, tell: Tell[Update]) -> MergeResult:
        await trio.to_thread.run_sync(write_merge, folder, job)
        async with merge(folder) as updates:
            async for progress in updates:
                await tell(TrainUpdate(progress.stage, progress.step, progress.steps))
        return read_merged(folder)

    def _publication(self, base: BaseModel, licence: str) -> MergePublication:
        node = self._node
        return MergePublication(
            name=self._order.name.split("/")[1],
            base_manifest=base.manifest,
            split=SPLITS[node.config.split],
            licence=licence,
            author=node.keys.peer.public,
            author_payee=node.keys.owner.address,
        )

    async def _announce(self, manifest: AdapterManifest) -> Cid:
        """Nothing was measured: an evaluation is a statement that somebody may make later."""
        node = self._node
        adapter = await node.content.put(encode(manifest))
        stamp = (await node.next_seq(), node.clock.now_ms())
        unmeasured = (None, None, 0, 0)
        await node.announce(AdapterRecord(self._order.name, adapter, manifest.base, *unmeasured, *stamp))
        return adapter

    def _merged(self, adapter: Cid, parents: Sequence[Parent], result: MergeResult) -> Merged:
        return Merged(
            alias=self._order.name,
            adapter=adapter,
            peer=self._node.host.peer_id,
            method=self._order.plan.method,
            parts=tuple(AdapterWeight(parent.adapter, parent.weight_ppm) for parent in parents),
            rank=result.rank,
            weights_bytes=result.weights_size,
        )
