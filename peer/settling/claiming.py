"""Claiming what was earned: a final commitment, its published data, a proof, a transaction.

Anyone may claim for anyone; the money goes to the account's payee. What was claimed before is read from the
chain, so claiming again after a crash pays nothing twice.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TypeVar, TypeVarTuple

import trio

from ...contracts.calling.records import Claims, PaidClaim, PostedCommitment
from ...contracts.client.chain import ChainClient
from ...protocol.encoding.codec import decode
from ...protocol.errors import NotFound, RemoteProtocolError
from ...protocol.ids import DAG_CBOR, RAW, Address, Cid, checksummed, cid_of_digest
from ...protocol.settlement.commitments import Claim, Commitment, EpochData, build_epoch, verify_claim
from ...protocol.settlement.published import MAX_EPOCH_BYTES
from ..clock import Clock
from ..store.epochs import Epochs, Intention, Step

log = logging.getLogger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
FetchTrees = Callable[[Address, Cid], Awaitable[bytes]]
"""(lane, content id) → the published data, verified against the id. Raises NotFound, Unreachable."""


async def on_chain(method: Callable[[*Ts], T], *args: *Ts) -> T:
    """A blocking chain call in a thread. When the caller is cancelled the call may still take effect: on the
    next start the chain is read, so that is no loss."""
    return await trio.to_thread.run_sync(partial(method, *args), abandon_on_cancel=True)


class Claimer:
    """Claims for accounts in lanes, with this node's own chain account and journal."""

    def __init__(self, client: ChainClient, journal: Epochs, clock: Clock) -> None:
        self._client = client
        self._journal = journal
        self._clock = clock

    async def claim_published(
        self, lane: Address, accounts: Collection[Address], fetch: FetchTrees
    ) -> tuple[PaidClaim, ...]:
        """Claim what these accounts have earned in somebody's lane, by its latest final commitment.

        Raises NotFound when its data is nowhere, RemoteProtocolError when it is not what was committed,
        ChainError, Unreachable.
        """
        posted = await on_chain(self._client.commitments, lane)
        now = await on_chain(self._client.chain_time)
        commitment = latest_final(posted, now)
        if commitment is None:
            return ()
        data = await fetch_data(lane, commitment, fetch)
        return await self.claim(lane, commitment, data, accounts)

    async def claim(
        self, lane: Address, commitment: Commitment, data: bytes, accounts: Collection[Address] | None = None
    ) -> tuple[PaidClaim, ...]:
        """Claim for `accounts` (None: everybody) under a final commitment whose published data this is."""
        claims = await trio.to_thread.run_sync(prove, self._client, commitment, data, accounts)
        due: list[tuple[Claim, int]] = []
        for claim in claims:
            done = await on_chain(self._client.claimed, lane, claim.account)
            if done < claim.cumulative:
                due.append((claim, claim.cumulative - done))
        if not due:
            return ()
        intentions = [Intention(Step.CLAIM, lane, claim.account, amount) for claim, amount in due]
        numbers = await self._journal.intend(intentions, self._clock.now_ms())
        sent = await on_chain(self._client.claim, lane, commitment, [claim for claim, _ in due])
        await self._journal.done(numbers, sent.transactions[-1])
        _log_claims(lane, sent)
        return sent.paid


def prove(
    client: ChainClient, commitment: Commitment, data: bytes, accounts: Collection[Address] | None
) -> tuple[Claim, ...]:
    """The claims of these accounts, each verified against the commitment; accounts that earned nothing are
    left out.

    Raises RemoteProtocolError when the data is not what was committed.
    """
    trees = build_epoch(client.deployment.domain, commitment.epoch, (), _earnings(commitment, data))
    wanted = [account for account in trees.accounts if accounts is None or account in accounts]
    claims = tuple(trees.claim(account) for account in wanted)
    if trees.commitment.earnings_root != commitment.earnings_root or not all(
        verify_claim(commitment, claim) for claim in claims
    ):
        raise RemoteProtocolError(f"the published data of epoch {commitment.epoch} is not what was committed")
    return claims


def _earnings(commitment: Commitment, data: bytes) -> Mapping[Address, int]:
    published = decode(EpochData, data, MAX_EPOCH_BYTES)
    return {earning.account: earning.cumulative for earning in published.earnings}


def latest_final(posted: Sequence[PostedCommitment], chain_time: int) -> Commitment | None:
    """The latest commitment that pays somebody and whose window has passed."""
    final = [p.commitment for p in posted if p.final_at <= chain_time and p.commitment.account_count]
    return final[-1] if final else None


async def fetch_data(lane: Address, commitment: Commitment, fetch: FetchTrees) -> bytes:
    """The data behind a commitment's hash, which names it as one chunk or as several."""
    try:
        return await fetch(lane, cid_of_digest(commitment.data_hash, RAW))
    except NotFound:
        return await fetch(lane, cid_of_digest(commitment.data_hash, DAG_CBOR))


def _log_claims(lane: Address, sent: Claims) -> None:
    for paid in sent.paid:
        log.info(
            "claimed %d units for %s",
            paid.amount,
            checksummed(paid.account),
            extra={"lane": checksummed(lane), "paid_to": checksummed(paid.paid_to)},
        )
