"""A watchtower: reads every commitment while it can still be challenged, and challenges what is wrong.

Rules of this file:

- Everything is decided from the chain and from what was published under the commitment's own hash; nothing is
  believed. Each commitment is judged once, and judged again only where the chain took it back.
- A proof is sent as soon as it is found, one a commitment: it takes all later ones of the lane with it.
- Data that cannot be had, is not what was committed or cannot be shown is demanded (`demands`); what
  nobody shows in time is taken back. Manifests that cannot be had are waited for as long as data is, and then
  what they would show is not judged.
- How contributors share within a pool follows from statements that no contract knows: where credits do not
  follow, it is said (`divisions`).
- Whatever stands in the way of one lane (its data, a refusal, no gas) goes into the report and keeps no other
  lane waiting.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import trio

from ...contracts.calling.endpoint import Rejected
from ...contracts.calling.records import PostedCommitment
from ...contracts.client.chain import ChainClient
from ...contracts.client.demanding import Demand
from ...contracts.client.proving import prove
from ...protocol.content.manifests import AdapterManifest
from ...protocol.encoding.codec import decode
from ...protocol.errors import CommonloreError, NotFound, RemoteProtocolError, Unreachable
from ...protocol.ids import CHUNK_SIZE, Address, Cid, checksummed
from ...protocol.settlement.commitments import Commitment, EpochData, EpochTrees, commitment_hash
from ...protocol.settlement.fraud_earnings import find_earnings_frauds
from ...protocol.settlement.fraud_overlaps import ChannelHistory
from ...protocol.settlement.fraud_receipts import find_receipt_frauds
from ...protocol.settlement.frauds import Fraud, Posted
from ...protocol.settlement.published import MAX_EPOCH_BYTES, open_epoch, open_receipts
from ...protocol.signing.eip712 import Domain
from ..settling.claiming import FetchTrees, fetch_data, on_chain
from ..settling.lineages import Lineages
from .demands import DEMANDS_EACH, Act, Demanding, WatchReport
from .divisions import divide_again
from .watch_facts import read_facts

log = logging.getLogger(__name__)


def _read_epochs(*data: bytes) -> list[EpochData]:
    """What was published of some epochs. CPU only: of a million receipts it takes minutes."""
    return [decode(EpochData, each, MAX_EPOCH_BYTES) for each in data]


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
        self._demands = Demanding(client, demands)
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
            if await self._demands.expire(own, posted, report):
                return
            is_final = await on_chain(self._client.final_at, lane, epoch) <= report.chain_time
            current = await self._open(known, posted, () if is_final else own, report)
            if current is None and not is_final:
                return
            if current is not None and is_final:
                known.history.remember(lane, current)
            elif current is not None and (
                await self._demands.is_hiding(standing, current, own, report)
                or await self._judge(known, standing, current, report)
            ):
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
                await self._demands.of_missing(posted, demands, report)
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
        if missing and report.chain_time < self._demands.due(standing[place]):
            return True
        known.judged[current.commitment.epoch] = commitment_hash(current.commitment)
        frauds = await trio.to_thread.run_sync(self._find, known, Posted(facts, previous, current), is_whole)
        report.judged += 1
        if await self._challenge(frauds, report):
            return True
        if previous is not None:
            await self._doubt(standing[place - 1], previous, current, report)
        return False

    async def _doubt(
        self, before: PostedCommitment, previous: EpochTrees, current: EpochTrees, report: WatchReport
    ) -> None:
        """Say where contributors are not credited as the lane's own statements divide."""

        async def read(adapter: Cid) -> AdapterManifest:
            return decode(AdapterManifest, await self._fetch(before.lane, adapter), CHUNK_SIZE)

        earlier, later = await trio.to_thread.run_sync(_read_epochs, previous.data, current.data)
        found = await divide_again(self._client, before, (earlier, later), read)
        report.waiting += found.unread
        for doubt in found.doubts:
            report.doubts.append(doubt)
            log.warning("nothing that the chain can judge: %s", doubt)

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
