"""An attributor's word on the receipts that it was drawn for, its pay, and whom it contradicts.

Rules of this file:

- Everything follows from the chain, from what was published, and from this peer's own statements: a look may
  be cut off anywhere and begun again, and nothing is handed in or paid twice.
- A receipt is attested to once its commitment is final and the next one has shown what it paid, and only
  where this peer has scored it. What a word is, `protocol.attestations` says.
- Two who contradict each other are brought before the arbiter by either: neither is paid before.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import trio

from ..contracts.bonding import BondRole
from ..contracts.checking import Attested
from ..contracts.client import ChainClient
from ..contracts.drawing import lot
from ..contracts.endpoint import Rejected
from ..contracts.records import PostedCommitment
from ..protocol.attestations import attribution_verdict
from ..protocol.codec import decode
from ..protocol.credits import heaviest_adapter
from ..protocol.eip712 import digest, sign
from ..protocol.errors import NotFound
from ..protocol.ids import Address, Cid, checksummed
from ..protocol.keys import AccountKey
from ..protocol.manifests import AdapterManifest
from ..protocol.openings import open_leaf
from ..protocol.pool_check import recheck_pools
from ..protocol.receipts import Weight
from ..protocol.settlement import MAX_EPOCH_BYTES, EpochData, EpochTrees, commitment_hash, open_epoch
from .claiming import FetchTrees, fetch_data, on_chain
from .crediting import ReadManifest

log = logging.getLogger("commonlore.peer.attesting")
ROLE = BondRole.ATTRIBUTOR
OwnWeights = Callable[[bytes, Cid], Awaitable[tuple[Weight, ...] | None]]
"""(receipt hash, adapter) → the weights of this peer's own statement on it; None without one."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where an attributor reads: published data, manifests, and its own statements."""

    fetch: FetchTrees
    manifest: ReadManifest
    own: OwnWeights


class Attesting:
    """Attests for one account, whose client and key these are."""

    def __init__(self, client: ChainClient, key: AccountKey, sources: Sources) -> None:
        self._client = client
        self._key = key
        self._sources = sources
        self._done: set[tuple[Address, bytes]] = set()
        self.attested = 0
        self.earned = 0

    async def look(self, bonded_since: int, now: int) -> list[str]:
        """Attest, be paid, and bring contradictions before the arbiter, as far as can be done at a chain
        time; what cannot be, and why. Raises Unreachable, ChainError."""
        waiting = []
        for lane in await on_chain(self._client.lanes):
            standing = await on_chain(self._client.commitments, lane)
            for posted, following in pairwise(standing):
                try:
                    await self._look_at(posted, following, bonded_since, now)
                except (NotFound, Rejected) as error:
                    epoch = posted.commitment.epoch
                    waiting.append(f"epoch {epoch} of lane {checksummed(lane)}: {error}")
        return [*waiting, *await self._contradict()]

    async def _look_at(
        self, posted: PostedCommitment, following: PostedCommitment, bonded_since: int, now: int
    ) -> None:
        client, name = self._client, (posted.lane, commitment_hash(posted.commitment))
        if name in self._done or not posted.commitment.receipt_count:
            return
        number = await on_chain(client.beacon.round_at, posted.posted_at) + 1
        if bonded_since >= client.draws.starts_at(number):
            self._done.add(name)  # bonded too late to be drawn
            return
        if await on_chain(client.final_at, posted.lane, posted.commitment.epoch) > now:
            return
        seed = await on_chain(client.beacon.seed, number)
        if seed is None:
            return
        trees = await self._open(posted)
        drawn = await trio.to_thread.run_sync(self._drawn, trees, seed)
        paid = await self._paid(posted.lane, trees, following) if drawn else {}
        left = [each for each in drawn if not await self._finish(posted, trees, each, paid, number, now)]
        if not left:
            self._done.add(name)

    async def _open(self, posted: PostedCommitment) -> EpochTrees:
        raw = await fetch_data(posted.lane, posted.commitment, self._sources.fetch)
        return await trio.to_thread.run_sync(
            open_epoch, self._client.deployment.domain, posted.commitment, raw
        )

    def _drawn(self, trees: EpochTrees, seed: bytes) -> list[int]:
        """The receipts by an adapter that this account is drawn for, by index. CPU only."""
        domain, odds = self._client.deployment.domain, self._client.draws.terms.odds_ppm
        return [
            index
            for index, settled in enumerate(trees.receipts)
            if settled.receipt.adapters
            and lot(seed, digest(domain, settled.receipt), ROLE, self._client.address) < odds
        ]

    async def _paid(
        self, lane: Address, trees: EpochTrees, following: PostedCommitment
    ) -> Mapping[bytes, tuple[Weight, ...]]:
        """The weights that each receipt of an adapter was paid by, from what the next commitment
        published."""
        domain = self._client.deployment.domain
        raw = await fetch_data(lane, following.commitment, self._sources.fetch)
        later = decode(EpochData, raw, MAX_EPOCH_BYTES)
        manifests: dict[bytes, AdapterManifest] = {}
        for settled in trees.receipts:
            adapter = heaviest_adapter(settled.receipt.adapters)
            if adapter is not None and settled.pool not in manifests:
                manifests[settled.pool] = await self._sources.manifest(adapter)
        worker = await on_chain(self._client.bindings.peer_key, lane) or b""
        earlier = decode(EpochData, trees.data, MAX_EPOCH_BYTES)
        pools = await trio.to_thread.run_sync(recheck_pools, domain, earlier, later, manifests, worker)
        judged = (pool.division.receipts for pool in pools.values())
        return {subject: each.weights for receipts in judged for subject, each in receipts.items()}

    async def _finish(
        self,
        posted: PostedCommitment,
        trees: EpochTrees,
        index: int,
        paid: Mapping[bytes, tuple[Weight, ...]],
        number: int,
        now: int,
    ) -> bool:
        """One receipt: attest, or be paid; whether nothing is left to do for it."""
        settled, work_pool = trees.receipts[index], self._client.work_pool
        subject = digest(self._client.deployment.domain, settled.receipt)
        works = await on_chain(work_pool.works, subject, ROLE)
        own = next((i for i, work in enumerate(works) if work.attester == self._client.address), None)
        if own is not None:
            if works[own].is_paid:
                return True
            if await on_chain(work_pool.due_at, works) <= now:
                self.earned += await on_chain(work_pool.collect, subject, ROLE, own)
                return True
            return False
        adapter = heaviest_adapter(settled.receipt.adapters)
        weights = None if adapter is None else await self._sources.own(subject, adapter)
        if len(works) > 1 or weights is None or subject not in paid:
            return True  # two have spoken, or this peer has nothing to say
        verdict = attribution_verdict(paid[subject], weights)
        word = work_pool.attestation(ROLE, subject, verdict, number)
        signature = sign(self._client.deployment.domain, self._key, word)
        leaf = open_leaf(self._client.deployment.domain, trees, index)
        await on_chain(work_pool.attest, posted.lane, posted.commitment, leaf, word, signature)
        self.attested += 1
        log.info("attested to receipt %s", subject.hex())
        return False

    async def _contradict(self) -> list[str]:
        """Bring whoever contradicts this account before the arbiter; what was refused."""
        attested, refused = await on_chain(self._client.work_pool.attested), []
        for own in attested:
            if own.attestation.attester != self._client.address:
                continue
            for other in attested:
                if not _contradicts(own, other):
                    continue
                subject = own.attestation.subject
                if await on_chain(self._client.work_pool.case_of, subject, ROLE) is None:
                    try:
                        await on_chain(self._client.work_pool.open_case, own, other)
                        log.warning("brought a contradiction on %s before the arbiter", subject.hex())
                    except Rejected as error:
                        refused.append(f"receipt {subject.hex()}: {error}")
        return refused


def _contradicts(one: Attested, other: Attested) -> bool:
    a, b = one.attestation, other.attestation
    return (a.subject, a.role) == (b.subject, b.role) and a.verdict != b.verdict
