"""A lane's commitments on their way to the chain: made, published, posted, and posted again where the chain
took them back.

Rules of this file:

- A commitment's content is fixed in the store before anything is sent; from then on it is this commitment or
  none.
- What the store says was posted and the chain has not is posted again, in its order: blocks may have been
  replaced. Where the pot does not ask for it any more, it and all later ones are withdrawn, and made anew.
- A commitment credits the receipts of the one before it, and offers all earnings with them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import trio

from ...contracts.calling.endpoint import Rejected
from ...protocol.content.blob_names import describe_blob
from ...protocol.encoding.codec import decode, record_hash
from ...protocol.errors import ChainError, LocalProtocolError, NotFound, Unreachable
from ...protocol.ids import Address, checksummed
from ...protocol.settlement.commitments import EpochData, EpochTrees, Evidence, build_epoch, commitment_hash
from ...protocol.settlement.epoch_leaves import PoolCredit
from ...protocol.settlement.published import MAX_EPOCH_BYTES, open_epoch
from ...protocol.settlement.settled import check_settled, fold_earnings, pool_credits
from ...protocol.signing.eip712 import digest
from ..store.epochs import EpochState, Intention, Step, StoredEpoch
from .claiming import fetch_data, on_chain
from .redemption import Redeeming, SettleParts
from .settle_plan import (
    Owed,
    SettleReport,
    Waiting,
    check_same_chain,
    is_postable_still,
    latest_postable,
    total_price,
)

log = logging.getLogger(__name__)


class Posting:
    """Makes and posts one lane's commitments."""

    def __init__(self, parts: SettleParts) -> None:
        self._parts = parts
        self._client = parts.client
        self._lane = parts.binding().binding.session_key
        self._redeeming = Redeeming(parts)

    # ---- what was begun

    async def resume(self, report: SettleReport) -> None:
        """Bring chain and store to one view of every commitment that is not final."""
        epochs = self._parts.store.epochs
        for epoch in await epochs.all(self._lane):
            if epoch.state is EpochState.FINAL:
                continue
            lane = await on_chain(self._client.lane_state, self._lane)
            if lane.next_epoch > epoch.epoch:
                if not await self._confirm(epoch):
                    await self._withdraw_from(epoch.epoch)
                    break
            elif is_postable_still(lane, epoch.commitment):
                if epoch.state is EpochState.POSTED:
                    log.warning("epoch %d is posted again: the chain took its block back", epoch.epoch)
                    await epochs.take_back(self._lane, epoch.epoch)
                await self._post(epoch, report)
            else:
                await self._withdraw_from(epoch.epoch)
                break
        await self._adopt()
        await self._take_lane_back(report)

    async def _confirm(self, epoch: StoredEpoch) -> bool:
        """Whether what the chain has of this epoch, or of a later one in its place, is this very
        commitment."""
        posted, _ = await on_chain(self._client.posted, self._lane, epoch.epoch)
        if posted != commitment_hash(epoch.commitment):
            return False
        if epoch.state is EpochState.PREPARED:
            await self._parts.store.epochs.mark_posted(self._lane, epoch.epoch)
        return True

    async def _adopt(self) -> None:
        """Take in what others posted for this lane, from its published data; where that cannot be had, the
        next commitment says so.
        """
        if self._parts.fetch is None:
            return
        known = {epoch.epoch for epoch in await self._parts.store.epochs.all(self._lane)}
        for posted in await on_chain(self._client.commitments, self._lane):
            if posted.commitment.epoch in known:
                continue
            try:
                raw = await fetch_data(self._lane, posted.commitment, self._parts.fetch)
            except (NotFound, Unreachable) as error:
                log.warning("epoch %d was posted by another: %s", posted.commitment.epoch, error)
                return
            domain = self._client.deployment.domain
            trees = await trio.to_thread.run_sync(open_epoch, domain, posted.commitment, raw)
            taken = StoredEpoch(self._lane, posted.commitment, describe_blob([raw])[0], raw)
            hashes = [digest(domain, settled.receipt) for settled in trees.receipts]
            await self._parts.store.epochs.adopt(taken, hashes)
            log.warning("epoch %d was posted by another; going on from it", posted.commitment.epoch)

    async def _take_lane_back(self, report: SettleReport) -> None:
        """Post for this lane again, once a successor has done what was owed and it is final."""
        poster = await on_chain(self._client.posters.of, self._lane)
        if not poster.has_succeeded or poster.account == self._client.address:
            return
        try:
            sent = await on_chain(self._client.posters.appoint, self._lane, self._client.address)
        except Rejected as refused:
            report.waiting.append(Waiting(None, f"a successor posts for this lane: {refused}"))
            return
        report.transactions.append(sent.text)

    async def _withdraw_from(self, first: int) -> None:
        epochs = self._parts.store.epochs
        for epoch in reversed(await epochs.all(self._lane)):
            if epoch.epoch < first:
                return
            log.warning("epoch %d is prepared anew: the pot has changed", epoch.epoch)
            if epoch.state is EpochState.POSTED:
                await epochs.take_back(self._lane, epoch.epoch)
            await epochs.withdraw(self._lane, epoch.epoch)

    # ---- what is new

    async def commit(self, report: SettleReport) -> None:
        """Redeem, prepare, publish and post the latest epoch that can be posted, if there is anything in
        it.
        """
        last = await self._parts.store.epochs.last(self._lane)
        lane = await on_chain(self._client.lane_state, self._lane)
        check_same_chain(lane, last.commitment if last else None)
        terms = self._client.deployment
        epoch = latest_postable(report.chain_time, terms.genesis, terms.epoch_length, terms.grace)
        if epoch < max(lane.next_epoch, lane.latest_epoch):
            return
        owed = await self._redeeming.redeem(epoch, report)
        if not owed and not (last and last.commitment.receipt_count):
            return
        await self._check_pot(owed, report)
        before = published(last)
        credits, evidence = await self._divide(before) if before else ((), Evidence())
        earned = fold_earnings(before.cumulative if before else {}, credits)
        trees = await trio.to_thread.run_sync(self._build, epoch, owed, earned, credits, evidence)
        prepared = StoredEpoch(self._lane, trees.commitment, describe_blob([trees.data])[0], trees.data)
        await self._parts.store.epochs.prepare(prepared, [one.credited for one in owed])
        await self._post(prepared, report)

    async def _check_pot(self, owed: list[Owed], report: SettleReport) -> None:
        """Raises ChainError unless what these receipts cost is just what the pot grew by."""
        lane = await on_chain(self._client.lane_state, self._lane)
        grown, explained = lane.pot - lane.committed, total_price(owed)
        if grown != explained:
            why = (
                "; ".join(waiting.reason for waiting in report.waiting) or "restore this home's latest store"
            )
            raise ChainError(
                f"the pot of lane {checksummed(self._lane)} grew by {grown} units; the receipts here explain "
                f"{explained} of them: {why}"
            )

    async def _divide(self, before: EpochData) -> tuple[tuple[PoolCredit, ...], Evidence]:
        """What the receipts of the commitment before earn, by the statements on those that the hash of its
        block drew. A receipt that cannot be divided now is credited as it was published.
        """
        beacon = await on_chain(self._client.postings.beacon_after, self._lane, before.epoch)
        stored = await self._parts.store.ledger.committed(self._lane, before.epoch)
        owner = self._parts.binding().binding.owner
        division = await self._parts.crediting.divide(stored, owner, beacon)
        hashes = {one.receipt_id: one.receipt_hash for one in stored}
        credited = [
            replace(one, credits=division.credits_of(hashes.get(one.receipt_id, b""), one.credits))
            for one in before.receipts
        ]
        return pool_credits(credited), Evidence(
            tuple(division.statements), beacon, tuple(division.measured.values())
        )

    def _build(
        self,
        epoch: int,
        owed: list[Owed],
        earnings: Mapping[Address, int],
        credits: tuple[PoolCredit, ...],
        evidence: Evidence,
    ) -> EpochTrees:
        """The commitment, after a last check of every signature in it. CPU only; runs in a thread."""
        domain = self._client.deployment.domain
        settled = [one.settled for one in owed]
        for one in settled:
            check_settled(domain, one)
        return build_epoch(domain, epoch, settled, earnings, credits, evidence)

    async def _publish(self, epoch: StoredEpoch) -> None:
        """Before a commitment is on the chain, what it commits can be had."""
        if epoch.data is None or await self._parts.publish(epoch.data) != epoch.trees:
            raise LocalProtocolError(f"the trees of epoch {epoch.epoch} were not published as {epoch.trees}")

    async def _post(self, epoch: StoredEpoch, report: SettleReport) -> None:
        """Send a prepared commitment, and remember that it is posted."""
        await self._publish(epoch)
        journal, commitment = self._parts.store.epochs, epoch.commitment
        intention = Intention(Step.POST, self._lane, record_hash(commitment), commitment.receipt_sum)
        numbers = await journal.intend([intention], self._parts.clock.now_ms())
        await on_chain(self._client.bind, self._parts.binding())
        sent = await on_chain(self._client.post_epoch, self._lane, commitment)
        await journal.mark_posted(self._lane, epoch.epoch, sent.text)
        await journal.done(numbers, sent.text)
        report.posted.append(commitment)
        report.transactions.append(sent.text)
        log.info(
            "posted epoch %d: %d receipts, %d units",
            epoch.epoch,
            commitment.receipt_count,
            commitment.receipt_sum,
            extra={"lane": checksummed(self._lane), "tx": sent.text},
        )


def published(epoch: StoredEpoch | None) -> EpochData | None:
    """What was published beside a commitment of this store. Raises LocalProtocolError where it is gone."""
    if epoch is None:
        return None
    if epoch.data is None:
        raise LocalProtocolError(f"the data of epoch {epoch.epoch} is gone; restore this home's latest store")
    return decode(EpochData, epoch.data, MAX_EPOCH_BYTES)
