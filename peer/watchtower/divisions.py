"""Whether contributors were credited as the published statements divide, under the chain's own beacon.

Rules of this file:

- No contract knows a statement, so nothing here can be proved to one: it is said, to whoever watches, and no
  attributor attests to a division that is not what the lane itself published.
- A lane credits a receipt that it cannot divide as it had published it before anything was drawn, and a
  successor credits all receipts so, as it has no statements. Of a lane's own that is said, of a successor's
  not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

import trio

from ...contracts.calling.records import PostedCommitment
from ...contracts.client.chain import ChainClient
from ...protocol.content.manifests import AdapterManifest
from ...protocol.errors import InvalidSignature, LocalProtocolError, RemoteProtocolError
from ...protocol.ids import Address, Cid, checksummed
from ...protocol.settlement.commitments import EpochData
from ...protocol.settlement.epoch_leaves import ROLES, PoolCredit
from ...protocol.settlement.pool_check import CheckedPool, recheck_pools
from ...protocol.settlement.settled import pool_credits
from ..settling.claiming import on_chain

_CONTRIBUTOR = ROLES.index("contributor")
_MOST_NAMED = 3
ReadManifest = Callable[[Cid], Awaitable[AdapterManifest]]
"""An adapter's manifest by its id. Raises NotFound, ProtocolError."""


@dataclass(frozen=True, slots=True)
class Divided:
    """The pools of a commitment divided again, those alone whose credits follow; and what does not, in
    words."""

    pools: Mapping[bytes, CheckedPool] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()


async def divide_again(
    client: ChainClient, posted: PostedCommitment, epochs: tuple[EpochData, EpochData], read: ReadManifest
) -> Divided:
    """Of the data of a posted commitment and of the one after it: whether the latter's credits follow.

    Raises what reading a manifest raises, Unreachable, ChainError.
    """
    earlier, later = epochs
    pools = {placed.pool: placed.part.adapter for one in earlier.receipts for placed in one.placed}
    manifests = {pool: await read(adapter) for pool, adapter in pools.items() if adapter is not None}
    if not manifests:
        return Divided()
    where = f"epoch {later.epoch} of lane {checksummed(posted.lane)}"
    if await on_chain(_is_succession, client, posted.lane, later.epoch):
        wrong = _unlike_published(earlier, later)
        return Divided(doubts=(f"{where}: {wrong}",) if wrong else ())
    if later.beacon != await on_chain(client.postings.beacon_after, posted.lane, posted.commitment.epoch):
        said = f"the receipts of epoch {earlier.epoch} were drawn by another beacon than its block"
        return Divided(doubts=(f"{where}: {said}",))
    worker = await on_chain(client.bindings.peer_key, posted.lane) or b""
    domain = client.deployment.domain
    try:
        found = await trio.to_thread.run_sync(recheck_pools, domain, earlier, later, manifests, worker)
    except (RemoteProtocolError, InvalidSignature, LocalProtocolError) as error:
        return Divided(doubts=(f"{where}: what it publishes divides nothing: {error}",))
    lacks = "" if worker else "; no key of its worker is on the chain"
    doubts = [f"{where}: {_said(pools[pool], checked)}{lacks}" for pool, checked in found.items()
              if checked.wrong]  # fmt: skip
    return Divided({pool: checked for pool, checked in found.items() if not checked.wrong}, tuple(doubts))


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
