"""Who earns what from receipts: their shares, by the statements on them or else by the prior weights.

Rules of this file: what is decided is decided in `protocol.pool_evidence`; here statements and manifests are
read. Of a pool only the drawn receipts' statements are read at all.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import trio

from ...protocol.attribution import prior_weights
from ...protocol.credits import RolePayees, compute_credits, heaviest_adapter
from ...protocol.errors import CommonloreError
from ...protocol.ids import ZERO_ADDRESS, Address, Cid
from ...protocol.manifests import AdapterManifest
from ...protocol.pool_evidence import SealedStatement, counting, divide_by_statements
from ...protocol.pools import Judged, PoolDivision, draw_receipts, judge
from ...protocol.receipts import Credit, Receipt, Weight
from ..store.ledger_rows import StoredReceipt
from ..store.records import Records

log = logging.getLogger("commonlore.peer.settling.crediting")
ReadManifest = Callable[[Cid], Awaitable[AdapterManifest]]
"""An adapter's manifest by its id. Raises NotFound, Unreachable, InvalidAdapter."""

StateDrawn = Callable[[bytes, bytes], Awaitable[None]]
"""Have a receipt (by its hash) scored that a beacon drew, if it waits for that."""


@dataclass(frozen=True, slots=True)
class NetworkAccounts:
    """The accounts of the platform's and the work pool's shares, fixed at deployment."""

    platform: Address
    work_pool: Address


@dataclass(slots=True)
class Division:
    """A commitment's receipts divided: credits by receipt hash, each summing to its price.

    `unknown` are receipts that cannot be divided now, and why; `statements` the sealed statements that
    counted, as they came; `pools` what was found of each adapter.
    """

    credits: dict[bytes, tuple[Credit, ...]] = field(default_factory=dict)
    unknown: dict[bytes, CommonloreError] = field(default_factory=dict)
    statements: list[bytes] = field(default_factory=list)
    pools: dict[Cid, PoolDivision] = field(default_factory=dict)


class Crediting:
    """Divides receipts. `worker_key` is the Ed25519 key of the lane, whose statements count first; those of
    others count too where `seconds` says that only who was asked can have put them into `records`. `state`
    has drawn receipts scored that were not yet.
    """

    def __init__(
        self,
        accounts: NetworkAccounts,
        records: Records,
        manifest: ReadManifest,
        worker_key: bytes,
        *,
        seconds: bool = False,
        state: StateDrawn | None = None,
    ) -> None:
        self._accounts = accounts
        self._records = records
        self._manifest = manifest
        self._worker_key = worker_key
        self._seconds = seconds
        self._state = state

    async def divide(
        self, receipts: Sequence[StoredReceipt], worker: Address, beacon: bytes = b""
    ) -> Division:
        """The credits of all receipts of one commitment, pool by pool. `worker` is where the worker's share
        goes; `beacon` was drawn after the receipts were committed.
        """
        division = Division()
        pools: dict[Cid | None, list[StoredReceipt]] = {}
        for stored in receipts:
            pools.setdefault(heaviest_adapter(stored.receipt.adapters), []).append(stored)
        for adapter, pool in pools.items():
            try:
                await self._divide_pool(division, adapter, pool, worker, beacon)
            except CommonloreError as error:
                division.unknown |= dict.fromkeys((stored.receipt_hash for stored in pool), error)
        return division

    async def _divide_pool(
        self,
        division: Division,
        adapter: Cid | None,
        pool: Sequence[StoredReceipt],
        worker: Address,
        beacon: bytes,
    ) -> None:
        if adapter is None:
            division.credits |= {one.receipt_hash: self._credits(one.receipt, worker) for one in pool}
            return
        manifest = await self._manifest(adapter)
        amounts = {one.receipt_hash: one.receipt.shares.contributors for one in pool}
        counted: list[SealedStatement] = []
        for receipt_hash in sorted(draw_receipts(beacon, amounts)):
            counted += await self._drawn(receipt_hash, adapter, beacon)
        found = divide_by_statements(beacon, manifest, amounts, counted, self._worker_key)
        division.pools[adapter] = found
        division.statements += [sealed.raw for sealed in counted]
        for one in pool:
            weights = found.receipts[one.receipt_hash].weights
            division.credits[one.receipt_hash] = self._credits(one.receipt, worker, manifest, weights)
        for receipt_hash in sorted(found.disputed):
            log.warning("two attributors disagree on %s: prior weights until ruled", receipt_hash.hex())

    async def _drawn(self, receipt_hash: bytes, adapter: Cid, beacon: bytes) -> tuple[SealedStatement, ...]:
        """The statements on a drawn receipt; where there is none it is scored now, if it can be."""
        found = await self.counting(receipt_hash, adapter, beacon)
        if found or self._state is None:
            return found
        try:
            await self._state(receipt_hash, beacon)
        except (CommonloreError, trio.TooSlowError) as error:
            log.warning("no statement on %s, which was drawn: %s", receipt_hash.hex(), error)
        return await self.counting(receipt_hash, adapter, beacon)

    async def credits_of(self, receipt: Receipt, receipt_hash: bytes, worker: Address) -> tuple[Credit, ...]:
        """The credits of one receipt by itself, as a small pool pays it; they sum to its price.

        Raises what reading the adapter's manifest raises, and ProtocolError where manifest and receipt
        disagree.
        """
        adapter = heaviest_adapter(receipt.adapters)
        if adapter is None:
            return self._credits(receipt, worker)
        manifest = await self._manifest(adapter)
        weights = (await self.judged(manifest, adapter, receipt_hash)).weights
        return self._credits(receipt, worker, manifest, weights)

    async def author_of(self, receipt: Receipt) -> Address:
        """Where the author of a receipt's adapter is paid; the zero address where it used none."""
        adapter = heaviest_adapter(receipt.adapters)
        return ZERO_ADDRESS if adapter is None else (await self._manifest(adapter)).author_payee

    async def judged(self, manifest: AdapterManifest, adapter: Cid, receipt_hash: bytes) -> Judged:
        """A receipt's weights by the statements on it, or the priors, and on what they rest."""
        found = await self.counting(receipt_hash, adapter)
        return judge([sealed.record.weights for sealed in found], prior_weights(manifest))

    async def counting(
        self, receipt_hash: bytes, adapter: Cid, beacon: bytes = b""
    ) -> tuple[SealedStatement, ...]:
        """The statements that count for a receipt, in their order. Raises what reading the manifest does."""
        manifest = await self._manifest(adapter)
        known = await self._records.statements(receipt_hash, adapter)
        asked = [one for one in known if self._seconds or one.public_key == self._worker_key]
        return counting(asked, manifest, receipt_hash, self._worker_key, beacon)

    def _credits(
        self,
        receipt: Receipt,
        worker: Address,
        manifest: AdapterManifest | None = None,
        weights: tuple[Weight, ...] = (),
    ) -> tuple[Credit, ...]:
        author = None if manifest is None else manifest.author_payee
        payees = RolePayees(self._accounts.platform, worker, author, self._accounts.work_pool)
        return compute_credits(receipt, payees, weights)
