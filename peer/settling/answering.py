"""Answers to those who demand to see a leaf of what this lane committed: shown in time, or the commitment is
lost."""

from __future__ import annotations

import logging

from ...contracts.client.demanding import Demand
from ...protocol.ids import checksummed
from ...protocol.settlement.commitments import Commitment
from ...protocol.settlement.published import open_epoch
from ..store.epochs import Intention, Step, StoredEpoch
from .claiming import on_chain
from .redemption import SettleParts
from .settle_plan import SettleReport

log = logging.getLogger(__name__)


class Answering:
    """Answers for one lane."""

    def __init__(self, parts: SettleParts) -> None:
        self._parts = parts
        self._client = parts.client
        self._lane = parts.binding().binding.session_key

    async def answer(self, report: SettleReport) -> None:
        """Show every leaf of this lane that is demanded and was not shown."""
        for demand in await on_chain(self._client.demands.open):
            if demand.lane == self._lane and demand.deadline > report.chain_time:
                await self._show(demand, report)

    async def _show(self, demand: Demand, report: SettleReport) -> None:
        epochs = await self._parts.store.epochs.all(self._lane)
        epoch = next((one for one in epochs if one.epoch == demand.epoch), None)
        if epoch is None or epoch.data is None:
            log.error("epoch %d is demanded, and its data is not here", demand.epoch)
            return
        domain = self._client.deployment.domain
        trees = open_epoch(domain, epoch.commitment, epoch.data)
        intention = Intention(Step.ANSWER, self._lane, demand.id, demand.index)
        numbers = await self._parts.store.epochs.intend([intention], self._parts.clock.now_ms())
        before = _before(epochs, demand.epoch)
        sent = await on_chain(self._client.demands.answer, demand, trees, before)
        await self._parts.store.epochs.done(numbers, sent.text)
        report.transactions.append(sent.text)
        log.info(
            "showed leaf %d of epoch %d", demand.index, demand.epoch, extra={"lane": checksummed(self._lane)}
        )


def _before(epochs: tuple[StoredEpoch, ...], epoch: int) -> Commitment | None:
    """The commitment before one of these."""
    earlier = [one.commitment for one in epochs if one.epoch < epoch]
    return earlier[-1] if earlier else None
