"""Succession: a bonded poster posts for a lane that owes a commitment and whose own node is gone.

Rules of this file:

- What is posted is made from the lane's last published data alone: it credits those receipts, so that
  everybody who earned from them can claim. The worker's share is the successor's, who does the worker's work.
- Accounts of roles are the chain's and the receipts' own, never what the lost node published.
- Everything follows from the chain, so a round may be cut off anywhere and begun again.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import trio

from ...contracts.client.bonding import BondRole
from ...contracts.client.chain import ChainClient
from ...protocol.errors import CommonloreError, Unreachable
from ...protocol.ids import Address, checksummed
from ...protocol.receipts.records import Credit
from ...protocol.settlement.commitments import EpochTrees, build_epoch
from ...protocol.settlement.published import open_epoch
from ...protocol.settlement.settled import (
    SettledReceipt,
    check_settled,
    fold_earnings,
    number_of,
    pool_credits,
)
from ..settling.claiming import FetchTrees, fetch_data, on_chain
from ..settling.redemption import Publish
from ..settling.settle_plan import latest_postable
from .demands import Act, WatchReport

log = logging.getLogger(__name__)


class Successor:
    """Takes over lanes with one account's bond, which it keeps at `bond` token units."""

    def __init__(self, client: ChainClient, fetch: FetchTrees, publish: Publish, bond: int) -> None:
        self._client = client
        self._fetch = fetch
        self._publish = publish
        self._bond = bond

    async def look(self, report: WatchReport) -> None:
        """Post for every lane that needs it. What cannot be done goes into the report."""
        await self._keep_bond(report)
        for lane in await on_chain(self._client.lanes):
            try:
                if await self._is_mine(lane):
                    await self._post(lane, report)
            except Unreachable:
                raise
            except CommonloreError as error:
                report.waiting.append(f"succession of lane {checksummed(lane)}: {error}")

    async def _keep_bond(self, report: WatchReport) -> None:
        account = self._client.address
        lacks = self._bond - await on_chain(self._client.bonds.standing, account, BondRole.POSTER)
        if lacks > 0 and await on_chain(self._client.balance, account) >= lacks:
            await on_chain(self._client.bonds.bond, BondRole.POSTER, lacks)
        elif lacks > 0:
            report.waiting.append(f"{checksummed(account)} has {lacks} units too little for its bond")

    async def _is_mine(self, lane: Address) -> bool:
        """Whether this account posts for a lane, or may from now on."""
        poster = await on_chain(self._client.posters.of, lane)
        if poster.has_succeeded and poster.account == self._client.address:
            return True
        return await on_chain(self._client.posters.can_succeed, lane)

    async def _post(self, lane: Address, report: WatchReport) -> None:
        standing = await on_chain(self._client.commitments, lane)
        if not standing or not standing[-1].commitment.receipt_count:
            return  # it owes nothing that was ever published
        state = await on_chain(self._client.lane_state, lane)
        if state.pot != state.committed:
            report.waiting.append(
                f"lane {checksummed(lane)} redeemed money for receipts that nobody published"
            )
            return
        terms = self._client.deployment
        epoch = latest_postable(report.chain_time, terms.genesis, terms.epoch_length, terms.grace)
        if epoch < max(state.next_epoch, state.latest_epoch):
            return
        last = standing[-1].commitment
        raw = await fetch_data(lane, last, self._fetch)
        before = await trio.to_thread.run_sync(open_epoch, terms.domain, last, raw)
        trees = await trio.to_thread.run_sync(self._build, epoch, before)
        await self._publish(trees.data)
        if (await on_chain(self._client.posters.of, lane)).account != self._client.address:
            await on_chain(self._client.posters.succeed, lane)
        sent = await on_chain(self._client.post_epoch, lane, trees.commitment)
        said = f"earnings of {trees.commitment.cumulative_total} units can be claimed"
        report.acts.append(Act("succeed", lane, epoch, said, sent.text))
        log.info("posted epoch %d for a lane that owed it", epoch, extra={"lane": checksummed(lane)})

    def _build(self, epoch: int, before: EpochTrees) -> EpochTrees:
        """The next commitment: no receipts, the credits of those before, all earnings. CPU only."""
        domain = self._client.deployment.domain
        for settled in before.receipts:
            check_settled(domain, settled)
        credits = pool_credits(self._credited(settled) for settled in before.receipts)
        return build_epoch(domain, epoch, (), fold_earnings(before.earnings, credits), credits)

    def _credited(self, settled: SettledReceipt) -> SettledReceipt:
        """A receipt whose roles are paid to whom they belong."""
        terms = self._client.deployment
        accounts = {
            "platform": terms.platform,
            "worker": self._client.address,
            "work_pool": terms.work_pool,
        }

        def due(credit: Credit) -> Address:
            if credit.role == "author" and settled.authors:
                return settled.authors[number_of(credit)]
            return accounts.get(credit.role, credit.account)

        credits = tuple(replace(credit, account=due(credit)) for credit in settled.credits)
        return replace(settled, credits=credits)
