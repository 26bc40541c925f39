"""An attributor's word on the receipts that it was drawn for, its pay, and whom it contradicts.

Rules of this file:

- Everything follows from the chain, from what was published, and from this peer's own statements: a look may
  be cut off anywhere and begun again, and nothing is handed in or paid twice.
- A receipt is attested to once its commitment is final and the next one has shown what it paid, and only
  where this peer has scored it and the credits are what the lane's own statements divide (`divisions`). Where
  the lane published no statement on it the priors divide by rule (its index may still be challenged, say):
  who finds otherwise says nothing, as two honest words could only contradict each other. What a word is,
  `protocol.attribution.attestations` says.
- Pay follows from the chain alone: it comes when what was published is gone, the bond topped up or leaving.
  Nothing is collected from a pool that holds less than the fee, as the rest would be lost.
- Whatever stands in the way of one receipt or lane keeps no other waiting: strangers write what is read here.
- Two who contradict each other are brought before the arbiter by either: neither is paid before.
- Where a receipt was paid by weights beyond the tolerance from this attributor's own, its word says so to the
  chain, and it is counted and logged: a worker that forged its vector may have left out who saw it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TypeVar

import trio

from ...contracts.calling.endpoint import Rejected
from ...contracts.calling.records import PostedCommitment
from ...contracts.client.bonding import BondRole
from ...contracts.client.chain import ChainClient
from ...contracts.client.checking import Attested
from ...contracts.client.drawing import lot
from ...protocol.attribution.attestations import attribution_verdict
from ...protocol.attribution.pools import TOLERANCE_PPM, Basis, total_variation_ppm
from ...protocol.content.manifests import AdapterManifest
from ...protocol.encoding.codec import decode
from ...protocol.errors import CommonloreError, DeadlineExceeded, NotFound, Unreachable
from ...protocol.ids import Address, Cid, checksummed
from ...protocol.receipts.channels import mix_adapters
from ...protocol.receipts.parts import attributed
from ...protocol.receipts.records import Receipt, Weight
from ...protocol.settlement.commitments import EpochData, EpochTrees, commitment_hash
from ...protocol.settlement.openings import open_leaf
from ...protocol.settlement.pool_check import paid_weights
from ...protocol.settlement.published import MAX_EPOCH_BYTES, open_epoch
from ...protocol.signing.eip712 import digest, sign
from ...protocol.signing.keys import AccountKey
from ..settling.claiming import FetchTrees, fetch_data, on_chain
from ..settling.crediting import ReadManifest
from .divisions import divide_again

log = logging.getLogger("commonlore.peer.watchtower.attesting")
ROLE = BondRole.ATTRIBUTOR
LONGEST_LOOK_S = 14 * 86_400
"""How long after it was posted a commitment is looked at: not the whole history at every start."""
T = TypeVar("T")
OwnWeights = Callable[[bytes, Cid], Awaitable[tuple[Weight, ...] | None]]
"""(receipt hash, adapter) → the weights of this peer's own statement on it; None without one."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where an attributor reads: published data, manifests, and its own statements."""

    fetch: FetchTrees
    manifest: ReadManifest
    own: OwnWeights


@dataclass(frozen=True, slots=True)
class _Paid:
    """By what a receipt was paid, and whether by statements that were published on it."""

    weights: tuple[Weight, ...]
    is_stated: bool


class Attesting:
    """Attests for one account, whose client and key these are."""

    def __init__(self, client: ChainClient, key: AccountKey, sources: Sources) -> None:
        self._client = client
        self._key = key
        self._sources = sources
        self._done: set[tuple[Address, bytes]] = set()
        self._paid_for: set[bytes] = set()
        self._brought: set[bytes] = set()
        self.attested = 0
        self.contradicted = 0
        self.earned = 0

    async def look(self, bonded_since: int | None, now: int) -> list[str]:
        """Be paid, attest, and bring contradictions before the arbiter, as far as can be done at a chain
        time; what cannot be, and why. `bonded_since` None: nothing more is attested to. Raises Unreachable,
        ChainError where the chain does not answer.
        """
        attested = await on_chain(self._client.work_pool.attested)
        waiting = [*await self._collect(attested, now), *await self._contradict(attested)]
        if bonded_since is None:
            return waiting
        for lane in await on_chain(self._client.lanes):
            standing = await on_chain(self._client.commitments, lane)
            for posted, following in pairwise(standing):
                if now <= posted.posted_at + LONGEST_LOOK_S:
                    waiting += await self._try(posted, following, bonded_since, now)
        return waiting

    async def _try(
        self, posted: PostedCommitment, following: PostedCommitment, bonded_since: int, now: int
    ) -> list[str]:
        """One commitment, whatever a stranger wrote into it; what could not be done."""
        where = f"epoch {posted.commitment.epoch} of lane {checksummed(posted.lane)}"
        try:
            refused = await self._look_at(posted, following, bonded_since, now)
        except (Unreachable, DeadlineExceeded):
            raise
        except CommonloreError as error:
            refused = [str(error)]
        except Exception:  # a defect, which one lane's data brought out: the others are attested to
            log.exception("attesting failed", extra={"lane": checksummed(posted.lane)})
            refused = ["it cannot be attested to; see the log"]
        return [f"{where}: {reason}" for reason in refused]

    async def _look_at(
        self, posted: PostedCommitment, following: PostedCommitment, bonded_since: int, now: int
    ) -> list[str]:
        """One commitment's receipts: attest to what this account was drawn for; what was refused."""
        client, name = self._client, (posted.lane, commitment_hash(posted.commitment))
        if name in self._done or not posted.commitment.receipt_count:
            return []
        number = await on_chain(client.beacon.round_at, posted.posted_at) + 1
        if bonded_since >= client.draws.starts_at(number):
            self._done.add(name)  # bonded too late to be drawn
            return []
        if await on_chain(client.final_at, posted.lane, posted.commitment.epoch) > now:
            return []
        seed = await on_chain(client.beacon.seed, number)
        if seed is None:
            return []
        trees = await self._open(posted)
        drawn = await trio.to_thread.run_sync(self._drawn, trees, seed)
        paid, doubts = await self._paid(posted, trees, following) if drawn else ({}, ())
        is_done, refused = True, list(doubts)
        for index in drawn:
            try:
                is_done = not await self._attest(posted, trees, index, paid, number) and is_done
            except Rejected as error:  # another was faster
                refused.append(str(error))
        if is_done and not refused:
            self._done.add(name)
        return refused

    async def _open(self, posted: PostedCommitment) -> EpochTrees:
        raw = await _had(fetch_data(posted.lane, posted.commitment, self._sources.fetch))
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
        self, posted: PostedCommitment, trees: EpochTrees, following: PostedCommitment
    ) -> tuple[Mapping[bytes, _Paid], tuple[str, ...]]:
        """The weights that each receipt of adapters was paid by, over all of them, from what the next
        commitment published; and what of that does not follow, to which nobody attests."""
        raw = await _had(fetch_data(posted.lane, following.commitment, self._sources.fetch))
        both = [partial(decode, EpochData, each, MAX_EPOCH_BYTES) for each in (trees.data, raw)]
        earlier, later = [await trio.to_thread.run_sync(each) for each in both]

        async def read(adapter: Cid) -> AdapterManifest:
            return await _had(self._sources.manifest(adapter))

        found = await divide_again(self._client, posted, (earlier, later), read)
        paid = paid_weights(self._client.deployment.domain, earlier, found.pools)
        divided = [pool.division.receipts.items() for pool in found.pools.values()]
        unstated = {one for each in divided for one, judged in each if judged.basis is Basis.PRIOR}
        words = {one: _Paid(weights, one not in unstated) for one, weights in paid.items()}
        return words, (*found.doubts, *found.unread)

    async def _attest(
        self,
        posted: PostedCommitment,
        trees: EpochTrees,
        index: int,
        paid: Mapping[bytes, _Paid],
        number: int,
    ) -> bool:
        """Attest to one receipt, where this peer has something to say and has not, nor two others; whether
        it did: the next look sees whether that stands."""
        settled, work_pool = trees.receipts[index], self._client.work_pool
        subject = digest(self._client.deployment.domain, settled.receipt)
        works = await on_chain(work_pool.works, subject, ROLE)
        if len(works) > 1 or any(work.attester == self._client.address for work in works):
            return False
        weights = await self._own_weights(settled.receipt, subject)
        if weights is None or subject not in paid:
            return False
        apart = total_variation_ppm(paid[subject].weights, weights)
        if not paid[subject].is_stated and apart > TOLERANCE_PPM:
            return False
        verdict = attribution_verdict(paid[subject].weights, weights)
        word = work_pool.attestation(ROLE, subject, verdict, number)
        signature = sign(self._client.deployment.domain, self._key, word)
        leaf = open_leaf(self._client.deployment.domain, trees, index)
        await on_chain(work_pool.attest, posted.lane, posted.commitment, leaf, word, signature)
        self.attested += 1
        log.info("attested to receipt %s", subject.hex())
        if apart > TOLERANCE_PPM:
            self.contradicted += 1
            log.warning("receipt %s was paid by weights %d ppm from those found here", subject.hex(), apart)
        return True

    async def _own_weights(self, receipt: Receipt, subject: bytes) -> tuple[Weight, ...] | None:
        """By this peer's own statements, over all of a receipt's adapters; None unless it has one on each."""
        mixed: list[tuple[tuple[Weight, ...], int]] = []
        for part in attributed(receipt):
            own = None if part.adapter is None else await self._sources.own(subject, part.adapter)
            if own is None:
                return None
            mixed.append((own, part.weight_ppm))
        return mix_adapters(mixed) if mixed else None

    # ---- what was attested to

    def _own(self, attested: Sequence[Attested]) -> dict[bytes, Attested]:
        """This account's words as an attributor, by receipt."""
        own = (each for each in attested if each.attestation.attester == self._client.address)
        return {each.attestation.subject: each for each in own if each.attestation.role == ROLE}

    async def _collect(self, attested: Sequence[Attested], now: int) -> list[str]:
        """Be paid for every word that nobody may contradict any more; what was refused."""
        refused = []
        for subject in self._own(attested).keys() - self._paid_for:
            try:
                reason = await self._collect_one(subject, now)
            except Rejected as error:
                reason = str(error)
            refused += [f"receipt {subject.hex()}: {reason}"] if reason else []
        return refused

    async def _collect_one(self, subject: bytes, now: int) -> str:
        """Why a word is not paid though it is due; empty otherwise."""
        work_pool = self._client.work_pool
        works = await on_chain(work_pool.works, subject, ROLE)
        own = next((i for i, work in enumerate(works) if work.attester == self._client.address), None)
        if own is None:
            return ""  # the chain took it back
        if works[own].is_paid:
            self._paid_for.add(subject)
            return ""
        if await on_chain(work_pool.due_at, works) > now:
            return ""
        held = await on_chain(self._client.balance, self._client.deployment.check_pool)
        if held < works[own].fee:
            return f"the work pool holds {held} of a fee of {works[own].fee}; it is paid when there is more"
        self.earned += await on_chain(work_pool.collect, subject, ROLE, own)
        return ""

    async def _contradict(self, attested: Sequence[Attested]) -> list[str]:
        """Bring whoever contradicts this account before the arbiter; what was refused."""
        own, refused = self._own(attested), []
        for other in attested:
            subject = other.attestation.subject
            if subject not in own or subject in self._brought or not _contradicts(own[subject], other):
                continue
            if await on_chain(self._client.work_pool.case_of, subject, ROLE) is not None:
                self._brought.add(subject)
                continue
            try:
                await on_chain(self._client.work_pool.open_case, own[subject], other)
                log.warning("brought a contradiction on %s before the arbiter", subject.hex())
            except Rejected as error:
                refused.append(f"receipt {subject.hex()}: {error}")
        return refused


async def _had(reading: Awaitable[T]) -> T:
    """What peers have. Raises NotFound also where they do not answer, which is no silence of the chain's."""
    try:
        return await reading
    except (Unreachable, DeadlineExceeded) as error:
        raise NotFound(str(error)) from error


def _contradicts(one: Attested, other: Attested) -> bool:
    a, b = one.attestation, other.attestation
    return (a.subject, a.role) == (b.subject, b.role) and a.verdict != b.verdict
