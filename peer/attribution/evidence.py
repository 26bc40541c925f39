"""What a check of a receipt reads: statements, manifests, index, files, rows, gathered as far as a level
needs.

Rules of this file: everything is found by content id or under a seal that was verified; what is not to be had
is named by whoever misses it, so nothing is ever checked against a guess.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ...protocol.attribution.faithfulness import Faithfulness
from ...protocol.attribution.scoring import MAX_WIDTH
from ...protocol.content.manifests import AdapterManifest, DatanetManifest, IndexManifest
from ...protocol.content.selections import RowSelection
from ...protocol.encoding.codec import record_cid
from ...protocol.errors import ChainError, NotFound, RemoteProtocolError, Unreachable
from ...protocol.gossip.adverts import AdapterRecord
from ...protocol.ids import CHUNK_SIZE, RAW, Cid, cid_of_digest
from ...protocol.receipts.parts import ReceiptPart, receipt_parts
from ...protocol.receipts.records import AttributionStatement, Credit
from ...protocol.signing.bindings import PeerBinding
from ...protocol.signing.eip712 import Domain
from ...protocol.signing.envelope import Sealed, open_sealed
from ..datanets.shards import PulledDatanet, pull_datanet
from ..store.ledger import Ledger
from ..store.ledger_rows import StoredReceipt
from ..store.records import Records
from .index_rows import selection_of
from .measured import faithfulness_of
from .second_evidence import ReadFacts, SecondEvidence, read_second, seconds_among

MAX_INDEX_BYTES = 256 * 1024**2
MAX_VECTOR_BYTES = 512 * 1024**2
"""Of an index: 100,000 rows of 4,097 bytes and some; or its contributors' sums. What claims more is not
fetched."""
MAX_CHECKPOINT_BYTES = 1024**3
MOST_FACTORS = 2
"""Bytes of curvature factors a byte of the adapter: beyond that they are not fetched, and not used."""
LEVELS = range(4)


class ContentSource(Protocol):
    """Blobs: a node's, or a folder's."""

    async def get(self, cid: Cid, max_bytes: int) -> bytes:
        """The verified content. Raises NotFound, Unreachable."""
        ...

    async def path(self, cid: Cid, max_size: int) -> Path:
        """A file with it. Raises NotFound, Unreachable."""
        ...


class CatalogSource(Protocol):
    """Manifests and announcements by id."""

    def record_of(self, adapter: Cid, announcer: bytes | None = None) -> AdapterRecord | None:
        """What this key announced of an adapter."""
        ...

    async def adapter(self, adapter: Cid) -> AdapterManifest:
        """Raises NotFound, Unreachable, InvalidAdapter."""
        ...

    async def datanet(self, datanet: Cid) -> DatanetManifest:
        """Raises NotFound, Unreachable, ProtocolError."""
        ...


@dataclass(frozen=True, slots=True)
class Sources:
    """Where evidence comes from. `credits` of a receipt, and the binding of its worker; `beacon` of an
    adapter, None in a network without a chain; `draws` what that says of a second attributor's draw."""

    domain: Domain
    ledger: Ledger
    records: Records
    catalog: CatalogSource
    content: ContentSource
    credits: Callable[[StoredReceipt, PeerBinding], Awaitable[tuple[Credit, ...]]]
    beacon: Callable[[AdapterManifest], Awaitable[bytes | None]]
    draws: ReadFacts


@dataclass(frozen=True, slots=True)
class IndexEvidence:
    """The index that a statement names: its author's seal, its rows, its contributors' sums, and the
    statement's query vector."""

    sealed: Sealed[IndexManifest]
    rows: bytes
    sums: bytes
    query: bytes

    @property
    def manifest(self) -> IndexManifest:
        """What was sealed."""
        return self.sealed.record


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a receipt and one of its adapters, up to some level. `before` are the output
    tokens ahead of it; `part` is the adapter's, None where all of the receipt is.
    """

    domain: Domain
    stored: StoredReceipt
    worker: PeerBinding
    credits: tuple[Credit, ...]
    statement: Sealed[AttributionStatement] | None
    manifest: AdapterManifest | None
    index: IndexEvidence | None = None
    before: tuple[int, ...] = ()
    early: Path | None = None
    curvature: Path | None = None
    datanets: tuple[PulledDatanet, ...] = ()
    faithfulness: Faithfulness | None = None
    """The measurement that the statement names."""
    selection: RowSelection | None = None
    beacon: bytes | None = None
    """The adapter's; None in a network without a chain, empty where the adapter is not registered."""
    unknown: str = ""
    """Why the beacon could not be read, where it could not."""
    part: ReceiptPart | None = None
    seconds: tuple[SecondEvidence, ...] = ()

    @property
    def adapter(self) -> Cid | None:
        """Whose contributors are paid."""
        return None if self.manifest is None else record_cid(self.manifest)

    @property
    def part_credits(self) -> tuple[Credit, ...]:
        """The receipt's credits of this adapter."""
        mine = None if self.part is None else self.part.number
        return tuple(credit for credit in self.credits if credit.part == mine)


async def gather(sources: Sources, stored: StoredReceipt, level: int) -> tuple[Evidence, ...]:
    """What a check up to `level` reads, of each of a receipt's adapters in their order.

    Raises NotFound, Unreachable, ProtocolError, InvalidAdapter.
    """
    parts = receipt_parts(stored.receipt)
    if len(parts) == 1:
        return (await _gather_of(sources, stored, level, parts[0].adapter),)
    several = [(part, await _gather_of(sources, stored, level, part.adapter)) for part in parts]
    return tuple(replace(evidence, part=part) for part, evidence in several)


async def _gather_of(sources: Sources, stored: StoredReceipt, level: int, adapter: Cid | None) -> Evidence:
    signed = await sources.records.binding(stored.receipt.lane)
    if signed is None:
        raise NotFound(f"the worker of lane 0x{stored.receipt.lane.hex()} is not known to this home")
    worker = signed.binding
    manifest = None if adapter is None else await sources.catalog.adapter(adapter)
    stated = () if adapter is None else await sources.records.statements(stored.receipt_hash, adapter)
    statement = next((one for one in stated if one.public_key == worker.ed25519_key), None)
    seconds = seconds_among(stated, worker.ed25519_key)
    credits = await sources.credits(stored, worker)
    known = Evidence(sources.domain, stored, worker, credits, statement, manifest, seconds=seconds)
    if manifest is None or level < 1:
        return known
    read = [
        await read_second(one.sealed, stored.receipt, sources.content.get, sources.draws) for one in seconds
    ]
    index = await _index(sources, statement, manifest)
    known = replace(known, index=index, seconds=tuple(read))
    if statement is None or index is None:
        return known
    known = await _with_beacon(sources, manifest, known)
    measured = statement.record.faithfulness
    if measured is not None:
        known = replace(known, faithfulness=await faithfulness_of(sources.content, measured, manifest))
    known = replace(
        known,
        datanets=await _datanets(sources, manifest),
        selection=await selection_of(sources.content, manifest),
    )
    if level < 2:
        return known
    return replace(
        known,
        before=await tokens_before(sources.ledger, stored),
        early=await early_of(sources.content, manifest),
        curvature=await curvature_of(sources.content, manifest),
    )


async def _with_beacon(sources: Sources, manifest: AdapterManifest, known: Evidence) -> Evidence:
    """A chain that is away keeps nothing else from being looked at."""
    try:
        return replace(known, beacon=await sources.beacon(manifest))
    except (NotFound, Unreachable, ChainError) as error:
        return replace(known, unknown=str(error))


async def curvature_of(content: ContentSource, manifest: AdapterManifest) -> Path | None:
    """The file of an adapter's factors, if it has published any. Raises NotFound, Unreachable."""
    if manifest.factors is None:
        return None
    most = max(MOST_FACTORS * manifest.weights_size, CHUNK_SIZE)
    return await content.path(manifest.factors, min(most, MAX_CHECKPOINT_BYTES))


async def early_of(content: ContentSource, manifest: AdapterManifest) -> Path:
    """The file of an adapter's early checkpoint. Raises NotFound, Unreachable."""
    if manifest.early_checkpoint is None:
        raise NotFound(f"adapter {manifest.name!r} has no early checkpoint: its answers cannot be scored")
    return await content.path(manifest.early_checkpoint, MAX_CHECKPOINT_BYTES)


async def index_of(content: ContentSource, cid: Cid, manifest: AdapterManifest) -> Sealed[IndexManifest]:
    """The sealed index of an adapter. Raises NotFound, Unreachable, RemoteProtocolError."""
    sealed = open_sealed(await content.get(cid, MAX_INDEX_BYTES), (IndexManifest,), MAX_INDEX_BYTES)
    adapter = record_cid(manifest)
    if sealed.public_key != manifest.author:
        raise RemoteProtocolError(f"the index of {adapter} is not its author's")
    if sealed.record.adapter != adapter:
        raise RemoteProtocolError(f"the index announced for {adapter} is of {sealed.record.adapter}")
    return sealed


async def _index(
    sources: Sources, statement: Sealed[AttributionStatement] | None, manifest: AdapterManifest
) -> IndexEvidence | None:
    if statement is None or statement.record.index is None:
        return None
    sealed = await index_of(sources.content, statement.record.index, manifest)
    rows = await rows_of(sources.content, sealed.record)
    sums = await sums_of(sources.content, sealed.record)
    query = await sources.content.get(cid_of_digest(statement.record.query, RAW), sealed.record.width)
    return IndexEvidence(sealed, rows, sums, query)


async def rows_of(content: ContentSource, index: IndexManifest) -> bytes:
    """An index's rows. Raises NotFound, Unreachable, RemoteProtocolError where they are too large."""
    return await _part_of(content, index, index.rows, index.row_count * index.row_bytes)


async def sums_of(content: ContentSource, index: IndexManifest) -> bytes:
    """An index's sums. Raises NotFound, Unreachable, RemoteProtocolError where they are too large."""
    return await _part_of(content, index, index.sums, index.sums_bytes)


async def _part_of(content: ContentSource, index: IndexManifest, cid: Cid, size: int) -> bytes:
    if size > MAX_VECTOR_BYTES or index.width > MAX_WIDTH:
        raise RemoteProtocolError(
            f"an index of {index.row_count} rows and {len(index.contributors)} contributors of width "
            f"{index.width}; at most {MAX_VECTOR_BYTES} bytes may be"
        )
    return await content.get(cid, max(size, 1))


async def tokens_before(ledger: Ledger, stored: StoredReceipt) -> tuple[int, ...]:
    """The output tokens ahead of a receipt's: delivered by others, and by earlier steps of its answer.

    Raises NotFound.
    """
    if stored.prompt is None:
        raise NotFound(
            "the prompt of this receipt is not in this home; only who asked or served can check it"
        )
    earlier = await ledger.steps_before(stored)
    if [one.receipt.step for one in earlier] != list(range(stored.receipt.step)):
        raise NotFound(
            f"an earlier step of this answer is not in this home; it is step {stored.receipt.step}"
        )
    return stored.prompt.delivered + tuple(token for one in earlier for token in one.tokens)


async def _datanets(sources: Sources, manifest: AdapterManifest) -> tuple[PulledDatanet, ...]:
    pulled = [
        await pull_datanet(sources.content, sources.catalog, sources.domain, datanet)  # type: ignore[arg-type]
        for datanet in manifest.datanets
    ]
    return tuple(pulled)
