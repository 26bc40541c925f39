"""Indexes on the chain: an author commits to its own when it publishes it, and what became of that.

Rules of this file: what counts is what an adapter's author committed under the account that the adapter is
registered for, of one index what it did first: a later commitment begins no other window, and makes no
receipt of before look wrong. Anybody else may commit to anything. While an index can be challenged no lane
divides by it, and where one of its author's commitments was shown wrong nobody goes by it any more. Without a
bond, as an attributor or as a contributor, an index is not committed, and is as good as its numbers: whoever
checks a receipt adds them up, and is told so.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import trio

from ...contracts.client.bonding import BondRole
from ...contracts.client.chain import ChainClient
from ...contracts.client.indexing import CommittedIndex
from ...protocol.attribution.index_trees import IndexCommitment, PublishedIndex, build_index_trees
from ...protocol.content.manifests import AdapterManifest
from ...protocol.errors import CommonloreError, NotFound, RemoteProtocolError
from ...protocol.ids import Cid, digest_of
from ...protocol.signing.eip712 import Domain
from ..chain import OFFLINE
from .claiming import on_chain

log = logging.getLogger("commonlore.peer.settling.committed_indexes")


@dataclass(frozen=True, slots=True)
class IndexStanding:
    """What the chain says of an index. `seconds_left` is for how long it can still be challenged."""

    commitment: IndexCommitment
    killed: str = ""
    seconds_left: int = 0

    def require(self) -> None:
        """Raises RemoteProtocolError where the index was shown wrong."""
        if self.killed:
            raise RemoteProtocolError(
                f"the index was shown wrong on the chain ({self.killed}): nothing is paid by it"
            )


async def standing_of(
    domain: Domain, client: ChainClient | None, manifest: AdapterManifest, index: Cid
) -> IndexStanding | None:
    """What an adapter's author committed of an index; None where it did not, or no chain is. Raises NotFound
    where this peer has no endpoint of its network's chain, Unreachable, ChainError."""
    if domain == OFFLINE:
        return None
    if client is None:
        raise NotFound("whether an index stands the chain tells: set chain_url")
    made = await on_chain(client.indexes.of, manifest.author_payee, digest_of(index))
    if not made:
        return None
    return await on_chain(_standing, client, next((one for one in made if one.killed), made[0]))


async def is_barred(
    domain: Domain, client: ChainClient | None, manifest: AdapterManifest, index: Cid
) -> bool:
    """Whether a lane divides nothing by an index yet, or any more: it can still be challenged, or was shown
    wrong. Raises as `standing_of`."""
    standing = await standing_of(domain, client, manifest, index)
    return standing is not None and bool(standing.killed or standing.seconds_left)


def _standing(client: ChainClient, made: CommittedIndex) -> IndexStanding:
    left = client.indexes.open_until(made.commitment) - client.chain_time()
    return IndexStanding(made.commitment, made.killed, max(left, 0))


async def commit_own(client: ChainClient | None, index: Cid, published: PublishedIndex) -> bool:
    """Commit this peer's account to an index that it publishes, once; whether it is committed. What stands in
    the way is said, and keeps nothing from being published."""
    if client is None:
        return False
    try:
        return await _commit(client, index, published)
    except CommonloreError as error:
        log.warning("the index %s is not committed: %s; the same order again commits it", index, error)
        return False


async def _commit(client: ChainClient, index: Cid, published: PublishedIndex) -> bool:
    least = await on_chain(client.indexes.minimum_bond)
    roles = (BondRole.ATTRIBUTOR, BondRole.CONTRIBUTOR)
    bonds = [await on_chain(client.bonds.standing, client.address, role) for role in roles]
    if max(bonds) < max(least, 1):
        log.info("the index %s is not committed on the chain: no bond as a contributor", index)
        return False
    trees = await trio.to_thread.run_sync(build_index_trees, published)
    commitment = trees.commitment(client.address, index, published.manifest)
    made = await on_chain(client.indexes.of, client.address, commitment.manifest)
    if commitment not in {one.commitment for one in made}:
        sent = await on_chain(client.indexes.commit, commitment)
        log.info("committed to the index %s", index, extra={"tx": sent.text})
    return True
