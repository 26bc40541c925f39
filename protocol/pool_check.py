"""A commitment's contributors' credits recomputed by a stranger, from what two commitments publish.

Rules of this file: the receipts are those of the earlier commitment, the statements and the beacon those that
the later one publishes beside its credits. Whether the beacon is the hash of the block after the earlier one
was posted, and whether a published statement's weights are right, is for others to look at: the chain, and
`receipt verify`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .credits import RolePayees, compute_credits
from .eip712 import Domain, digest
from .envelope import open_sealed
from .epoch_leaves import NO_POOL, ROLES
from .errors import RemoteProtocolError
from .ids import ZERO_ADDRESS, Address
from .manifests import AdapterManifest
from .pool_evidence import SealedStatement, divide_by_statements
from .pools import PoolDivision
from .receipts import AttributionStatement
from .settled import SettledReceipt
from .settlement import EpochData

MAX_STATEMENT_BYTES = 1 << 20
_CONTRIBUTOR = ROLES.index("contributor")


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
    published statement is not sealed as it says.
    """
    statements = [_opened(raw) for raw in later.statements]
    pools: dict[bytes, list[SettledReceipt]] = {}
    for settled in earlier.receipts:
        if settled.pool != NO_POOL:
            pools.setdefault(settled.pool, []).append(settled)
    return {
        pool: _recheck(domain, pool, receipts, manifests[pool], (statements, later, worker_key))
        for pool, receipts in pools.items()
        if pool in manifests
    }


def _recheck(
    domain: Domain,
    pool: bytes,
    receipts: list[SettledReceipt],
    manifest: AdapterManifest,
    published: tuple[list[SealedStatement], EpochData, bytes],
) -> CheckedPool:
    statements, later, worker_key = published
    by_hash = {digest(domain, settled.receipt): settled for settled in receipts}
    amounts = {each: settled.receipt.shares.contributors for each, settled in by_hash.items()}
    division = divide_by_statements(later.beacon, manifest, amounts, statements, worker_key)
    owed: dict[Address, int] = {}
    payees = RolePayees(ZERO_ADDRESS, ZERO_ADDRESS, manifest.author_payee, ZERO_ADDRESS)
    for receipt_hash, settled in by_hash.items():
        weights = division.receipts[receipt_hash].weights
        for credit in compute_credits(settled.receipt, payees, weights):
            if credit.role == "contributor":
                owed[credit.account] = owed.get(credit.account, 0) + credit.amount
    credited = {
        one.account: one.amount for one in later.credits if (one.pool, one.role) == (pool, _CONTRIBUTOR)
    }
    accounts = sorted(owed.keys() | credited.keys())
    pairs = {account: (owed.get(account, 0), credited.get(account, 0)) for account in accounts}
    return CheckedPool(division, {account: pair for account, pair in pairs.items() if pair[0] != pair[1]})


def _opened(raw: bytes) -> SealedStatement:
    if len(raw) > MAX_STATEMENT_BYTES:
        raise RemoteProtocolError(f"a statement of {len(raw)} bytes")
    return open_sealed(raw, (AttributionStatement,), MAX_STATEMENT_BYTES)
