"""A poster's bond: what stands behind the commitments of this node's lane, as much as it is set to hold."""

from __future__ import annotations

import logging

from ...contracts.client.bonding import BondRole
from ...protocol.ids import checksummed
from ..store.epochs import Intention, Step
from .claiming import on_chain
from .redemption import SettleParts
from .settle_plan import SettleReport, Waiting

log = logging.getLogger(__name__)


class Bonding:
    """Keeps one account's bond as a poster."""

    def __init__(self, parts: SettleParts) -> None:
        self._parts = parts
        self._client = parts.client
        self._wanted = max(parts.bond, parts.client.deployment.minimum_bond)

    async def keep_up(self, report: SettleReport) -> None:
        """Add to the bond what it lacks, as far as the account has tokens; what is missing goes into the
        report."""
        if not self._wanted:
            return
        account = self._client.address
        standing = await on_chain(self._client.bonds.standing, account, BondRole.POSTER)
        lacks = self._wanted - standing
        if lacks <= 0:
            return
        held = await on_chain(self._client.balance, account)
        if held < lacks:
            report.waiting.append(
                Waiting(
                    None,
                    f"the bond of {checksummed(account)} is {standing} units of {self._wanted}: "
                    f"send that account {lacks - held} more",
                )
            )
            return
        journal = self._parts.store.epochs
        intention = Intention(Step.BOND, self._parts.binding().binding.session_key, account, lacks)
        numbers = await journal.intend([intention], self._parts.clock.now_ms())
        sent = await on_chain(self._client.bonds.bond, BondRole.POSTER, lacks)
        await journal.done(numbers, sent.text)
        report.transactions.append(sent.text)
        log.info("bonded %d units as a poster", lacks, extra={"account": checksummed(account)})
