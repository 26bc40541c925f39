"""The money of real peers in virtual time: what their ledgers hold, posted and claimed as in `accounts`.

Receipts and vouchers are those that workers and clients signed and stored. Credits follow from them by the
protocol, with the weights that the kernel's people have: nobody attributes here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

from ...peer.store.ledger import Ledger
from ...peer.store.ledger_rows import ReceiptState, Role, StoredReceipt
from ...protocol.ids import Address, Cid
from ...protocol.receipts.credits import compute_credits
from ...protocol.settlement.settled import SettledReceipt
from ..network.accounts import Settlement, post_all
from ..workload.people import People

PAGE = 1_000


async def settle_ledgers(ledgers: Sequence[Ledger], people: People, *, trees: bool) -> Settlement:
    """The end of all money of these workers. `conserved`: what the channels' highest vouchers promise, the
    paid receipts, the credits and the claims are one amount."""
    adapters = {cid: number for number, cid in enumerate(people.adapters)}
    lanes: dict[int, list[SettledReceipt]] = {}
    promised = 0
    for number, ledger in enumerate(ledgers):
        lanes[number] = [_settled(stored, people, number, adapters) async for stored in _paid(ledger)]
        promised += sum(channel.cumulative for channel in await ledger.channels(Role.WORKER))
    return _settle(lanes, promised, trees=trees)


async def _paid(ledger: Ledger) -> AsyncIterator[StoredReceipt]:
    """Every receipt that a voucher pays for."""
    before: int | None = None
    while page := await ledger.receipts(before=before, limit=PAGE):
        before = page[-1].number
        for stored in page:
            if stored.role is Role.WORKER and stored.state is ReceiptState.VOUCHERED:
                yield stored


def _settled(stored: StoredReceipt, people: People, worker: int, adapters: dict[Cid, int]) -> SettledReceipt:
    receipt, voucher = stored.receipt, stored.voucher
    assert voucher is not None, "a paid receipt has its voucher"
    adapter = adapters[receipt.adapters[0].adapter] if receipt.adapters else -1
    payees = people.payees_of(worker, adapter)
    credits = compute_credits(receipt, payees, people.weights_of(adapter))
    authors = () if payees.author is None else (payees.author,)
    return SettledReceipt(
        receipt, stored.signed.signature, voucher.voucher, voucher.signature, authors, credits
    )


def _settle(lanes: dict[int, list[SettledReceipt]], promised: int, *, trees: bool) -> Settlement:
    earned: dict[str, int] = defaultdict(int)
    balances: dict[Address, int] = defaultdict(int)
    every = [settled for lane in lanes.values() for settled in lane]
    for settled in every:
        for credit in settled.credits:
            earned[credit.role] += credit.amount
            balances[credit.account] += credit.amount
    volume = sum(settled.receipt.price for settled in every)
    epochs, claimed = post_all(lanes) if trees else (0, sum(balances.values()))
    return Settlement(
        receipts=len(every),
        volume=volume,
        earned=dict(earned),
        payees=len(balances),
        epochs=epochs,
        conserved=len({promised, volume, sum(earned.values()), sum(balances.values()), claimed}) == 1,
    )
