"""What a check of a receipt reads: statements, manifests, index, files, rows, gathered as far as a level
needs.

Rules of this file: everything is found by content id or under a seal that was verified; what is not to be had
is named by whoever misses it, so nothing is ever checked against a guess.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from ...protocol.attribution.faithfulness import PRIOR_METHODS, Faithfulness
from ...protocol.attribution.pool_evidence import SealedStatement, counting, judge_statements
from ...protocol.attribution.pools import Judged
from ...protocol.content.manifests import AdapterManifest, DatanetManifest
from ...protocol.content.selections import RowSelection
from ...protocol.encoding.codec import record_cid
from ...protocol.errors import ChainError, InvalidSignature, NotFound, RemoteProtocolError, Unreachable
from ...protocol.gossip.adverts import AdapterRecord, MeasurementRecord
from ...protocol.ids import Cid
from ...protocol.receipts.parts import ReceiptPart, receipt_parts
from ...protocol.receipts.records import AttributionStatement, Credit
from ...protocol.signing.bindings import PeerBinding
from ...protocol.signing.eip712 import Domain
from ...protocol.signing.envelope import Sealed
from ..datanets.shards import PulledDatanet, pull_datanet
from ..settling.committed_indexes import IndexStanding
from ..store.ledger import Ledger
from ..store.ledger_rows import StoredReceipt
from ..store.records import Records
from .difference_evidence import TakenBack, what_is_left
from .index_evidence import ContentSource, IndexEvidence, curvature_of, early_of, index_evidence, query_of
from .index_rows import selection_of
from .known_differences import KnownDifferences
from .measured import faithfulness_of
from .others_measured import OtherMeasurement, others_of_index
from .second_evidence import ReadFacts, SecondEvidence, read_second, seconds_among
from .withdrawn_evidence import staying_datanets, taken_back, withdrawn_of

NO_PROMPT = (
    "the prompt of this receipt is not in this home: only who asked or served had it, and neither has it any "
    "more where rows in it were withdrawn or its time is over"
)


class CatalogSource(Protocol):
    """Manifests and announcements by id; `withdrawn` are the shards that are known to be."""

    withdrawn: set[Cid]

    def measurements_of(self, adapter: Cid) -> Sequence[MeasurementRecord]:
        """The latest record of each peer that says to have measured this adapter."""
        ...

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
    adapter, None in a network without a chain; `standing` what that says of an index, `draws` what it says of
    a second attributor's draw; `differences` what took withdrawn rows out of indexes."""

    domain: Domain
    ledger: Ledger
    records: Records
    catalog: CatalogSource
    content: ContentSource
    credits: Callable[[StoredReceipt, PeerBinding], Awaitable[tuple[Credit, ...]]]
    beacon: Callable[[AdapterManifest], Awaitable[bytes | None]]
    standing: Callable[[AdapterManifest, Cid], Awaitable[IndexStanding | None]]
    draws: ReadFacts
    differences: Callable[[], Awaitable[KnownDifferences]]
    now_ms: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a receipt and one of its adapters, up to some level. `before` are the output
    tokens ahead of it; `part` is the adapter's, None where all of the receipt is. `announced` is what the
    adapter's author announces of it today.
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
    """Why the chain could not be read, where it could not."""
    standing: IndexStanding | None = None
    """What the index's author committed of it on the chain; None where it did not."""
    part: ReceiptPart | None = None
    seconds: tuple[SecondEvidence, ...] = ()
    announced: AdapterRecord | None = None
    others: tuple[OtherMeasurement, ...] = ()
    """What others than the author say of the index that the statement names, or the author announces."""
    wrong: str = ""
    """Why what the statement names is not what it must be, where that showed when it was read."""
    withdrawn: str = ""
    """Why some of the adapter's rows are nobody's to read any more, where they are not; `datanets` then holds
    the shards that stay."""
    taken_back: TakenBack = field(default_factory=TakenBack)
    """Those shards, and their rows."""
    prompt_withdrawn: bool = False
    """Whether the prompt was deleted because it held rows that were withdrawn."""

    @property
    def adapter(self) -> Cid | None:
        """Whose contributors are paid."""
        return None if self.manifest is None else record_cid(self.manifest)

    @property
    def part_credits(self) -> tuple[Credit, ...]:
        """The receipt's credits of this adapter."""
        mine = None if self.part is None else self.part.number
        return tuple(credit for credit in self.credits if credit.part == mine)

    @property
    def counted(self) -> tuple[SealedStatement, ...]:
        """The statements that count, the worker's first; of those by scores only where the measurement that
        they name was read."""
        if self.manifest is None or self.statement is None:
            return ()
        named, found = self.statement.record.faithfulness, self.faithfulness
        measured = {named: found} if named is not None and found is not None else {}
        given = [self.statement, *(second.sealed for second in self.seconds)]
        return counting(given, self.manifest, self.stored.receipt_hash, self.statement.public_key, measured)

    @property
    def judged(self) -> Judged | None:
        """What the statements make of the receipt; None where that is not known from what was read."""
        if self.manifest is None or self.statement is None:
            return None
        stated = self.statement.record
        unread = self.faithfulness is None and stated.faithfulness is not None
        if unread and stated.method not in PRIOR_METHODS:
            return None
        return judge_statements(self.counted, self.manifest)


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
    announced = sources.catalog.record_of(adapter, manifest.author) if adapter is not None else None
    index = announced.index if announced is not None else None
    if statement is not None and statement.record.index is not None:
        index = statement.record.index
    others = await others_of_index(sources.content, sources.catalog, manifest, index)
    known = replace(known, seconds=tuple(read), announced=announced, others=others)
    if statement is None or statement.record.index is None:
        return known
    known = await _with_chain(sources, manifest, statement.record.index, known)
    known = replace(known, withdrawn=await withdrawn_of(sources, manifest))
    if known.withdrawn:
        known = replace(known, taken_back=await taken_back(sources, manifest))
    try:
        known = await _with_index(sources, statement, manifest, known)
    except (RemoteProtocolError, InvalidSignature) as error:
        return replace(known, wrong=str(error))
    known = await _with_rows(sources, manifest, known)
    if level < 2:
        return known
    if stored.prompt is None and await sources.ledger.prompt_was_withdrawn(stored.receipt_hash):
        known = replace(known, prompt_withdrawn=True)
    return replace(
        known,
        before=() if known.prompt_withdrawn else await tokens_before(sources.ledger, stored),
        early=await early_of(sources.content, manifest),
        curvature=await curvature_of(sources.content, manifest),
    )


async def _with_index(
    sources: Sources, statement: SealedStatement, manifest: AdapterManifest, known: Evidence
) -> Evidence:
    """With the index, the measurement and the query vectors that statements name. Raises NotFound,
    Unreachable, RemoteProtocolError, InvalidSignature."""
    content, own = sources.content, statement.record
    index, found = await index_evidence(content, statement, manifest, not known.withdrawn), None
    if index.rows is None and own.index is not None:
        names = (await sources.differences()).by_index.get(own.index, ())
        gone, now_ms = known.taken_back, sources.now_ms()
        left = await what_is_left(content, names, (own.index, index), gone, now_ms)
        index = replace(index, difference=left)
    if own.faithfulness is not None:
        found = await faithfulness_of(content, own.faithfulness, manifest)
    seconds = []
    for second in known.seconds:
        record, query = second.sealed.record, index.query
        if record.index == own.index and record.query != own.query:
            query = await query_of(content, record, index.manifest.width)
        seconds.append(replace(second, query=query))
    return replace(known, index=index, faithfulness=found, seconds=tuple(seconds))


async def _with_rows(sources: Sources, manifest: AdapterManifest, known: Evidence) -> Evidence:
    """With the rows that the adapter learnt from; where somebody took some back with the others, as far as
    they can be had."""
    known = replace(known, selection=await selection_of(sources.content, manifest))
    if not known.withdrawn:
        return replace(known, datanets=await _datanets(sources, manifest))
    return replace(known, datanets=await staying_datanets(sources, manifest))


async def _with_chain(sources: Sources, manifest: AdapterManifest, index: Cid, known: Evidence) -> Evidence:
    """A chain that is away keeps nothing else from being looked at."""
    try:
        standing = await sources.standing(manifest, index)
        return replace(known, beacon=await sources.beacon(manifest), standing=standing)
    except (NotFound, Unreachable, ChainError) as error:
        return replace(known, unknown=str(error))


async def tokens_before(ledger: Ledger, stored: StoredReceipt) -> tuple[int, ...]:
    """The output tokens ahead of a receipt's: delivered by others, and by earlier steps of its answer.

    Raises NotFound.
    """
    if stored.prompt is None:
        raise NotFound(NO_PROMPT)
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
