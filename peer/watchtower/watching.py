"""A watchtower: reads every commitment while it can still be challenged, and challenges what is wrong.

Rules of this file:

- Everything is decided from the chain and from what was published under the commitment's own hash; nothing is
  believed. Each commitment is judged once, and judged again only where the chain took it back.
- A proof is sent as soon as it is found, one a commitment: it takes all later ones of the lane with it.
- Data that cannot be had, or is not what was committed, is demanded once a part of the window has passed: one
  leaf, and if only that is shown, as many as this watchtower is set to; what nobody shows in time is taken
  back. Manifests that cannot be had are waited for as
  long, and then what they would show is not judged.
- Whatever stands in the way of one lane (its data, a refusal, no gas) goes into the report and keeps no other
  lane waiting.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import trio

from ...contracts.client import ChainClient
from ...contracts.demanding import Demand, Tree
from ...contracts.endpoint import Rejected
from ...contracts.proving import prove
from ...contracts.records import PostedCommitment
from ...protocol.eip712 import Domain
from ...protocol.errors import ChainError, CommonloreError, NotFound, RemoteProtocolError, Unreachable
from ...protocol.fraud_earnings import find_earnings_frauds
from ...protocol.fraud_overlaps import ChannelHistory
from ...protocol.fraud_receipts import find_receipt_frauds
from ...protocol.frauds import Fraud, Posted
from ...protocol.ids import Address, checksummed
from ...protocol.settlement import Commitment, EpochTrees, commitment_hash, open_epoch, open_receipts
from ..settling.claiming import FetchTrees, fetch_data, on_chain
from ..settling.lineages import Lineages
from .watch_facts import read_facts

log = logging.getLogger(__name__)

DEMANDS_EACH = 3
"""Leaves of one commitment that are demanded at most while its data cannot be had, unless told otherwise."""
PATIENCE_PARTS = 4
"""Data is demanded when this part (one in so many) of the window has passed without it."""


@dataclass(frozen=True, slots=True)
class Act:
    """Something that was sent: `what` is a fraud's kind, "demand" or "expire"."""

    what: str
    lane: Address
    epoch: int
    said: str
    tx: str


@dataclass(slots=True)
class WatchReport:
    """What one round saw and did. `waiting` says what could not be looked at, and why."""

    chain_time: int
    lanes: int = 0
    judged: int = 0
    acts: list[Act] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)


class _Lane:
    """What is remembered of a lane: its commitments' hashes as they were judged, by epoch, the data of each,
    and what of its channels they count."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self.judged: dict[int, bytes] = {}
        self.data: dict[int, tuple[Commitment, bytes]] = {}
        self.history = ChannelHistory(self.trees_of)

    def trees_of(self, epoch: int) -> EpochTrees:
        """The trees of an epoch whose data was had before."""
        return open_epoch(self._domain, *self.data[epoch])

    def forget_replaced(self, standing: tuple[PostedCommitment, ...]) -> None:
        """Commitments that do not stand any more, and all that came after them, are judged anew."""
        hashes = {posted.commitment.epoch: commitment_hash(posted.commitment) for posted in standing}
        gone = [epoch for epoch, hash_ in self.judged.items() if hashes.get(epoch) != hash_]
        for epoch in [epoch for epoch in self.judged if gone and epoch >= min(gone)]:
            del self.judged[epoch]
            self.data.pop(epoch, None)
        if gone:
            self.history.forget_from(min(gone))


class Watchtower:
    """Watches all lanes, or those that are named. Its account pays for challenges and is rewarded for
    them."""

    def __init__(
        self,
        client: ChainClient,
        fetch: FetchTrees,
        lanes: Iterable[Address] | None = None,
        demands: int = DEMANDS_EACH,
    ) -> None:
        self._client = client
        self._fetch = fetch
        self._lineages = Lineages(client, fetch)
        self._most_demands = demands
        self._only = None if lanes is None else frozenset(lanes)
        self._lanes: dict[Address, _Lane] = {}

    async def look(self) -> WatchReport:
        """One round over all lanes. Raises Unreachable, ChainError where the chain itself does not answer."""
        report = WatchReport(await on_chain(self._client.chain_time))
        demands = await on_chain(self._client.demands.open)
        for lane in await on_chain(self._client.lanes):
            if self._only is None or lane in self._only:
                report.lanes += 1
                try:
                    await self._look_at(lane, demands, report)
                except Unreachable:
                    raise
                except CommonloreError as error:
                    report.waiting.append(f"lane {checksummed(lane)}: {error}")
                except Exception:  # a defect, which one lane's data brought out: the others are watched
                    report.waiting.append(f"lane {checksummed(lane)} cannot be judged; see the log")
                    log.exception("judging failed", extra={"lane": checksummed(lane)})
        return report

    # ---- one lane

    async def _look_at(self, lane: Address, demands: tuple[Demand, ...], report: WatchReport) -> None:
        known = self._lanes.setdefault(lane, _Lane(self._client.deployment.domain))
        standing = await on_chain(self._client.commitments, lane)
        known.forget_replaced(standing)
        for posted in standing:
            epoch, hash_ = posted.commitment.epoch, commitment_hash(posted.commitment)
            if known.judged.get(epoch) == hash_:
                continue
            own = [d for d in demands if d.lane == lane and d.epoch == epoch]
            if await self._expire(own, posted, report):
                return
            is_final = await on_chain(self._client.final_at, lane, epoch) <= report.chain_time
            current = await self._open(known, posted, () if is_final else own, report)
            if current is None and not is_final:
                return
            if current is not None and is_final:
                known.history.remember(lane, current)
            elif current is not None and await self._judge(known, standing, current, report):
                return
            known.judged[epoch] = hash_

    async def _open(
        self, known: _Lane, posted: PostedCommitment, demands: Sequence[Demand], report: WatchReport
    ) -> EpochTrees | None:
        """A commitment's trees; None, with what was done about it in the report, where they cannot be had."""
        commitment, raw = posted.commitment, b""
        try:
            raw = await fetch_data(posted.lane, commitment, self._fetch)
            trees = await trio.to_thread.run_sync(open_epoch, self._client.deployment.domain, commitment, raw)
        except (NotFound, Unreachable, RemoteProtocolError) as error:
            report.waiting.append(f"epoch {commitment.epoch} of lane {checksummed(posted.lane)}: {error}")
            if not await self._judge_receipts(posted, raw, report):
                await self._demand(posted, demands, report)
            return None
        known.data[commitment.epoch] = (commitment, raw)
        return trees

    async def _judge(
        self,
        known: _Lane,
        standing: tuple[PostedCommitment, ...],
        current: EpochTrees,
        report: WatchReport,
    ) -> bool:
        """Look for everything that can be wrong with a commitment. Whether the lane is left for this round: a
        proof of something was taken, or what judging needs may still come."""
        place = [posted.commitment for posted in standing].index(current.commitment)
        before = standing[place - 1].commitment.epoch if place else None
        is_whole = before is None or before in known.data
        previous = None
        if before is not None and is_whole:
            previous = await trio.to_thread.run_sync(known.trees_of, before)
        elif not is_whole:
            report.waiting.append(f"the data of epoch {before} is gone: credits of the next are not judged")
        read = await on_chain(read_facts, self._client, standing[place], previous, current)
        facts, missing = await self._lineages.complete(read, current)
        report.waiting += (f"lane {checksummed(facts.lane)}: {each}" for each in missing)
        if missing and report.chain_time < self._due(standing[place]):
            return True
        known.judged[current.commitment.epoch] = commitment_hash(current.commitment)
        frauds = await trio.to_thread.run_sync(self._find, known, Posted(facts, previous, current), is_whole)
        report.judged += 1
        return await self._challenge(frauds, report)

    def _due(self, posted: PostedCommitment) -> int:
        """Until when (chain time) what is missing is waited for."""
        return posted.posted_at + self._client.deployment.window // PATIENCE_PARTS

    async def _judge_receipts(self, posted: PostedCommitment, raw: bytes, report: WatchReport) -> bool:
        """What receipts show that belong to a commitment whose data is otherwise not what was committed;
        whether a proof was taken.
        """
        domain = self._client.deployment.domain
        try:
            trees = await trio.to_thread.run_sync(open_receipts, domain, posted.commitment, raw)
        except RemoteProtocolError:
            return False
        facts = await on_chain(read_facts, self._client, posted, None, trees)
        frauds = list(find_receipt_frauds(Posted(facts, None, trees)))
        return await self._challenge(frauds, report)

    def _find(self, known: _Lane, posted: Posted, is_whole: bool) -> list[Fraud]:
        """Everything that is wrong, as far as it can be judged. CPU only; runs in a thread."""
        frauds = [*find_receipt_frauds(posted), *known.history.take(posted)]
        return [*frauds, *find_earnings_frauds(posted)] if is_whole else frauds

    # ---- what is sent

    async def _challenge(self, frauds: list[Fraud], report: WatchReport) -> bool:
        """Send the first proof that the chain takes; whether one was."""
        for fraud in frauds:
            try:
                sent = await on_chain(prove, self._client, fraud)
            except Rejected as refused:
                report.waiting.append(f"epoch {fraud.epoch} of lane {checksummed(fraud.lane)}: {refused}")
                continue
            report.acts.append(Act(fraud.kind, fraud.lane, fraud.epoch, fraud.said, sent.text))
            log.warning(
                "proved a fraud in epoch %d: %s",
                fraud.epoch,
                fraud.said,
                extra={"lane": checksummed(fraud.lane), "kind": fraud.kind, "tx": sent.text},
            )
            return True
        return False

    async def _demand(self, posted: PostedCommitment, pending: Sequence[Demand], report: WatchReport) -> None:
        """Demand leaves, unless some are demanded, enough were, or it is too early or too late."""
        window, due = self._client.deployment.window, self._due(posted)
        commitment = posted.commitment
        made = await on_chain(self._client.demands.count, posted.lane, commitment.epoch)
        if pending or not due <= report.chain_time < posted.posted_at + window:
            return
        for number in range(made, min(self._most_demands, 1) if not made else self._most_demands):
            wanted = _demanded_leaf(commitment, number)
            if wanted is None:
                return
            tree, index = wanted
            try:
                sent = await on_chain(self._client.demands.demand, posted.lane, commitment, tree, index)
            except ChainError as refused:
                report.waiting.append(f"a leaf cannot be demanded: {refused}")
                return
            said = f"leaf {index} of the {tree.name.lower()}"
            report.acts.append(Act("demand", posted.lane, commitment.epoch, said, sent.text))

    async def _expire(self, demands: list[Demand], posted: PostedCommitment, report: WatchReport) -> bool:
        """Take back a commitment whose leaf was not shown in time; whether it was."""
        for demand in demands:
            if demand.deadline > report.chain_time:
                continue
            sent = await on_chain(self._client.demands.expire, demand, posted.commitment)
            said = f"nobody showed leaf {demand.index} of the {demand.tree.name.lower()}"
            report.acts.append(Act("expire", demand.lane, demand.epoch, said, sent.text))
            log.warning("epoch %d is taken back: %s", demand.epoch, said)
            return True
        return False


def _demanded_leaf(commitment: Commitment, made: int) -> tuple[Tree, int] | None:
    """Which leaf to demand when so many were: the last of each tree that has leaves, as it cannot be shown
    where an amount hides beyond the count; then any.
    """
    counts = {
        Tree.RECEIPTS: commitment.receipt_count,
        Tree.EARNINGS: commitment.account_count,
        Tree.CREDITS_BY_ACCOUNT: commitment.credit_count,
    }
    trees = [tree for tree, count in counts.items() if count]
    if not trees:
        return None
    tree = trees[made % len(trees)]
    if made < len(trees):
        return tree, counts[tree] - 1
    return tree, int.from_bytes(commitment_hash(commitment), "big") // (made + 1) % counts[tree]
