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

from ...protocol.errors import CommonloreError, DeadlineExceeded, Unreachable
from ..store.epochs import EpochState
from .answering import Answering
from .bonding import Bonding
from .claiming import Claimer, on_chain
from .posting import Posting
from .redemption import FEWEST_PROMPT_EPOCHS, SettleParts
from .settle_plan import SettleReport

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
        self._bonding = Bonding(parts)
        self._posting = Posting(parts)
        self._answering = Answering(parts)
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
            await self._bonding.keep_up(report)
            await self._posting.resume(report)
            await self._answering.answer(report)
            await self._posting.commit(report)
            await self._finalise(report)
            await self._claim(report)
            return report

    # ---- claims

    async def _finalise(self, report: SettleReport) -> None:
        """Posted epochs whose window has passed are final."""
        epochs = self._parts.store.epochs
        for epoch in await epochs.all(self._lane, EpochState.POSTED):
            if await on_chain(self._client.final_at, self._lane, epoch.epoch) > report.chain_time:
                break
            await epochs.mark_final(self._lane, epoch.epoch)
            oldest = epoch.epoch - max(self._parts.prompt_epochs, FEWEST_PROMPT_EPOCHS)
            forgotten = await self._parts.store.ledger.forget_openings(self._lane, oldest)
            if forgotten:
                log.info("deleted what was asked and answered in %d receipts up to %d", forgotten, oldest)

    async def _claim(self, report: SettleReport) -> None:
        final = await self._parts.store.epochs.last(self._lane, EpochState.FINAL)
        if final is None or final.data is None or final.epoch <= self._claimed_epoch:
            return
        claims = await self._claimer.claim(self._lane, final.commitment, final.data, self._parts.claim_for)
        if not claims:  # what was claimed is looked at once more: its block may be taken back
            self._claimed_epoch = final.epoch
        report.claimed += claims
