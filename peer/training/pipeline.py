"""From Datanets to a published adapter: pull rows, train, index, describe, announce.

Every stage can be cut and resumed.

Rules of this file: a job's folder is named by what is ordered, so the same order goes on where it was cut;
nothing is announced before everything that it names is stored.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from ...protocol.content.manifests import AdapterManifest, IndexPlan
from ...protocol.content.names import EXPECTED, is_alias
from ...protocol.encoding.codec import encode
from ...protocol.errors import ConfigError
from ...protocol.ids import Cid, PeerId
from ...worker.attribution.measurement import Effort
from ...worker.factory.job import (
    ADAPTER_FILE,
    CURVATURE_FILE,
    EARLY_FILE,
    Pair,
    TrainJob,
    TrainProgress,
    TrainResult,
    write_job,
)
from ...worker.factory.manifests import (
    Announced,
    Publication,
    StoredRun,
    announce_adapter,
    describe_adapter,
    describe_evaluation,
)
from ...worker.factory.process import result_of, train
from ...worker.factory.selection import Selected, select_rows
from ...worker.models.reference import BaseModel, load_base
from ..attribution.index_rows import owned_shards
from ..attribution.measured import UNMEASURED, describe_faithfulness
from ..datanets.shards import PulledDatanet, pull_datanet
from ..gateway.node import TrainOrder
from ..long_orders import Tell, open_order
from ..node import Node
from ..roles.worker import base_directory
from .admitting import without_noise
from .answering_withdrawals import retrained_in
from .indexing import Indexing
from .row_roles import count_held_out, divide_rows
from .splits import SPLITS
from .train_stages import TrainUpdate

log = logging.getLogger("commonlore.peer.training")


@dataclass(frozen=True, slots=True)
class Published:
    """The last update: what was announced. Losses are nats a token of held-out answer, None where no row was
    held out.
    """

    alias: str
    adapter: Cid
    peer: PeerId
    rows: int
    indexed: int
    loss_before: float | None
    loss_after: float | None
    weights_bytes: int
    dropped: Mapping[str, int]
    """Rows that are copies of earlier ones, or noise, by kind: neither trained on nor paid."""
    cut: int = 0
    """Rows too long to be learnt whole."""
    flagged: tuple[str, ...] = ()
    """Row hashes of indexed rows that work against their own contributor's others: to be looked at."""
    faithfulness: str = UNMEASURED
    """How faithful its index is, and what divides money therefore, in words."""


def open_training(
    node: Node, order: TrainOrder
) -> AbstractAsyncContextManager[AsyncIterator[TrainUpdate | Published]]:
    """Carry out an order, telling how far it is; the last update is `Published`. Leaving the block stops it.

    Iterating raises NotFound, Unreachable, InvalidShard, ConfigError, TrainingFailed, AttributionFailed.
    """

    async def work(tell: Tell[TrainUpdate | Published]) -> None:
        await _Training(node, order, tell).run()

    return open_order(node.nursery, work)


class _Training:
    """One order."""

    def __init__(self, node: Node, order: TrainOrder, tell: Tell[TrainUpdate | Published]) -> None:
        self._node = node
        self._order = order
        self._tell = tell

    async def run(self) -> None:
        """Pull, train, store, index, announce."""
        order, node = self._order, self._node
        if not is_alias(order.name):
            raise ConfigError(f"adapter name {order.name!r} is not owner/name, each {EXPECTED}")
        base = await trio.to_thread.run_sync(self._load_base)
        pulled = await self._pull()
        selected = await trio.to_thread.run_sync(select_rows, owned_shards(pulled))
        if order.refuse_noise:
            noted = node.home.jobs / f"{self._folder_name(pulled)}-admission"
            selected = await without_noise(base.directory, noted, selected, self._tell_progress)
        trained, heldout = divide_rows(selected, order.heldout)
        folder = node.home.jobs / self._folder_name(pulled)
        pairs = tuple(Pair(owned.row.question, owned.row.answer) for owned in trained)
        result = await self._train(folder, TrainJob(base.directory, pairs, heldout, order.config))
        manifest, adapter = await self._store(folder, base, pulled, selected, result)
        effort = Effort(subsets=order.retrainings) if order.retrainings else None
        found = await Indexing(node, base.directory, folder, effort, self._tell).run(manifest, selected)
        stamp = (await node.next_seq(), node.clock.now_ms())
        evaluation = describe_evaluation(adapter, result)
        announced = Announced(adapter, found.index, evaluation, found.faithfulness)
        await node.announce(announce_adapter(order.name, manifest, announced, stamp))
        await self._tell(
            Published(
                alias=order.name,
                adapter=adapter,
                peer=node.host.peer_id,
                rows=len(trained),
                indexed=found.rows,
                loss_before=result.heldout_loss_before,
                loss_after=result.heldout_loss_after,
                weights_bytes=result.weights_size,
                dropped=selected.dropped_by_kind(),
                cut=result.cut,
                flagged=found.flagged,
                faithfulness=describe_faithfulness(found.measured) if found.measured else UNMEASURED,
            )
        )

    def _load_base(self) -> BaseModel:
        return load_base(base_directory(self._node.config.cache_dir, self._node.config.base))

    async def _pull(self) -> tuple[PulledDatanet, ...]:
        node, pulled = self._node, []
        names = self._order.datanets
        for number, name in enumerate(names):
            await self._tell(TrainUpdate("pulling", number, len(names)))
            record = await node.catalog.patiently(partial(node.catalog.datanet_record, name))
            pulled.append(await pull_datanet(node.content, node.catalog, node.domain, record.datanet))
        await self._tell(TrainUpdate("pulling", len(names), len(names)))
        return tuple(pulled)

    def _folder_name(self, pulled: Sequence[PulledDatanet]) -> str:
        ordered = [self._order.name, *(p.datanet for p in pulled), repr(self._order)]
        return "train-" + hashlib.sha256("\n".join(ordered).encode()).hexdigest()[:16]

    async def _train(self, folder: Path, job: TrainJob) -> TrainResult:
        await trio.to_thread.run_sync(write_job, folder, job)
        async with train(folder) as updates:
            async for progress in updates:
                await self._tell_progress(progress)
        return result_of(folder)

    async def _tell_progress(self, progress: TrainProgress) -> None:
        await self._tell(
            TrainUpdate(progress.stage, progress.step, progress.steps, progress.loss, progress.eta)
        )

    async def _store(
        self,
        folder: Path,
        base: BaseModel,
        pulled: Sequence[PulledDatanet],
        selected: Selected,
        result: TrainResult,
    ) -> tuple[AdapterManifest, Cid]:
        node, order = self._node, self._order
        run = StoredRun(
            config=order.config,
            result=result,
            weights=await node.content.put_file(folder / ADAPTER_FILE),
            early_checkpoint=await node.content.put_file(folder / EARLY_FILE),
            factors=await self._store_curvature(folder, result),
        )
        publication = Publication(
            name=order.name.split("/")[1],
            base=base.id,
            base_manifest=base.manifest,
            datanets=tuple(p.datanet for p in pulled),
            payees=tuple(owned.payee for owned in selected.rows),
            split=SPLITS[node.config.split],
            licence=order.licence or pulled[0].manifest.licence,
            author=node.keys.peer.public,
            author_payee=node.keys.owner.address,
            selection=await node.content.put(encode(selected.record)),
            indexed=IndexPlan(0 if order.heldout else count_held_out(len(selected.rows)), order.index_rows),
            retrained=await retrained_in(folder, node, order.name, pulled),
        )
        manifest = describe_adapter(publication, run)
        return manifest, await node.content.put(encode(manifest))

    async def _store_curvature(self, folder: Path, result: TrainResult) -> Cid | None:
        if result.curvature_sha256 is None:
            return None
        return await self._node.content.put_file(folder / CURVATURE_FILE)
