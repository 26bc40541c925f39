"""A trained adapter's index and how faithful it is: computed by one attribution process, kept and sealed.

Rules of this file: both go on where they were cut. An index that cannot be measured, or whose author does not
want to, is published all the same; its scores divide nothing until its author announces a measurement. What
was announced of the same index before stays announced.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from ...protocol.attribution.faithfulness import Faithfulness
from ...protocol.attribution.index_trees import PublishedIndex
from ...protocol.attribution.written_rows import row_parts
from ...protocol.content.manifests import AdapterManifest, Row
from ...protocol.content.rows import row_hash
from ...protocol.encoding.codec import record_cid
from ...protocol.errors import (
    AttributionFailed,
    ConfigError,
    NotFound,
    RemoteProtocolError,
    TrainingFailed,
    Unreachable,
)
from ...protocol.ids import CHUNK_SIZE, Cid, to_cid
from ...protocol.signing.envelope import seal
from ...worker.attribution.flagging import flag_rows
from ...worker.attribution.index import BuiltIndex
from ...worker.attribution.measurement import Effort, plan_measurement
from ...worker.attribution.process import AttributionConfig, AttributionProcess, open_attribution
from ...worker.attribution.subject import Subject, subject_of
from ...worker.factory.job import CURVATURE_FILE, EARLY_FILE, write_whole
from ...worker.factory.manifests import config_of
from ...worker.factory.selection import Selected
from ..attribution.faithfulness import others_of, statement_of
from ..attribution.index_evidence import MAX_INDEX_BYTES, index_of, rows_of, sums_of
from ..attribution.measured import faithfulness_of
from ..node import Node
from ..settling.beacons import own_beacon, registered_beacon
from ..settling.committed_indexes import commit_own
from .row_roles import planned_rows
from .train_stages import TrainUpdate

NOTE_FILE = "index.cid"
log = logging.getLogger("commonlore.peer.indexing")
Tell = Callable[[TrainUpdate], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Indexed:
    """What came of it: the sealed index and how many rows it holds, the sealed measurement, what it found;
    row hashes of rows that work against their own contributor's others. Nothing where there is no index."""

    index: Cid | None = None
    rows: int = 0
    faithfulness: Cid | None = None
    measured: Faithfulness | None = None
    flagged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Indexing:
    """Of one adapter, whose training is in `folder`. `effort` None: its faithfulness is not measured."""

    node: Node
    base_dir: Path
    folder: Path
    effort: Effort | None
    tell: Tell

    async def run(self, manifest: AdapterManifest, selected: Selected) -> Indexed:
        """Index the rows that the manifest plans of those selected, and measure by these. No index where the
        chain does not register the adapter, whose priors then apply. Raises AttributionFailed, InvalidModel,
        ConfigError."""
        node = self.node
        try:
            beacon = await own_beacon(node.domain, node.chain.client, node.registrar, manifest)
        except NotFound as error:
            log.warning("no index: %s; the same order again makes it", error)
            return Indexed()
        config = AttributionConfig(self.base_dir, node.home.jobs / "attribution", node.config.threads)
        async with open_attribution(config) as attribution:
            cid, built = await self._index(attribution, manifest, selected, beacon)
            every = [owned.row for owned in selected.rows]
            found = await self._measure(attribution, manifest, (cid, built), every)
        if found is None:
            sealed, found = await self._announced_before(manifest, cid)
        else:
            sealed = await node.content.put(seal(node.keys.peer, found, CHUNK_SIZE))
        published = PublishedIndex(built.manifest, built.rows, built.sums)
        await commit_own(node.chain.client, cid, published)
        await node.withdrawals.sweep()
        flagged = await trio.to_thread.run_sync(_flagged, built)
        return Indexed(cid, built.manifest.row_count, sealed, found, flagged)

    async def _announced_before(
        self, manifest: AdapterManifest, index: Cid
    ) -> tuple[Cid, Faithfulness] | tuple[None, None]:
        """What this peer announced of the same index: to train an adapter once more takes nothing back."""
        catalog, author = self.node.catalog, self.node.keys.peer.public
        record = catalog.record_of(record_cid(manifest), author)
        if record is None or record.faithfulness is None or record.index != index:
            return None, None
        try:
            found = await faithfulness_of(self.node.content, record.faithfulness, manifest)
        except (NotFound, Unreachable, RemoteProtocolError) as error:
            log.warning("%s: what was measured before is lost: %s", manifest.name, error)
            return None, None
        return record.faithfulness, found

    async def _index(
        self,
        attribution: AttributionProcess,
        manifest: AdapterManifest,
        selected: Selected,
        beacon: bytes | None,
    ) -> tuple[Cid, BuiltIndex]:
        """The index under the beacon that holds in the end, kept; and which it is."""
        node, curvature = self.node, self.folder / CURVATURE_FILE if manifest.factors is not None else None
        while True:
            subject = subject_of(manifest, self.folder / EARLY_FILE, curvature, beacon or b"")
            await attribution.load(subject)
            found = await self._recall(manifest, subject)
            if found is None:
                rows = planned_rows(selected, manifest, subject.seed)
                async with self._told("indexing", len(rows)) as progress:
                    found = await self._keep(await attribution.build_index(subject.adapter, rows, progress))
            now = await registered_beacon(node.domain, node.chain.client, manifest)
            if now == beacon:  # else the chain took that block back meanwhile
                return found
            beacon = now

    async def _keep(self, built: BuiltIndex) -> tuple[Cid, BuiltIndex]:
        content, index = self.node.content, built.manifest
        if [await content.put(blob) for blob in (built.rows, built.sums)] != [index.rows, index.sums]:
            raise ConfigError("an index was stored under another name than its manifest commits")
        cid = await content.put(seal(self.node.keys.peer, index, MAX_INDEX_BYTES))
        await trio.to_thread.run_sync(write_whole, self.folder / NOTE_FILE, cid.encode())
        return cid, built

    async def _recall(self, manifest: AdapterManifest, subject: Subject) -> tuple[Cid, BuiltIndex] | None:
        """The index that was built before this order was cut, if it was under this projection."""
        try:
            cid = to_cid(await trio.to_thread.run_sync((self.folder / NOTE_FILE).read_text))
            content = self.node.content
            index = (await index_of(content, cid, manifest)).record
            built = BuiltIndex(index, await rows_of(content, index), await sums_of(content, index))
        except (OSError, NotFound, Unreachable, RemoteProtocolError):
            return None
        return (cid, built) if index.seed == subject.seed else None

    async def _measure(
        self,
        attribution: AttributionProcess,
        manifest: AdapterManifest,
        index: tuple[Cid, BuiltIndex],
        every: Sequence[Row],
    ) -> Faithfulness | None:
        """None where it is not wanted, or there is too little to measure by."""
        if self.effort is None:
            return None
        cid, built = index
        kept = self.folder / "faithfulness", self.effort
        by_hash = _indexed_rows(built, every)
        others = others_of(every, built.manifest, ())
        try:
            recipe = config_of(manifest.recipe)
            plan = plan_measurement(self.base_dir, built.manifest, (by_hash, others), recipe, kept)
            async with self._told("measuring faithfulness", plan.subsets) as progress:
                found = await attribution.measure(built.manifest, built.rows, plan, progress)
        except (AttributionFailed, ConfigError, TrainingFailed) as error:
            log.warning("%s: its faithfulness is not known, so the priors divide: %s", manifest.name, error)
            return None
        return statement_of(cid, built.manifest, plan, found)

    @asynccontextmanager
    async def _told(self, phase: str, most: int) -> AsyncIterator[Callable[[int, int], None]]:
        """A progress that is told as it comes, with the seconds that are left."""
        started = trio.current_time()
        send, receive = trio.open_memory_channel[tuple[int, int]](most + 1)

        async def tell() -> None:
            async for done, total in receive:
                spent = trio.current_time() - started
                eta = spent / done * (total - done) if done else None
                await self.tell(TrainUpdate(phase, done, total, eta_s=eta))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            with send:
                yield lambda done, total: send.send_nowait((done, total))


def _indexed_rows(built: BuiltIndex, every: Sequence[Row]) -> list[Row]:
    """In the index's order."""
    rows = {row_hash(row): row for row in every}
    return [rows[digest] for digest in built.manifest.row_hashes]


def _flagged(built: BuiltIndex) -> tuple[str, ...]:
    """The rows that an index shows to be against their own kind, as 0x and hexadecimal, the worst first."""
    index = built.manifest
    found = flag_rows(partial(row_parts, built.rows, index.width), index.owners)
    return tuple("0x" + index.row_hashes[number].hex() for number in found)
