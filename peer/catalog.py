"""What this node knows of adapters and Datanets: sealed records by name, manifests by content id.

A name belongs to the first key that was seen to announce it (per node, kept in the store); a record under the
same name by another key is not taken, and its adapter must be asked for by content id. A higher `seq` of the
same key replaces a lower one.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar, assert_never

from ..protocol.attribution.scoring import prior_weights
from ..protocol.content.manifests import AdapterManifest, DatanetManifest
from ..protocol.content.names import check_name
from ..protocol.content.splits import SPLIT_BOUNDS, SplitBounds, check_split_bounds
from ..protocol.encoding.codec import decode
from ..protocol.errors import InvalidAdapter, NotFound, ProtocolError, Unreachable
from ..protocol.gossip.adverts import AdapterRecord, DatanetRecord, MeasurementRecord
from ..protocol.ids import CHUNK_SIZE, Cid, PeerId, to_cid
from ..protocol.signing.envelope import Sealed
from .hearsay import AskAround, find_heard

log = logging.getLogger("commonlore.peer.catalog")

Named = AdapterRecord | DatanetRecord | MeasurementRecord
_Name = tuple[type[Named], str]
M = TypeVar("M", AdapterManifest, DatanetManifest)
T = TypeVar("T")
FetchBytes = Callable[[Cid, int], Awaitable[bytes]]
"""(content id, most bytes) → the verified content. Raises NotFound or Unreachable."""
CheckPayable = Callable[[Cid, AdapterManifest, int | None], Awaitable[None]]
"""A further check of an adapter before its answers are paid for: also for which epoch an answer is, where one
is. Raises as `Catalog.payable`."""

MAX_NAMES = 100_000
MAX_MEASURERS = 16
"""Peers whose word on one adapter is kept, beside its author's: those that were heard first."""
MAX_ANNOUNCERS = 3
MAX_MANIFESTS = 2_048
"""Manifests kept in memory, the last used; the others are read again."""


def name_of(record: Named) -> str:
    """The name a record gives: an adapter's alias, a Datanet's name, or who measured which adapter."""
    match record:
        case AdapterRecord():
            return record.alias
        case DatanetRecord():
            return record.name
        case MeasurementRecord():
            return f"{record.measurer.hex()}/{record.adapter}"
    assert_never(record)


def content_of(record: Named) -> Cid:
    """What a record names: it is to be had where it was announced."""
    match record:
        case AdapterRecord():
            return record.adapter
        case DatanetRecord():
            return record.datanet
        case MeasurementRecord():
            return record.measurement
    assert_never(record)


def _named_by(record: Named) -> set[Cid]:
    """All that a record names and whoever announced it holds."""
    more = (record.index, record.faithfulness) if isinstance(record, AdapterRecord) else ()
    return {content_of(record), *(cid for cid in more if cid is not None)}


class Catalog:
    """Names to records, ids to manifests; filled by gossip, reconciliation and the store."""

    def __init__(
        self, fetch: FetchBytes, split_bounds: Callable[[], SplitBounds] = lambda: SPLIT_BOUNDS
    ) -> None:
        """`split_bounds()`: those of the network, as far as is known by now."""
        self.split_bounds = split_bounds
        self.checks: list[CheckPayable] = []
        """What else must hold of an adapter that is paid for, asked last."""
        self.withdrawn: set[Cid] = set()
        """Shards that their contributors took back, as far as is known here."""
        self.ask_around: AskAround | None = None
        """How others are asked for names that are not known here; None where there is nobody to ask."""
        self._fetch = fetch
        self._names: dict[_Name, Sealed[Named]] = {}
        self._adapters: dict[Cid, dict[bytes, AdapterRecord]] = {}
        self._measured: dict[Cid, dict[bytes, MeasurementRecord]] = {}
        self._announced: dict[Cid, dict[_Name, PeerId]] = {}
        """By what records name: under which names, and by whom."""
        self._manifests: OrderedDict[Cid, AdapterManifest | DatanetManifest] = OrderedDict()

    def learn(self, sealed: Sealed[Named]) -> bool:
        """Take a record that passed its checks.

        False when it is older than, or in conflict with, what is known.
        """
        record = sealed.record
        key = (type(record), name_of(record))
        known = self._names.get(key)
        if known is not None and known.public_key != sealed.public_key:
            log.warning("name %s is already another key's; ignored", name_of(record))
            return False
        if known is not None and known.record.seq >= record.seq:
            return False
        if known is None and (self._is_full() or self._is_measured_enough(record)):
            return False
        self._names[key] = sealed
        self._note_announcer(key, sealed, known)
        if isinstance(record, AdapterRecord):
            self._renamed(sealed.public_key, record, known)
        if isinstance(record, MeasurementRecord):
            self._measured.setdefault(record.adapter, {})[record.measurer] = record
        return True

    def _renamed(self, announcer: bytes, record: AdapterRecord, known: Sealed[Named] | None) -> None:
        """An alias leads to this adapter now, and no more to the one before."""
        if known is not None and isinstance(known.record, AdapterRecord):
            before = self._adapters.get(known.record.adapter, {})
            before.pop(announcer, None)
            if not before:
                self._adapters.pop(known.record.adapter, None)
        self._adapters.setdefault(record.adapter, {})[announcer] = record

    def _is_measured_enough(self, record: Named) -> bool:
        """Whether enough others say already that they have measured this adapter."""
        if not isinstance(record, MeasurementRecord):
            return False
        return len(self._measured.get(record.adapter, ())) >= MAX_MEASURERS

    def _note_announcer(self, name: _Name, sealed: Sealed[Named], before: Sealed[Named] | None) -> None:
        for cid in _named_by(before.record) if before else ():
            del self._announced[cid][name]
            if not self._announced[cid]:
                del self._announced[cid]
        for cid in _named_by(sealed.record):
            self._announced.setdefault(cid, {})[name] = sealed.peer_id

    def announcers(self, cid: Cid) -> tuple[PeerId, ...]:
        """Who announced a record in force that names this content, and so should have it; not many, for
        anybody may say so."""
        return tuple(dict.fromkeys(self._announced.get(cid, {}).values()))[:MAX_ANNOUNCERS]

    def _is_full(self) -> bool:
        return len(self._names) >= MAX_NAMES

    def adapters(self) -> tuple[AdapterRecord, ...]:
        """Every adapter record in force, by alias."""
        found = (
            s.record
            for (kind, _), s in sorted(self._names.items(), key=lambda i: i[0][1])
            if kind is AdapterRecord
        )
        return tuple(r for r in found if isinstance(r, AdapterRecord))

    def datanets(self) -> tuple[DatanetRecord, ...]:
        """Every Datanet record in force, by name."""
        found = (
            s.record
            for (kind, _), s in sorted(self._names.items(), key=lambda i: i[0][1])
            if kind is DatanetRecord
        )
        return tuple(r for r in found if isinstance(r, DatanetRecord))

    def announced_by(self, key: bytes) -> tuple[Named, ...]:
        """Every record in force that this Ed25519 key sealed."""
        return tuple(sealed.record for sealed in self._names.values() if sealed.public_key == key)

    def bases(self) -> tuple[Cid, ...]:
        """The bases that known adapters are for."""
        return tuple(sorted({record.base for record in self.adapters()}))

    def record_of(self, adapter: Cid, announcer: bytes | None = None) -> AdapterRecord | None:
        """The latest record that names this adapter id, by this Ed25519 key or, without one, by whoever was
        heard first. Anybody may announce anybody's adapter: what matters is asked of its author."""
        records = self._adapters.get(adapter, {})
        return next(iter(records.values()), None) if announcer is None else records.get(announcer)

    def measurements_of(self, adapter: Cid) -> tuple[MeasurementRecord, ...]:
        """The latest record of each peer that says to have measured this adapter."""
        return tuple(self._measured.get(adapter, {}).values())

    def adapter_id(self, name: str) -> Cid:
        """The adapter id behind `owner/name` (or an id itself). Raises NotFound, naming what is known."""
        sealed = self._names.get((AdapterRecord, name))
        if sealed is not None and isinstance(sealed.record, AdapterRecord):
            return sealed.record.adapter
        if name.startswith("bafk"):
            return to_cid(name)
        known = ", ".join(r.alias for r in self.adapters()[:8]) or "none announced yet"
        raise NotFound(f"unknown adapter {name!r}; known: {known}")

    def datanet_record(self, name: str) -> DatanetRecord:
        """The record of a Datanet by its name. Raises NotFound."""
        sealed = self._names.get((DatanetRecord, name))
        if sealed is None or not isinstance(sealed.record, DatanetRecord):
            known = ", ".join(r.name for r in self.datanets()[:8]) or "none announced yet"
            raise NotFound(f"unknown Datanet {name!r}; known: {known}")
        return sealed.record

    async def patiently(self, look: Callable[[], T]) -> T:
        """What `look` finds by names that may have been announced elsewhere just now. Raises as it does."""
        return look() if self.ask_around is None else await find_heard(look, self.ask_around)

    async def adapter(self, adapter: Cid) -> AdapterManifest:
        """The manifest whose CID is this id, pulled if need be.

        Raises NotFound, Unreachable, InvalidAdapter.
        """
        try:
            return await self._manifest(AdapterManifest, adapter)
        except ProtocolError as error:
            raise InvalidAdapter(f"{adapter} is not an adapter manifest: {error}") from error

    async def payable(self, adapter: Cid, epoch: int | None = None) -> AdapterManifest:
        """The manifest of an adapter whose answers can be paid for: its split is whole and within the bounds
        of the network, its priors are whole. An answer that cannot be divided would hold up all that its
        payer pays after it. Nor is one that learnt from rows that were withdrawn. `epoch`: that of the
        receipt, where it is this peer's to give. Raises as `adapter`, and Refused."""
        manifest = await self.adapter(adapter)
        if self.withdrawn:
            await self._refuse_tainted(adapter, manifest)
        try:
            check_split_bounds(manifest.split, self.split_bounds())
            prior_weights(manifest)
        except ProtocolError as error:
            raise InvalidAdapter(f"adapter {adapter} cannot be paid for: {error}") from error
        for check in self.checks:
            await check(adapter, manifest, epoch)
        return manifest

    async def _refuse_tainted(self, adapter: Cid, manifest: AdapterManifest) -> None:
        """Raises InvalidAdapter where a Datanet version that it learnt from has a withdrawn shard; a version
        that cannot be had is not known to have one."""
        for version in manifest.datanets:
            with suppress(NotFound, Unreachable):
                if not self.withdrawn.isdisjoint((await self.datanet(version)).shards):
                    raise InvalidAdapter(
                        f"adapter {adapter} learnt from rows that were withdrawn; "
                        "its author must train it again"
                    )

    async def measurement(self, cid: Cid) -> bytes:
        """The sealed measurement of an adapter's faithfulness, as it was announced. Raises NotFound,
        Unreachable."""
        return await self._fetch(cid, CHUNK_SIZE)

    async def datanet(self, datanet: Cid) -> DatanetManifest:
        """The Datanet manifest whose CID is this id, pulled if need be.

        Raises NotFound, Unreachable, ProtocolError.
        """
        return await self._manifest(DatanetManifest, datanet)

    async def _manifest(self, cls: type[M], cid: Cid) -> M:
        known = self._manifests.get(cid)
        if not isinstance(known, cls):
            known = decode(cls, await self._fetch(cid, CHUNK_SIZE), CHUNK_SIZE)
            check_name(known.name)
            self._manifests[cid] = known
        self._manifests.move_to_end(cid)
        if len(self._manifests) > MAX_MANIFESTS:
            self._manifests.popitem(last=False)
        return known
