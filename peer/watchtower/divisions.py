"""Whether contributors were credited as the published statements divide, under the chain's own beacon.

Rules of this file:

- No contract knows a statement, so nothing here can be proved to one: it is said, to whoever watches, and no
  attributor attests to a division that is not what the lane itself published.
- A lane credits a receipt that it cannot divide as it had published it before anything was drawn, and a
  successor credits all receipts so, as it has no statements. Of a lane's own that is said, of a successor's
  not.
- A pool whose adapter's manifest cannot be had is not judged, and that is said; it keeps no other pool from
  being judged. Else a lane could hide what it pays behind one receipt by an adapter that nobody has.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

import trio

from ...contracts.calling.records import PostedCommitment
from ...contracts.client.chain import ChainClient
from ...protocol.content.manifests import AdapterManifest
from ...protocol.errors import (
    InvalidAdapter,
    InvalidSignature,
    LocalProtocolError,
    NotFound,
    ProtocolError,
    RemoteProtocolError,
    Unreachable,
)
from ...protocol.ids import Address, Cid, checksummed
from ...protocol.settlement.commitments import EpochData
from ...protocol.settlement.epoch_leaves import ROLES, PoolCredit
from ...protocol.settlement.pool_check import CheckedPool, recheck_pools
from ...protocol.settlement.settled import pool_credits
from ..settling.claiming import on_chain

_CONTRIBUTOR = ROLES.index("contributor")
_MOST_NAMED = 3
ReadManifest = Callable[[Cid], Awaitable[AdapterManifest]]
"""An adapter's manifest by its id. Raises NotFound, Unreachable, ProtocolError, InvalidAdapter."""


@dataclass(frozen=True, slots=True)
class Divided:
    """The pools of a commitment divided again, those alone whose credits follow; and in words what does not,
    and what could not be judged."""

    pools: Mapping[bytes, CheckedPool] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


async def divide_again(
    client: ChainClient, posted: PostedCommitment, epochs: tuple[EpochData, EpochData], read: ReadManifest
) -> Divided:
    """Of the data of a posted commitment and of the one after it: whether the latter's credits follow.

    Raises Unreachable, ChainError where the chain does not answer.
    """
    earlier, later = epochs
    pools = {placed.pool: placed.part.adapter for one in earlier.receipts for placed in one.placed}
    if not any(adapter is not None for adapter in pools.values()):
        return Divided()
    where = f"epoch {later.epoch} of lane {checksummed(posted.lane)}"
    if await on_chain(_is_succession, client, posted.lane, later.epoch):
        wrong = _unlike_published(earlier, later)
        return Divided(doubts=(f"{where}: {wrong}",) if wrong else ())
    if later.beacon != await on_chain(client.postings.beacon_after, posted.lane, posted.commitment.epoch):
        said = f"the receipts of epoch {earlier.epoch} were drawn by another beacon than its block"
        return Divided(doubts=(f"{where}: {said}",))
    manifests, unread = await _read_all(pools, read)
    worker = await on_chain(client.bindings.peer_key, posted.lane) or b""
    domain = client.deployment.domain
    try:
        found = await trio.to_thread.run_sync(recheck_pools, domain, earlier, later, manifests, worker)
    except (RemoteProtocolError, InvalidSignature, LocalProtocolError) as error:
        return Divided(doubts=(f"{where}: what it publishes divides nothing: {error}",))
    lacks = "" if worker else "; no key of its worker is on the chain"
    doubts = [f"{where}: {_said(pools[pool], checked)}{lacks}" for pool, checked in found.items()
              if checked.wrong]  # fmt: skip
    follow = {pool: checked for pool, checked in found.items() if not checked.wrong}
    return Divided(follow, tuple(doubts), tuple(f"{where}: {each}" for each in unread))


async def _read_all(
    pools: Mapping[bytes, Cid | None], read: ReadManifest
) -> tuple[dict[bytes, AdapterManifest], list[str]]:
    """The manifests of these pools' adapters, and what cannot be judged without those that cannot be had."""
    found, unread = dict[bytes, AdapterManifest](), list[str]()
    for pool, adapter in pools.items():
        if adapter is None:
            continue
        try:
            found[pool] = await read(adapter)
        except (NotFound, Unreachable, ProtocolError, InvalidAdapter) as error:
            unread.append(f"how contributors of {adapter} share is not judged: {error}")
    return found, unread


def _said(adapter: Cid | None, checked: CheckedPool) -> str:
    apart = [
        f"{checksummed(account)} has {credited} and is due {owed}"
        for account, (owed, credited) in list(checked.wrong.items())[:_MOST_NAMED]
    ]
    more = len(checked.wrong) - len(apart)
    told = ", ".join(apart) + (f", and {more} more" if more else "")
    return f"contributors of {adapter} are not credited as its published statements divide: {told}"


def _is_succession(client: ChainClient, lane: Address, epoch: int) -> bool:
    """Whether another than the lane's own node made a commitment. Blocking."""
    *_, succeeded = client.read("Settlement", "posted", checksummed(lane), epoch)
    return bool(succeeded)


def _unlike_published(earlier: EpochData, later: EpochData) -> str:
    """What a successor credits contributors otherwise than the lane had published."""
    due, given = (_by_account(each) for each in (pool_credits(earlier.receipts), later.credits))
    wrong = [key for key in sorted(due.keys() | given.keys()) if due.get(key) != given.get(key)]
    if not wrong:
        return ""
    first = checksummed(wrong[0][1])
    return f"a successor credits {len(wrong)} contributors otherwise than was published, {first} for one"


def _by_account(credits: Iterable[PoolCredit]) -> dict[tuple[bytes, Address], int]:
    return {(one.pool, one.account): one.amount for one in credits if one.role == _CONTRIBUTOR}
