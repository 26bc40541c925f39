"""A lane's settlement: redeem vouchers, post epochs, publish their trees, claim what was earned.

Rules of this file:

- The chain has the last word. Each round reads it and does what is missing, so a round may be cut off
  anywhere and begun again: nothing is redeemed, posted or paid twice. The store's journal says before and
  after each transaction what was meant and done.
- An epoch is redeemed only when it can be posted (it ended, and so did its requests), so that the pot holds
  just what its commitment says. Which receipts a commitment holds is decided by what the chain has paid.
- Epochs without receipts are skipped, but for the one that makes the last receipts' earnings claimable.
- Without the chain nothing is lost and inference goes on: a round fails, is logged, and is tried again later.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import trio

from ..contracts.records import LaneState
from ..protocol.blob_names import describe_blob
from ..protocol.codec import record_hash
from ..protocol.errors import ChainError, CommonloreError, DeadlineExceeded, LocalProtocolError, Unreachable
from ..protocol.ids import Address, checksummed
from ..protocol.settled import check_settled
from ..protocol.settlement import EpochTrees, build_epoch, commitment_hash
from .claiming import Claimer, on_chain
from .epochs import EpochState, Intention, Step, StoredEpoch
from .redemption import Redeeming, SettleParts
from .settle_plan import (
    Owed,
    SettleReport,
    check_same_chain,
    is_postable_still,
    latest_postable,
    total_price,
    unearned,
)

log = logging.getLogger(__name__)

LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True)
class SettleStatus:
    """How settlement is doing, for people: `waiting_for` is empty when the last round was whole."""

    last_round_ms: int = 0
    waiting_for: str = ""
    failures: int = 0


class Settler:
    """Settles one lane, a round at a time."""

    def __init__(self, parts: SettleParts) -> None:
        self._parts = parts
        self._client = parts.client
        self._lane = parts.binding().binding.session_key
        self._redeeming = Redeeming(parts)
        self._claimer = Claimer(parts.client, parts.store.epochs, parts.clock)
        self._claimed_epoch = -1
        self._turn = trio.Lock()
        self._wake = trio.Event()
        self.status = SettleStatus()

    def wake(self) -> None:
        """Begin the next round now."""
        self._wake.set()

    async def run(self, interval_s: float) -> None:
        """Settle for ever, every `interval_s` seconds; after a failure at growing intervals."""
        while True:
            await self._round()
            slower = 2.0 ** min(self.status.failures, 10)
            pause = min(interval_s * slower, max(LONGEST_PAUSE_S, interval_s))
            with trio.move_on_after(pause):
                await self._wake.wait()
            self._wake = trio.Event()

    async def _round(self) -> None:
        """One round whose failure is logged and remembered."""
        try:
            report = await self.settle_once()
        except CommonloreError as error:
            self.status = SettleStatus(self.status.last_round_ms, str(error), self.status.failures + 1)
            level = logging.WARNING if isinstance(error, Unreachable | DeadlineExceeded) else logging.ERROR
            log.log(level, "settlement waits: %s", error, extra={"failures": self.status.failures})
            return
        except Exception:  # a defect of settlement: answers go on without it
            self.status = SettleStatus(
                self.status.last_round_ms, "settlement failed; see the log", self.status.failures + 1
            )
            log.exception("settlement failed")
            return
        reasons = "; ".join(waiting.reason for waiting in report.waiting)
        self.status = SettleStatus(self._parts.clock.now_ms(), reasons)

    async def settle_once(self) -> SettleReport:
        """Do all that can be done now. Raises Unreachable, ChainError; what was done stays done."""
        async with self._turn:
            report = SettleReport(await on_chain(self._client.chain_time))
            await self._resume(report)
            await self._commit(report)
            await self._finalise(report)
            await self._claim(report)
            return report

    # ---- an epoch that was prepared when this node stopped

    async def _resume(self, report: SettleReport) -> None:
        """Finish the commitment that is prepared, if there is one: it was posted, or is posted now, or is
        withdrawn.
        """
        last = await self._parts.store.epochs.last(self._lane)
        if last is None or last.state is not EpochState.PREPARED:
            return
        lane = await on_chain(self._client.lane_state, self._lane)
        if lane.next_epoch > last.epoch:
            await self._confirm(last)
        elif is_postable_still(lane, last.commitment):
            await self._post(last, report)
        else:
            log.warning("epoch %d is prepared anew: the pot has changed", last.epoch)
            await self._parts.store.epochs.withdraw(self._lane, last.epoch)

    async def _confirm(self, epoch: StoredEpoch) -> None:
        """The chain has this epoch already. Raises ChainError unless it is this very commitment."""
        posted, _ = await on_chain(self._client.posted, self._lane, epoch.epoch)
        if posted != commitment_hash(epoch.commitment):
            raise ChainError(
                f"epoch {epoch.epoch} of lane {checksummed(self._lane)} was posted by another program; "
                "only one node may settle a lane"
            )
        await self._parts.store.epochs.mark_posted(self._lane, epoch.epoch)

    # ---- a new epoch

    async def _commit(self, report: SettleReport) -> None:
        """Redeem, prepare, publish and post the latest epoch that can be posted, if there is anything in
        it.
        """
        epochs = self._parts.store.epochs
        last = await epochs.last(self._lane)
        lane = await on_chain(self._client.lane_state, self._lane)
        check_same_chain(lane, last.commitment if last else None)
        terms = self._client.deployment
        epoch = latest_postable(report.chain_time, terms.genesis, terms.epoch_length, terms.grace)
        if epoch < max(lane.next_epoch, lane.latest_epoch):
            return
        owed = await self._redeeming.redeem(epoch, report)
        earnings = await epochs.earnings(self._lane)
        if not owed and not unearned(earnings, last.commitment if last else None):
            return
        await self._check_pot(owed, report)
        trees = await trio.to_thread.run_sync(self._build, epoch, owed, earnings)
        prepared = StoredEpoch(self._lane, trees.commitment, describe_blob([trees.data])[0], trees.data)
        await epochs.prepare(prepared, [one.credited for one in owed])
        await self._post(prepared, report)

    async def _check_pot(self, owed: list[Owed], report: SettleReport) -> None:
        """Raises ChainError unless what these receipts cost is just what the pot grew by."""
        lane: LaneState = await on_chain(self._client.lane_state, self._lane)
        grown, explained = lane.pot - lane.committed, total_price(owed)
        if grown != explained:
            why = (
                "; ".join(waiting.reason for waiting in report.waiting) or "restore this home's latest store"
            )
            raise ChainError(
                f"the pot of lane {checksummed(self._lane)} grew by {grown} units; the receipts here explain "
                f"{explained} of them: {why}"
            )

    def _build(self, epoch: int, owed: list[Owed], earnings: dict[Address, int]) -> EpochTrees:
        """The commitment, after a last check of every signature in it. CPU only; runs in a thread."""
        domain = self._client.deployment.domain
        settled = [one.settled for one in owed]
        for one in settled:
            check_settled(domain, one)
        return build_epoch(domain, epoch, settled, earnings)

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

    # ---- claims

    async def _finalise(self, report: SettleReport) -> None:
        """Posted epochs whose window has passed are final."""
        epochs = self._parts.store.epochs
        for epoch in await epochs.all(self._lane, EpochState.POSTED):
            _, posted_at = await on_chain(self._client.posted, self._lane, epoch.epoch)
            if posted_at and posted_at + self._client.deployment.window <= report.chain_time:
                await epochs.mark_final(self._lane, epoch.epoch)

    async def _claim(self, report: SettleReport) -> None:
        final = await self._parts.store.epochs.last(self._lane, EpochState.FINAL)
        if final is None or final.data is None or final.epoch <= self._claimed_epoch:
            return
        claims = await self._claimer.claim(self._lane, final.commitment, final.data, self._parts.claim_for)
        self._claimed_epoch = final.epoch
        report.claimed += claims
