"""Which rows an adapter's index holds and under which projection: rules that leave its author no choice.

Rules of this file:

- The projection's seed is H(domain ‖ adapter id ‖ beacon). The beacon is the hash of the block in which the
  adapter was registered: nobody knew it before the id was fixed, and an adapter is registered once, so that
  there is one. Where a network has no chain the beacon is empty; where it has one, an index with any other
  beacon counts for nothing, and so does every index of an adapter that is not registered.
- The manifest's plan, fixed with the id and so before the seed, says how many rows training only measured
  and how many are indexed. Of the rows that count (`selections`) the `heldout` with the lowest row hashes
  were only measured. Of the others `rows` are indexed, taken from the contributors in turn; contributors, and
  the rows of each, stand in the order of their lots, SHA-256("commonlore/indexed/1" ‖ seed ‖ account or row
  hash).
- An index lists contributors ascending by account and each one's rows by their lots.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

from ..content.manifests import AdapterManifest, IndexManifest, IndexPlan
from ..errors import RemoteProtocolError
from ..ids import Address, Cid, digest_of
from .scoring import compute_priors

Owned = tuple[Address, bytes]
"""A row by its hash, behind the account of its contributor."""


def projection_seed(adapter: Cid, beacon: bytes = b"") -> bytes:
    """The projection's 32-byte seed: fixed by the adapter's id and by a beacon drawn after it."""
    return hashlib.sha256(b"commonlore/attribution/1" + digest_of(adapter) + beacon).digest()


def held_out(counted: Iterable[bytes], count: int) -> frozenset[bytes]:
    """The row hashes, of those that count, that training only measures."""
    return frozenset(sorted(counted)[:count])


def trained_rows(counted: Sequence[Owned], heldout: int) -> list[Owned]:
    """The rows that training learns from, in its order: by their hashes less those that it only measures;
    where it measures none of them, in the order of commitments."""
    if not heldout:
        return list(counted)
    return sorted(counted, key=lambda owned: owned[1])[heldout:]


def plan_rows(counted: Sequence[Owned], plan: IndexPlan, seed: bytes) -> list[Owned]:
    """The rows of an index in its order, out of those that count."""
    measured = held_out((digest for _, digest in counted), plan.heldout)
    own: dict[Address, list[bytes]] = {}
    for payee, digest in counted:
        if digest not in measured:
            own.setdefault(payee, []).append(digest)
    turns = {payee: sorted(rows, key=lambda row: _lot(seed, row)) for payee, rows in own.items()}
    shares = _shares({payee: len(rows) for payee, rows in turns.items()}, plan.rows, seed)
    return [(payee, row) for payee in sorted(turns) for row in turns[payee][: shares[payee]]]


def check_beacon(index: IndexManifest, registered: bytes | None) -> None:
    """Raises RemoteProtocolError unless an index's projection is that of its adapter and of this beacon: the
    hash of the block that registered the adapter, empty where no chain did; None in a network without one.
    """
    if index.seed != projection_seed(index.adapter, index.beacon):
        raise RemoteProtocolError("the index's projection is not that of its adapter and its beacon")
    if registered is None and index.beacon:
        raise RemoteProtocolError("the index names a beacon where no chain is that could have drawn it")
    if registered is not None and not registered:
        raise RemoteProtocolError("the adapter is not registered on the chain: no index of it counts")
    if registered is not None and index.beacon != registered:
        raise RemoteProtocolError(
            "the index's beacon is not the block that registered its adapter: its projection may be chosen"
        )


def check_indexed(manifest: AdapterManifest, index: IndexManifest, counted: Sequence[Owned]) -> None:
    """Raises RemoteProtocolError unless an index holds just the rows that its adapter's manifest plans, out
    of those that count."""
    if manifest.indexed is None:
        raise RemoteProtocolError(
            "the adapter's manifest does not say which rows are indexed: its author could leave out any"
        )
    planned = plan_rows(counted, manifest.indexed, index.seed)
    given = list(zip(index.owners, index.row_hashes, strict=False))
    if len(index.row_hashes) == index.row_count and given == planned:
        return
    missing, foreign = (
        list((Counter(a) - Counter(b)).elements()) for a, b in ((planned, given), (given, planned))
    )
    if not missing and not foreign:
        raise RemoteProtocolError("the index's rows do not stand in the order that its projection draws")
    raise RemoteProtocolError(
        f"the index lacks {len(missing)} of the {len(planned)} rows that its adapter plans{_first(missing)} "
        f"and has {len(foreign)} others{_first(foreign)}"
    )


def check_priors(manifest: AdapterManifest, counted: Sequence[Owned]) -> None:
    """Raises RemoteProtocolError unless a trained adapter's prior weights are its contributors' shares of the
    rows that count."""
    counts = Counter(payee for payee, _ in counted)
    if not counts or manifest.priors != compute_priors(counts.items()):
        raise RemoteProtocolError("the adapter's prior weights are not its contributors' shares of its rows")


def _shares(own: dict[Address, int], count: int, seed: bytes) -> dict[Address, int]:
    """How many rows of each contributor are reached by going round, one at a time, until `count` are."""
    shares = dict.fromkeys(own, 0)
    waiting: list[Address] = sorted(own, key=lambda payee: _lot(seed, payee))
    while waiting and count > 0:
        whole = max(1, min(count // len(waiting), min(own[payee] - shares[payee] for payee in waiting)))
        for payee in waiting[:count]:
            shares[payee] += whole
            count -= whole
        waiting = [payee for payee in waiting if shares[payee] < own[payee]]
    return shares


def _first(rows: Sequence[Owned]) -> str:
    return f" (one of 0x{rows[0][0].hex()})" if rows else ""


def _lot(seed: bytes, name: bytes) -> bytes:
    return hashlib.sha256(b"commonlore/indexed/1" + seed + name).digest()
