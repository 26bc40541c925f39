"""The money of a run, by the protocol's own arithmetic: prices, shares, credits, vouchers, epochs and claims.

Rules of this file: every unit that leaves a payer's escrow is in exactly one receipt, and `settle` follows it
to the claim it ends in. Signatures are zeros (their cost and their forgery are not simulated), output roots
too. The chain is ideal: each lane posts every epoch that has receipts, and one more that carries the last
earnings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...protocol.content.compositions import AdapterWeight
from ...protocol.encoding.fields import PPM
from ...protocol.ids import Address
from ...protocol.receipts.credits import compute_credits, compute_price, compute_shares
from ...protocol.receipts.records import Credit, Receipt, SignedVoucher
from ...protocol.receipts.rules import compute_voucher
from ...protocol.settlement.commitments import build_epoch, verify_claim
from ...protocol.settlement.epoch_leaves import PoolCredit
from ...protocol.settlement.settled import SettledReceipt, fold_earnings, pool_credits
from ...protocol.signing.eip712 import Domain
from ..experiment.models import Money
from ..workload.people import BASE, People

DOMAIN = Domain(31_337, Address(bytes(20)))
_ZERO_32, _ZERO_SIGNATURE = bytes(32), bytes(65)


@dataclass(frozen=True, slots=True)
class Bill:
    """What one worker delivered of one answer. `epoch` is that of the signed request; `prompt_tokens` include
    tokens that another worker delivered before."""

    payer: int
    worker: int
    adapter: int
    epoch: int
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of all money. `conserved` says that what left the escrows, the receipts, the credits and the
    claims are one amount; `earned` is by role, `payees` counts accounts with earnings.
    """

    receipts: int
    volume: int
    earned: dict[str, int]
    payees: int
    epochs: int
    conserved: bool


class Accounts:
    """Escrows, channels and receipts of a run."""

    def __init__(self, people: People, money: Money, deposit: int) -> None:
        self._people = people
        self._money = money
        self._deposit = deposit
        self._escrow = [deposit] * len(people.payers)
        self._channels: dict[tuple[int, int], SignedVoucher] = {}
        self._seqs: dict[tuple[int, int], int] = defaultdict(int)
        self._lanes: dict[int, list[SettledReceipt]] = defaultdict(list)
        self._receipts = 0
        self._volume = 0
        self._earned: dict[str, int] = defaultdict(int)
        self._balances: dict[Address, int] = defaultdict(int)

    def limit(self, payer: int) -> int:
        """What a payer is good for: its escrow."""
        return self._escrow[payer]

    def pay(self, bill: Bill, receipt_tokens: int) -> int:
        """Receipt and voucher for every `receipt_tokens` of a bill; returns what they cost together."""
        total = 0
        for step, start in enumerate(range(0, bill.output_tokens, receipt_tokens)):
            total += self._pay_step(bill, step, min(receipt_tokens, bill.output_tokens - start))
        return total

    def settle(self) -> Settlement:
        """Post every epoch of every lane and claim everything."""
        epochs, claimed = post_all(self._lanes) if self._money.trees else (0, sum(self._balances.values()))
        drawn = sum(self._deposit - left for left in self._escrow)
        amounts = {drawn, self._volume, sum(self._earned.values()), sum(self._balances.values()), claimed}
        return Settlement(
            receipts=self._receipts,
            volume=self._volume,
            earned=dict(self._earned),
            payees=len(self._balances),
            epochs=epochs,
            conserved=len(amounts) == 1 and min(self._escrow, default=0) >= 0,
        )

    def _pay_step(self, bill: Bill, step: int, tokens: int) -> int:
        people, channel = self._people, (bill.payer, bill.worker)
        prompt = 0 if step else bill.prompt_tokens
        price = compute_price(people.rates[bill.worker], prompt, tokens, step=step)
        self._seqs[channel] += 1
        chosen = (AdapterWeight(people.adapters[bill.adapter], PPM),) if bill.adapter >= 0 else ()
        receipt = Receipt(
            request_hash=_ZERO_32,
            payer=people.payers[bill.payer],
            lane=people.lanes[bill.worker],
            seq=self._seqs[channel],
            epoch=bill.epoch,
            step=step,
            artefact=BASE,
            adapters=chosen,
            prompt_tokens=prompt,
            output_tokens=tokens,
            output_root=_ZERO_32,
            price=price,
            shares=compute_shares(price, people.split_of(bill.adapter)),
            details=_ZERO_32,
        )
        payees = people.payees_of(bill.worker, bill.adapter)
        credits = compute_credits(receipt, payees, people.weights_of(bill.adapter))
        self._book(channel, receipt, credits, payees.author)
        return price

    def _book(
        self, channel: tuple[int, int], receipt: Receipt, credits: tuple[Credit, ...], author: Address | None
    ) -> None:
        self._escrow[channel[0]] -= receipt.price
        self._receipts += 1
        self._volume += receipt.price
        for credit in credits:
            self._earned[credit.role] += credit.amount
            self._balances[credit.account] += credit.amount
        if self._money.trees:
            voucher = compute_voucher(DOMAIN, receipt, self._channels.get(channel))
            self._channels[channel] = SignedVoucher(voucher, _ZERO_SIGNATURE)
            authors = () if author is None else (author,)
            settled = SettledReceipt(receipt, _ZERO_SIGNATURE, voucher, _ZERO_SIGNATURE, authors, credits)
            self._lanes[channel[1]].append(settled)


def post_all(lanes: Mapping[int, Iterable[SettledReceipt]]) -> tuple[int, int]:
    """Post every lane's epochs and claim everything: (epochs posted, amount that verified claims pay)."""
    epochs, claimed = 0, 0
    for worker in sorted(lanes):
        posted, amount = _post_lane(lanes[worker])
        epochs += posted
        claimed += amount
    return epochs, claimed


def _post_lane(receipts: Iterable[SettledReceipt]) -> tuple[int, int]:
    """Post one lane's epochs in order and claim from the last: (epochs posted, amount that verified claims
    pay).
    """
    by_epoch: dict[int, list[SettledReceipt]] = defaultdict(list)
    for settled in receipts:
        by_epoch[settled.receipt.epoch].append(settled)
    earnings: dict[Address, int] = {}
    credits: tuple[PoolCredit, ...] = ()
    pot = 0
    for epoch in sorted(by_epoch):
        commitment = build_epoch(DOMAIN, epoch, by_epoch[epoch], earnings, credits).commitment
        if commitment.cumulative_total != pot:
            return 0, -1
        pot += commitment.receipt_sum
        credits = pool_credits(by_epoch[epoch])
        earnings = fold_earnings(earnings, credits)
    last = build_epoch(DOMAIN, max(by_epoch, default=0) + 1, (), earnings, credits)
    valid = [claim.cumulative for claim in last.claims() if verify_claim(last.commitment, claim)]
    return len(by_epoch) + 1, sum(valid)
