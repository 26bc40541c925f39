"""A commitment's contributors' credits recomputed by a stranger, from what two commitments publish.

Rules of this file: the receipts are those of the earlier commitment, the statements and the beacon those that
the later one publishes beside its credits, and the measurements that statements name. Whether the beacon is
the hash of the block in which the earlier one was posted, and whether a published statement's weights are
right, is for others to look at: the chain, and `receipt verify`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from ..attribution.faithfulness import Faithfulness, Measurements, open_measurement
from ..attribution.pool_evidence import SealedStatement, divide_by_statements
from ..attribution.pools import PoolDivision
from ..content.manifests import AdapterManifest
from ..errors import InvalidSignature, RemoteProtocolError
from ..ids import ZERO_ADDRESS, Address, Cid, cid_of
from ..receipts.channels import mix_adapters
from ..receipts.credits import RolePayees, divide_shares
from ..receipts.parts import ReceiptPart
from ..receipts.records import AttributionStatement, Weight
from ..signing.eip712 import Domain, digest
from ..signing.envelope import open_sealed
from .commitments import EpochData
from .epoch_leaves import NO_POOL, ROLES

MAX_STATEMENT_BYTES = 1 << 20
_CONTRIBUTOR = ROLES.index("contributor")
_Entry = tuple[bytes, ReceiptPart]
"""A receipt's hash, and its part in the pool."""


@dataclass(frozen=True, slots=True)
class CheckedPool:
    """A pool as it should be divided, and the contributors whose credit is another: (owed, credited)."""

    division: PoolDivision
    wrong: Mapping[Address, tuple[int, int]]


def recheck_pools(
    domain: Domain,
    earlier: EpochData,
    later: EpochData,
    manifests: Mapping[bytes, AdapterManifest],
    worker_key: bytes,
) -> dict[bytes, CheckedPool]:
    """Every pool of `earlier` whose adapter's manifest is given (by pool), divided again.

    `worker_key` is the Ed25519 key of the lane. Raises RemoteProtocolError or InvalidSignature where a
    published statement is not sealed as it says, LocalProtocolError where a receipt's adapters weigh nothing.
    """
    statements = [_opened(raw) for raw in later.statements]
    sealed = {cid_of(raw): raw for raw in later.measured or ()}
    pools: dict[bytes, list[_Entry]] = {}
    for settled in earlier.receipts:
        receipt_hash = digest(domain, settled.receipt)
        for placed in settled.placed:
            if placed.adapter != NO_POOL and placed.part.price:
                pools.setdefault(placed.pool, []).append((receipt_hash, placed.part))
    return {
        pool: _recheck(pool, entries, manifests[pool], (statements, sealed, later, worker_key))
        for pool, entries in pools.items()
        if pool in manifests
    }


def paid_weights(
    domain: Domain, earlier: EpochData, pools: Mapping[bytes, CheckedPool]
) -> dict[bytes, tuple[Weight, ...]]:
    """By what weights each receipt whose pools are all known is paid, over all its adapters, by its hash."""
    found: dict[bytes, tuple[Weight, ...]] = {}
    for settled in earlier.receipts:
        placed = [one for one in settled.placed if one.adapter != NO_POOL and one.part.price]
        receipt_hash = digest(domain, settled.receipt)
        if placed and all(one.pool in pools for one in placed):
            found[receipt_hash] = mix_adapters(
                [
                    (pools[one.pool].division.receipts[receipt_hash].weights, one.part.weight_ppm)
                    for one in placed
                ]
            )
    return found


def _recheck(
    pool: bytes,
    entries: list[_Entry],
    manifest: AdapterManifest,
    published: tuple[list[SealedStatement], Mapping[Cid, bytes], EpochData, bytes],
) -> CheckedPool:
    statements, sealed, later, worker_key = published
    amounts = {receipt_hash: part.shares.contributors for receipt_hash, part in entries}
    measured = _measured(sealed, manifest)
    division = divide_by_statements(later.beacon, manifest, amounts, statements, worker_key, measured)
    owed: dict[Address, int] = {}
    payees = RolePayees(ZERO_ADDRESS, ZERO_ADDRESS, manifest.author_payee, ZERO_ADDRESS)
    for receipt_hash, part in entries:
        for credit in divide_shares(part.shares, payees, division.receipts[receipt_hash].weights):
            if credit.role == "contributor":
                owed[credit.account] = owed.get(credit.account, 0) + credit.amount
    credited = {
        one.account: one.amount for one in later.credits if (one.pool, one.role) == (pool, _CONTRIBUTOR)
    }
    accounts = sorted(owed.keys() | credited.keys())
    pairs = {account: (owed.get(account, 0), credited.get(account, 0)) for account in accounts}
    return CheckedPool(division, {account: pair for account, pair in pairs.items() if pair[0] != pair[1]})


def _measured(sealed: Mapping[Cid, bytes], manifest: AdapterManifest) -> Measurements:
    """Those that are the adapter's, out of all that were published."""
    found: dict[Cid, Faithfulness] = {}
    for cid, raw in sealed.items():
        with suppress(RemoteProtocolError, InvalidSignature):
            found[cid] = open_measurement(raw, manifest)
    return found


def _opened(raw: bytes) -> SealedStatement:
    if len(raw) > MAX_STATEMENT_BYTES:
        raise RemoteProtocolError(f"a statement of {len(raw)} bytes")
    return open_sealed(raw, (AttributionStatement,), MAX_STATEMENT_BYTES)
