"""Faithfulness: what measuring it reads, how it is measured, and the statement that who measured announces.

Rules of this file: anybody may measure, and finds what its author found, or says under his own seal that he
does not; what counts for payouts is what the author announces. Scores divide nothing before, and nothing
where they are not above chance: then the priors do, and every statement says so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ...protocol.attribution.faithfulness import Correlations, Faithfulness, open_measurement
from ...protocol.content.manifests import AdapterManifest, IndexManifest, Row
from ...protocol.content.rows import row_hash
from ...protocol.errors import ConfigError, NotFound, RemoteProtocolError
from ...protocol.gossip.adverts import MeasurementRecord
from ...protocol.ids import CHUNK_SIZE, Cid
from ...protocol.signing.envelope import seal
from ...worker.attribution.measurement import Effort, Measurement, plan_measurement
from ..datanets.shards import pull_datanet
from ..node import Node
from .index_evidence import ContentSource, curvature_of, early_of, index_of, rows_of
from .index_rows import selection_of
from .measured import faithfulness_of

if TYPE_CHECKING:
    from ..closed_home import ClosedHome

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that a measurement reads. `indexed` stands in the index's order; `announced` is what the
    author has announced of this index."""

    manifest: AdapterManifest
    index_cid: Cid
    index: IndexManifest
    blob: bytes
    early: Path
    curvature: Path | None
    indexed: tuple[Row, ...]
    others: tuple[Row, ...]
    announced: Faithfulness | None


async def read_measured(place: Node | ClosedHome, name: str) -> Measured:
    """What measuring an adapter needs, by its alias or id. Raises NotFound, Unreachable, InvalidAdapter,
    InvalidShard, ProtocolError."""
    adapter = await place.catalog.patiently(partial(place.catalog.adapter_id, name))
    manifest = await place.catalog.adapter(adapter)
    record = place.catalog.record_of(adapter, manifest.author)
    if record is None or record.index is None:
        raise NotFound(f"adapter {name!r} has no gradient index: there is nothing to measure")
    content: ContentSource = place.content
    index = (await index_of(content, record.index, manifest)).record
    rows: dict[bytes, Row] = {}
    for datanet in manifest.datanets:
        pulled = await pull_datanet(place.content, place.catalog, place.domain, datanet)  # type: ignore[arg-type]
        rows |= {row_hash(row): row for shard in pulled.shards for row in shard.rows}
    if missing := [digest for digest in index.row_hashes if digest not in rows]:
        raise RemoteProtocolError(f"{len(missing)} rows of the index are in none of the adapter's Datanets")
    dropped = (await selection_of(content, manifest)).dropped
    announced = record.faithfulness
    found = await faithfulness_of(content, announced, manifest) if announced is not None else None
    return Measured(
        manifest=manifest,
        index_cid=record.index,
        index=index,
        blob=await rows_of(content, index),
        early=await early_of(content, manifest),
        curvature=await curvature_of(content, manifest),
        indexed=tuple(rows[digest] for digest in index.row_hashes),
        others=others_of(rows.values(), index, [each.row for each in dropped]),
        announced=found if found is not None and found.index == record.index else None,
    )


def others_of(rows: Collection[Row], index: IndexManifest, dropped: Collection[bytes]) -> tuple[Row, ...]:
    """The rows that an index does not hold, by their hashes: no copies, which would be asked what halves were
    told, and nothing that was refused as noise."""
    passed_over = {*index.row_hashes, *dropped}
    by_hash = {row_hash(row): row for row in rows}
    return tuple(by_hash[digest] for digest in sorted(by_hash) if digest not in passed_over)


def measure(
    measured: Measured, base_dir: Path, kept: tuple[Path, Effort], progress: Progress
) -> Faithfulness:
    """Train, score and compare in this process; `kept` is (folder, effort), and what stands in the folder is
    gone on with. Raises ConfigError, TrainingFailed, AttributionFailed, InvalidModel."""
    from ...worker.attribution.attributor import Attributor
    from ...worker.attribution.faithfulness_run import FaithfulnessRun
    from ...worker.attribution.subject import subject_of
    from ...worker.factory.manifests import config_of
    from ...worker.models.reference import load_base

    manifest, index = measured.manifest, measured.index
    rows, recipe = (measured.indexed, measured.others), config_of(manifest.recipe)
    plan = plan_measurement(base_dir, index, rows, recipe, kept)
    base = load_base(base_dir)
    attributor = Attributor(base)
    attributor.load(subject_of(manifest, measured.early, measured.curvature, index.beacon))
    drawn = plan.folder, plan.places, plan.subsets
    run = FaithfulnessRun(attributor, base, (index, measured.blob), drawn)
    progress(run.done_halves, run.halves)
    while not run.done:
        run.advance()
        progress(run.done_halves, run.halves)
    return statement_of(measured.index_cid, index, plan, run.finish())


def statement_of(
    index_cid: Cid, index: IndexManifest, plan: Measurement, found: Correlations
) -> Faithfulness:
    """What was measured, and by what."""
    return Faithfulness(
        adapter=index.adapter,
        index=index_cid,
        method=index.method,
        subsets=plan.subsets,
        queries=plan.queries,
        rows=len(plan.places),
        steps=plan.steps,
        batch=plan.batch,
        found=found,
    )


@dataclass(frozen=True, slots=True)
class Said:
    """A sealed measurement that was announced, and whether by its adapter's author, whose word alone pays."""

    statement: Cid
    by_author: bool


async def announce(node: Node, found: Faithfulness) -> Said:
    """Seal a measurement and announce it: of this peer's own adapter beside its index, of another's as what
    somebody else found.

    Raises ConfigError where the index is another by now, RemoteProtocolError where it measures too little,
    and what reading the adapter's manifest raises.
    """
    manifest, key = await node.catalog.adapter(found.adapter), node.keys.peer
    record = node.catalog.record_of(found.adapter, manifest.author)
    if record is None or record.index != found.index:
        raise ConfigError("the adapter's index has changed since it was measured; measure it again")
    sealed = seal(key, found, CHUNK_SIZE)
    open_measurement(sealed, manifest, key.public)
    cid = await node.content.put(sealed)
    stamp = (await node.next_seq(), node.clock.now_ms())
    if manifest.author != key.public:
        await node.announce(MeasurementRecord(key.public, found.adapter, cid, *stamp))
        return Said(cid, by_author=False)
    seq, issued_ms = stamp
    await node.announce(replace(record, faithfulness=cid, seq=seq, issued_ms=issued_ms))
    return Said(cid, by_author=True)
