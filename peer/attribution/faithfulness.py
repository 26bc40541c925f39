"""`adapter faithfulness`: what it reads, what it measures, and the statement that its author announces.

Rules of this file: anybody may measure; what counts for payouts is what the adapter's author announces. An
author whose adapter is not above chance pays by the priors from then on, and every statement says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from ...protocol.codec import record_cid
from ...protocol.envelope import seal
from ...protocol.errors import ConfigError, NotFound, RemoteProtocolError
from ...protocol.faithfulness import Faithfulness, to_ppm
from ...protocol.ids import Cid
from ...protocol.manifests import CHUNK_SIZE, AdapterManifest, IndexManifest, Row
from ...protocol.rows import row_hash
from ...worker.factory.selection import OwnedShard, select_rows
from ..datanets.shards import pull_datanet
from ..node import Node
from .evidence import ContentSource, curvature_of, early_of, index_of, rows_of

if TYPE_CHECKING:
    from ..closed_home import ClosedHome

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that a measurement reads. `indexed` stands in the index's order."""

    manifest: AdapterManifest
    index_cid: Cid
    index: IndexManifest
    blob: bytes
    early: Path
    curvature: Path | None
    indexed: tuple[Row, ...]
    others: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """`subsets` retrainings of `steps` steps at most, over `queries` rows, kept under `work_dir`."""

    subsets: int
    steps: int
    queries: int
    work_dir: Path


async def read_measured(place: Node | ClosedHome, name: str) -> Measured:
    """What measuring an adapter needs, by its alias or id. Raises NotFound, Unreachable, InvalidAdapter,
    InvalidShard, ProtocolError."""
    adapter = place.catalog.adapter_id(name)
    manifest = await place.catalog.adapter(adapter)
    record = place.catalog.record_of(adapter, manifest.author)
    if record is None or record.index is None:
        raise NotFound(f"adapter {name!r} has no gradient index: there is nothing to measure")
    content: ContentSource = place.content
    index = (await index_of(content, record.index, manifest)).record
    shards: list[OwnedShard] = []
    for datanet in manifest.datanets:
        pulled = await pull_datanet(place.content, place.catalog, place.domain, datanet)  # type: ignore[arg-type]
        shards += [OwnedShard(shard.payee, shard.rows) for shard in pulled.shards]
    selected = await trio.to_thread.run_sync(select_rows, shards)
    rows = {row_hash(one.row): one.row for one in selected.rows}  # a copy would be asked what it was told
    if missing := [digest for digest in index.row_hashes if digest not in rows]:
        raise RemoteProtocolError(f"{len(missing)} rows of the index are in none of the adapter's Datanets")
    held = set(index.row_hashes)
    return Measured(
        manifest=manifest,
        index_cid=record.index,
        index=index,
        blob=await rows_of(content, index),
        early=await early_of(content, manifest),
        curvature=await curvature_of(content, manifest),
        indexed=tuple(rows[digest] for digest in index.row_hashes),
        others=tuple(rows[digest] for digest in sorted(rows) if digest not in held),
    )


def measure(measured: Measured, base_dir: Path, plan: Plan, progress: Progress) -> Faithfulness:
    """Train, score and compare. Raises ConfigError, TrainingFailed, AttributionFailed, InvalidModel."""
    from ...worker.attribution.faithfulness_run import Measurement, measure_adapter
    from ...worker.attribution.subject import subject_of
    from ...worker.factory.manifests import config_of
    from ...worker.models.reference import load_base

    manifest, index = measured.manifest, measured.index
    config = config_of(manifest.recipe)
    steps = min(plan.steps, config.steps)
    measurement = Measurement(replace(config, steps=steps), plan.subsets, plan.work_dir)
    subject = subject_of(manifest, measured.early, measured.curvature, index.beacon)
    rows = measured.indexed, measured.others[: plan.queries]
    report = measure_adapter(
        load_base(base_dir), subject, (index, measured.blob), rows, measurement, progress
    )
    return Faithfulness(
        adapter=record_cid(manifest),
        index=measured.index_cid,
        method=index.method,
        subsets=report.subsets,
        queries=report.queries,
        rows=len(measured.indexed),
        steps=steps,
        lds_ppm=to_ppm(report.lds),
        error_ppm=round(report.standard_error * 1_000_000),
        null_high_ppm=to_ppm(report.null_high),
    )


async def announce(node: Node, found: Faithfulness) -> Cid:
    """Seal a measurement of this peer's own adapter and announce it beside its index; its content id.

    Raises ConfigError where the adapter is another's, NotFound, and what reading its manifest raises.
    """
    manifest = await node.catalog.adapter(found.adapter)
    record = node.catalog.record_of(found.adapter, node.keys.peer.public)
    if manifest.author != node.keys.peer.public or record is None:
        raise ConfigError(f"adapter {found.adapter} is another peer's; only its author announces this")
    if record.index != found.index:
        raise ConfigError("the adapter's index has changed since it was measured; measure it again")
    cid = await node.content.put(seal(node.keys.peer, found, CHUNK_SIZE))
    seq = await node.next_seq()
    await node.announce(replace(record, faithfulness=cid, seq=seq, issued_ms=node.clock.now_ms()))
    return cid
