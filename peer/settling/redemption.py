"""A lane's vouchers on their way to the chain: which receipts can be settled, who can pay, and what then is
paid.

What stands in a payer's way (an empty escrow, an unknown owner, credits that cannot be computed yet) goes
into the report and keeps no other payer waiting.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from ...contracts.calling.records import ChannelState
from ...contracts.client.chain import ChainClient
from ...protocol.errors import ChainError, CommonloreError
from ...protocol.ids import Address, Cid, checksummed
from ...protocol.receipts.records import SignedVoucher
from ...protocol.signing.bindings import SignedBinding
from ..clock import Clock
from ..store.epochs import Intention, Step
from ..store.ledger_rows import StoredReceipt
from ..store.node_store import Store
from .claiming import FetchTrees, on_chain
from .crediting import Crediting
from .settle_plan import Owed, SettleReport, Waiting, by_payer, committable, offered, paid

log = logging.getLogger(__name__)

MAX_RECEIPTS = 5_000
"""Receipts a commitment; what is over waits for the next. Each costs some 4 ms and 1.4 kB of data."""
Publish = Callable[[bytes], Awaitable[Cid]]
"""Keeps bytes where others can fetch them by the id it returns; doing it again changes nothing."""


FEWEST_PROMPT_EPOCHS = 1


@dataclass(frozen=True, slots=True)
class SettleParts:
    """What settling a lane needs.

    `binding()` is the lane's own, now in force: its session key is the lane, its owner the worker's payee.

    The client's account must be the owner or the lane's key. `claim_for`: whose earnings to claim here;
    None: all. `bond`: what that account is to have bonded as a poster, at least what the network asks.
    `prompt_epochs`: how long after a final commitment what was asked and answered is kept, at least until the
    next one has had it scored: `FEWEST_PROMPT_EPOCHS`.
    """

    client: ChainClient
    store: Store
    crediting: Crediting
    publish: Publish
    binding: Callable[[], SignedBinding]
    clock: Clock
    claim_for: Collection[Address] | None
    bond: int = 0
    prompt_epochs: int = 8
    fetch: FetchTrees | None = None
    """Where published data of this lane is had again that this store does not know."""


class Redeeming:
    """Redeems for one lane."""

    def __init__(self, parts: SettleParts) -> None:
        self._parts = parts
        self._client = parts.client
        self._lane = parts.binding().binding.session_key
        self._owner = parts.binding().binding.owner

    async def redeem(self, epoch: int, report: SettleReport) -> list[Owed]:
        """Redeem all that a commitment of `epoch` may hold; returns what it then must hold."""
        return await self._redeem(await self._candidates(epoch, report), report)

    async def _candidates(self, epoch: int, report: SettleReport) -> dict[Address, list[Owed]]:
        """By payer, what could be settled in this epoch, if it is or gets paid."""
        uncommitted = by_payer(await self._parts.store.ledger.uncommitted(self._lane))
        found: dict[Address, list[Owed]] = {}
        room = MAX_RECEIPTS
        for payer, channel in uncommitted.items():
            for stored in committable(channel, epoch)[:room]:
                owed = await self._owed(stored, report)
                if owed is None:
                    break
                found.setdefault(payer, []).append(owed)
                room -= 1
        if not room:
            report.waiting.append(Waiting(None, f"more than {MAX_RECEIPTS} receipts: the next epoch goes on"))
        return found

    async def _owed(self, stored: StoredReceipt, report: SettleReport) -> Owed | None:
        """A receipt with its credits; None, with the reason in the report, when they cannot be known now."""
        if stored.voucher is None:
            return None
        try:
            authors = await self._parts.crediting.authors_of(stored.receipt)
            credits = await self._parts.crediting.credits_of(stored, self._owner)
        except CommonloreError as error:
            report.waiting.append(Waiting(stored.receipt.payer, f"receipt {stored.receipt.seq}: {error}"))
            return None
        return Owed(stored, stored.voucher, authors, credits)

    async def _redeem(self, channels: dict[Address, list[Owed]], report: SettleReport) -> list[Owed]:
        """Send each channel's vouchers; afterwards, the receipts that the chain has paid."""
        vouchers: list[SignedVoucher] = []
        for payer, channel in channels.items():
            vouchers += await self._vouchers_of(payer, channel, report)
        if vouchers:
            await self._bind(self._parts.binding())
            await self._send_vouchers(vouchers, report)
        owed: list[Owed] = []
        for payer, channel in channels.items():
            redeemed = await on_chain(self._client.redeemed, payer, self._lane)
            owed += paid(channel, redeemed)
        return owed

    async def _vouchers_of(
        self, payer: Address, channel: list[Owed], report: SettleReport
    ) -> list[SignedVoucher]:
        """What to send for one channel; why nothing, goes into the report."""
        state = await on_chain(self._client.escrow_of, payer, self._lane)
        if channel[-1].cumulative <= state.redeemed:
            return []
        binding = await self._parts.store.records.binding(payer)
        if state.owner is None and binding is None:
            report.waiting.append(Waiting(payer, f"payer {checksummed(payer)} is bound to no owner"))
            return []
        if binding is not None and _is_news(binding, state):
            try:
                await self._bind(binding)
            except ChainError as error:
                report.waiting.append(Waiting(payer, str(error)))
                if state.owner is None:
                    return []
            state = await on_chain(self._client.escrow_of, payer, self._lane)
        vouchers = offered(channel, state.redeemed, state.available)
        missing = channel[-1].cumulative - state.redeemed - state.available
        if missing > 0:
            report.waiting.append(
                Waiting(payer, f"payer {checksummed(payer)} has {missing} units too little in escrow")
            )
        return vouchers

    async def _bind(self, binding: SignedBinding) -> None:
        await on_chain(self._client.bind, binding)

    async def _send_vouchers(self, vouchers: list[SignedVoucher], report: SettleReport) -> None:
        journal = self._parts.store.epochs
        highest = {signed.voucher.payer: signed.voucher for signed in vouchers}
        intentions = [Intention(Step.REDEEM, self._lane, p, v.cumulative) for p, v in highest.items()]
        numbers = await journal.intend(intentions, self._parts.clock.now_ms())
        done = await on_chain(self._client.redeem, vouchers)
        redeemed = {signed.voucher.payer for signed in done.paid}
        kept = [n for n, i in zip(numbers, intentions, strict=True) if i.subject in redeemed]
        await journal.done(kept, done.transactions[-1] if done.transactions else None)
        report.redeemed += done.amount
        report.transactions += done.transactions
        refused = (one for one in done.refused if one.voucher.voucher.payer not in redeemed)
        report.waiting += [Waiting(one.voucher.voucher.payer, str(one.error)) for one in refused]
        log.info("redeemed %d units", done.amount, extra={"lane": checksummed(self._lane)})


def _is_news(binding: SignedBinding, state: ChannelState) -> bool:
    """Whether the chain does not know this binding yet: the key's first, or one that makes it last longer."""
    if state.owner is None:
        return True
    return not state.revoked and binding.binding.not_after > state.session_ends
