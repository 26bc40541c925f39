"""Who earns what from receipts: their shares, by the statements on them or else by the prior weights.

Rules of this file: what is decided is decided in `protocol.attribution.pool_evidence`; here statements,
manifests and measurements are read. Of a pool only the drawn receipts' statements are read at all. A
measurement that cannot be had, or is none, lets no statement count; neither does an index that is `barred`:
one that can still be challenged on the chain, or was shown wrong there.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import trio

from ...protocol.attribution.faithfulness import Measurements, open_measurement
from ...protocol.attribution.pool_evidence import (
    SealedStatement,
    counting,
    divide_by_statements,
    judge_statements,
)
from ...protocol.attribution.pools import Judged, PoolDivision, draw_receipts
from ...protocol.content.manifests import AdapterManifest
from ...protocol.errors import CommonloreError, InvalidSignature, NotFound, RemoteProtocolError, Unreachable
from ...protocol.ids import Address, Cid
from ...protocol.receipts.credits import RolePayees, divide_shares
from ...protocol.receipts.parts import ReceiptPart, receipt_parts
from ...protocol.receipts.records import Credit, Receipt, Weight
from ...protocol.settlement.settled import number_of
from ..store.ledger_rows import StoredReceipt
from ..store.records import Records

log = logging.getLogger("commonlore.peer.settling.crediting")
ReadManifest = Callable[[Cid], Awaitable[AdapterManifest]]
"""An adapter's manifest by its id. Raises NotFound, Unreachable, InvalidAdapter."""


class AdapterSource(Protocol):
    """What is read of adapters: the catalogue, or a test's own."""

    async def adapter(self, adapter: Cid) -> AdapterManifest:
        """An adapter's manifest by its id. Raises NotFound, Unreachable, InvalidAdapter."""
        ...

    async def measurement(self, cid: Cid) -> bytes:
        """The bytes of a measurement that was announced. Raises NotFound, Unreachable."""
        ...


StateDrawn = Callable[[bytes, Cid, bytes], Awaitable[None]]
"""(receipt's hash, adapter, beacon): have a receipt scored that the beacon drew from the adapter's pool, if
it waits for that."""


IsBarred = Callable[[AdapterManifest, Cid], Awaitable[bool]]
"""Whether nothing may be divided by an adapter's index now. Raises Unreachable, ChainError."""


@dataclass(frozen=True, slots=True)
class NetworkAccounts:
    """The accounts of the platform's and the work pool's shares, fixed at deployment."""

    platform: Address
    work_pool: Address


@dataclass(slots=True)
class Division:
    """A commitment's receipts divided: the credits of each part of a receipt, by the receipt's hash and the
    part's number, each summing to what the part has.

    `unknown` are receipts of which a part cannot be divided now, and why; `statements` the sealed statements
    that counted, as they came, and `measured` the sealed measurements that these name; `pools` what was found
    of each adapter.
    """

    credits: dict[bytes, dict[int, tuple[Credit, ...]]] = field(default_factory=dict)
    unknown: dict[bytes, CommonloreError] = field(default_factory=dict)
    statements: list[bytes] = field(default_factory=list)
    measured: dict[Cid, bytes] = field(default_factory=dict)
    pools: dict[Cid, PoolDivision] = field(default_factory=dict)

    def credits_of(self, receipt_hash: bytes, published: Sequence[Credit]) -> tuple[Credit, ...]:
        """A receipt's credits; those of parts that cannot be divided now as they were published."""
        divided = self.credits.get(receipt_hash, {})
        kept = [credit for credit in published if number_of(credit) not in divided]
        return (*(credit for number in sorted(divided) for credit in divided[number]), *kept)


_Entry = tuple[StoredReceipt, ReceiptPart]
"""A receipt, and its part in some pool."""


@dataclass(frozen=True, slots=True)
class Counted:
    """The statements that count for a receipt, in their order, and the measurements that may count, as
    sealed."""

    statements: tuple[SealedStatement, ...]
    measured: dict[Cid, bytes]


class Crediting:
    """Divides receipts. `worker_key` is the Ed25519 key of the lane, whose statements count first; those of
    others count too where `seconds` says that only who was asked can have put them into `records`. `state`
    has drawn receipts scored that were not yet; statements by an index that is `barred` do not count.
    """

    def __init__(
        self,
        accounts: NetworkAccounts,
        records: Records,
        adapters: AdapterSource,
        worker_key: bytes,
        *,
        seconds: bool = False,
        state: StateDrawn | None = None,
        barred: IsBarred | None = None,
    ) -> None:
        self._accounts = accounts
        self._records = records
        self._manifest = adapters.adapter
        self._measurement = adapters.measurement
        self._worker_key = worker_key
        self._seconds = seconds
        self._state = state
        self._barred = barred

    async def divide(
        self, receipts: Sequence[StoredReceipt], worker: Address, beacon: bytes = b""
    ) -> Division:
        """The credits of all receipts of one commitment, pool by pool. `worker` is where the worker's share
        goes; `beacon` was drawn after the receipts were committed.
        """
        division = Division()
        pools: dict[Cid | None, list[_Entry]] = {}
        for stored in receipts:
            for part in receipt_parts(stored.receipt):
                if part.price:
                    pools.setdefault(part.adapter, []).append((stored, part))
        for adapter, pool in pools.items():
            try:
                await self._divide_pool(division, adapter, pool, worker, beacon)
            except CommonloreError as error:
                division.unknown |= dict.fromkeys((stored.receipt_hash for stored, _ in pool), error)
        return division

    async def _divide_pool(
        self,
        division: Division,
        adapter: Cid | None,
        pool: Sequence[_Entry],
        worker: Address,
        beacon: bytes,
    ) -> None:
        if adapter is None:
            for one, part in pool:
                division.credits[one.receipt_hash] = {part.number: self._credits(one, part, worker)}
            return
        manifest = await self._manifest(adapter)
        amounts = {one.receipt_hash: part.shares.contributors for one, part in pool}
        counted, raw = list[SealedStatement](), dict[Cid, bytes]()
        for receipt_hash in sorted(draw_receipts(beacon, amounts)):
            drawn = await self._drawn(receipt_hash, adapter, beacon)
            counted += drawn.statements
            raw |= drawn.measured
        measured = {cid: open_measurement(each, manifest) for cid, each in raw.items()}
        found = divide_by_statements(beacon, manifest, amounts, counted, self._worker_key, measured)
        division.pools[adapter] = found
        division.measured |= raw
        division.statements += [sealed.raw for sealed in counted]
        for one, part in pool:
            weights = found.receipts[one.receipt_hash].weights
            credits = self._credits(one, part, worker, manifest, weights)
            division.credits.setdefault(one.receipt_hash, {})[part.number] = credits
        for receipt_hash in sorted(found.disputed):
            log.warning("two attributors disagree on %s: prior weights until ruled", receipt_hash.hex())
        for receipt_hash in sorted(found.challenged):
            log.warning("an index is challenged on %s: prior weights divide it", receipt_hash.hex())

    async def _drawn(self, receipt_hash: bytes, adapter: Cid, beacon: bytes) -> Counted:
        """The statements on a drawn receipt; where there is none it is scored now, if it can be."""
        found = await self.counting(receipt_hash, adapter, beacon)
        if found.statements or self._state is None:
            return found
        try:
            await self._state(receipt_hash, adapter, beacon)
        except (CommonloreError, trio.TooSlowError) as error:
            log.warning("no statement on %s, which was drawn: %s", receipt_hash.hex(), error)
        return await self.counting(receipt_hash, adapter, beacon)

    async def credits_of(self, stored: StoredReceipt, worker: Address) -> tuple[Credit, ...]:
        """The credits of one receipt by itself, as small pools pay it; they sum to its price.

        Raises what reading its adapters' manifests raises, and ProtocolError where manifest and receipt
        disagree.
        """
        found: list[Credit] = []
        for part in receipt_parts(stored.receipt):
            if part.adapter is None or not part.price:
                found += self._credits(stored, part, worker)
                continue
            manifest = await self._manifest(part.adapter)
            weights = (await self.judged(manifest, part.adapter, stored.receipt_hash)).weights
            found += self._credits(stored, part, worker, manifest, weights)
        return tuple(found)

    async def authors_of(self, receipt: Receipt) -> tuple[Address, ...]:
        """Where the authors of a receipt's adapters are paid, in the adapters' order."""
        return tuple([(await self._manifest(entry.adapter)).author_payee for entry in receipt.adapters])

    async def judged(self, manifest: AdapterManifest, adapter: Cid, receipt_hash: bytes) -> Judged:
        """A receipt's weights by the statements on it, or the priors, and on what they rest."""
        found = await self.counting(receipt_hash, adapter)
        return judge_statements(found.statements, manifest)

    async def counting(self, receipt_hash: bytes, adapter: Cid, beacon: bytes = b"") -> Counted:
        """The statements that count for a receipt, in their order. Raises what reading the manifest does."""
        manifest = await self._manifest(adapter)
        known = await self._records.statements(receipt_hash, adapter)
        asked = [one for one in known if self._seconds or one.public_key == self._worker_key]
        barred = await self._barred_among(asked, manifest)
        asked = [one for one in asked if one.record.index not in barred]
        measured, raw = await self._measured(asked, manifest)
        found = counting(asked, manifest, receipt_hash, self._worker_key, measured, beacon)
        named = {one.record.faithfulness for one in found}
        return Counted(found, {cid: each for cid, each in raw.items() if cid in named})

    async def _barred_among(
        self, statements: Sequence[SealedStatement], manifest: AdapterManifest
    ) -> frozenset[Cid]:
        if self._barred is None:
            return frozenset()
        named = {one.record.index for one in statements if one.record.index is not None}
        return frozenset([index for index in sorted(named) if await self._barred(manifest, index)])

    async def _measured(
        self, statements: Sequence[SealedStatement], manifest: AdapterManifest
    ) -> tuple[Measurements, dict[Cid, bytes]]:
        """The measurement that the worker's own statement names, opened and as sealed; others' do not count
        beside it unless they name the same."""
        own = (one.record.faithfulness for one in statements if one.public_key == self._worker_key)
        cid = next(own, None)
        if cid is None:
            return {}, {}
        try:
            raw = await self._measurement(cid)
            return {cid: open_measurement(raw, manifest)}, {cid: raw}
        except (NotFound, Unreachable, RemoteProtocolError, InvalidSignature) as error:
            log.warning("the measurement %s does not count: %s", cid, error)
            return {}, {}

    def _credits(
        self,
        stored: StoredReceipt,
        part: ReceiptPart,
        worker: Address,
        manifest: AdapterManifest | None = None,
        weights: tuple[Weight, ...] = (),
    ) -> tuple[Credit, ...]:
        author = None if manifest is None else manifest.author_payee
        payees = RolePayees(self._accounts.platform, worker, author, self._accounts.work_pool)
        number = part.number if len(stored.receipt.adapters) > 1 else None
        return divide_shares(part.shares, payees, weights, number)
