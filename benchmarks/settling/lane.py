"""A lane on the embedded chain, every call of it a transaction: what its epochs cost is what is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from commonlore.contracts.calling.tuples import claim_tuple, commitment_tuple, voucher_tuple
from commonlore.contracts.client.redeeming import REDEEM_BATCH
from commonlore.contracts.deploying.terms import Accounts, Terms
from commonlore.contracts.staging import cast
from commonlore.contracts.staging import stage as stages
from commonlore.contracts.staging.cast import key_of
from commonlore.contracts.staging.stage import Stage
from commonlore.protocol.ids import Address, checksummed, keccak256
from commonlore.protocol.receipts.records import SignedVoucher, Voucher
from commonlore.protocol.settlement.commitments import EpochTrees, build_epoch
from commonlore.protocol.signing.eip712 import sign
from commonlore.protocol.signing.keys import AccountKey

from .chain import DEPLOYER, ChainNetwork

PRICE = 5_000
ACCOUNTS_EARNING = 512
"""So many accounts earn: a claim's path is nine steps."""
_SENDERS = (
    "client", "payer", "lane", "author", "curator", "watcher", "successor", "guardian", "platform",
    "auditor one", "auditor two", "attributor",
)  # fmt: skip
MIN_BOND_TERMS = replace(cast.TERMS, pot_per_bond=0, minimum_bond=0)


class MeasuredStage(Stage):
    """A stage whose calls are transactions of the embedded chain."""

    network: Any

    def fund(self, account: Address, spender: str, amount: int) -> None:
        """Gives an account tokens that a contract may take."""
        self.call(DEPLOYER.address, "CommonloreToken", "mint", checksummed(account), amount)
        held = self.network.tokens(account)
        self.call(account, "CommonloreToken", "approve", self.network.address(spender), held)


def open_stage(terms: Terms) -> MeasuredStage:
    """A lane on the embedded chain, from which everything is measured."""
    keys = [key_of(name) for name in _SENDERS] + [_payer(number) for number in range(REDEEM_BATCH)]

    def network(terms: Terms, accounts: Accounts, now: int, _: object) -> ChainNetwork:
        return ChainNetwork(terms, accounts, now, keys)

    original, stages.RevmNetwork = stages.RevmNetwork, network  # type: ignore[assignment,misc]
    try:
        return MeasuredStage(terms)
    finally:
        stages.RevmNetwork = original  # type: ignore[misc]


class ManyChannels:
    """A lane of many channels and many earners; each redemption pays PRICE a channel."""

    def __init__(self) -> None:
        self.stage = open_stage(MIN_BOND_TERMS)
        self.cumulative = [0] * REDEEM_BATCH
        self.earned: dict[Address, int] = {}
        self.last: EpochTrees | None = None
        self.owed = 0
        for number in range(REDEEM_BATCH):
            payer = _payer(number)
            self.stage.fund(payer.address, "Escrow", 100 * PRICE)
            self.stage.call(payer.address, "Escrow", "deposit", checksummed(payer.address), 100 * PRICE)
            self.stage.bind(payer, _session(number))

    def redeem(self, channels: int) -> int:
        """Redeem one more voucher of so many channels at once; the gas."""
        vouchers, signatures = [], []
        for number in range(channels):
            self.cumulative[number] += PRICE
            session = _session(number)
            total = self.cumulative[number]
            voucher = Voucher(
                session.address, self.stage.lane, total // PRICE, self.stage.epoch, total, PRICE, bytes(32)
            )
            signature = sign(self.stage.domain, session, voucher)
            vouchers.append(voucher_tuple(SignedVoucher(voucher, signature)))
            signatures.append(signature)
        self.owed += channels * PRICE
        used: int = self.stage.call(
            self.stage.lane, "Escrow", "redeemMany", checksummed(self.stage.lane), vouchers, signatures
        )  # type: ignore[assignment]
        return used

    def post(self) -> int:
        """Commit to what was redeemed; the gas. Receipts are made up, sums are not: posting looks at no
        leaf."""
        trees = build_epoch(self.stage.domain, self.stage.epoch, (), self.earned)
        root = keccak256(b"receipts") if self.owed else bytes(32)
        commitment = replace(
            trees.commitment,
            receipt_root=root,
            receipt_sum=self.owed,
            receipt_count=self.owed // PRICE,
            line_root=root,
            line_count=self.owed // PRICE,
        )
        end = (commitment.epoch + 1) * self.stage.terms.epoch_length + self.stage.terms.grace
        self.stage.network.wait(max(cast.START + end - self.stage.network.now, 0))
        arguments = (checksummed(self.stage.lane), commitment_tuple(commitment))
        used: int = self.stage.call(self.stage.lane, "Settlement", "postEpoch", *arguments)  # type: ignore[assignment]
        self._earn(self.owed)
        self.last, self.owed = replace(trees, commitment=commitment), 0
        return used

    def post_rest(self) -> None:
        """One more commitment, which offers what was earned; and its window."""
        self.post()
        self.stage.network.wait(self.stage.terms.window)

    def _earn(self, amount: int) -> None:
        part, rest = divmod(amount, ACCOUNTS_EARNING)
        for number in range(ACCOUNTS_EARNING if amount else 0):
            account = Address(keccak256(b"earner %d" % number)[12:])
            self.earned[account] = self.earned.get(account, 0) + part + (rest if number == 0 else 0)

    def claim_all(self, counts: Sequence[int] | set[int]) -> dict[int, int]:
        """Claims for disjoint accounts in batches of these sizes; the gas of each."""
        assert self.last is not None
        claims, used, start = self.last.claims(), {}, 0
        commitment = commitment_tuple(self.last.commitment)
        for count in sorted(counts):
            batch = [claim_tuple(claim) for claim in claims[start : start + count]]
            used[count] = self.stage.call(
                self.stage.lane, "Settlement", "claimMany", checksummed(self.stage.lane), commitment, batch
            )
            start += count
        return used  # type: ignore[return-value]


def _payer(number: int) -> AccountKey:
    return AccountKey.from_secret(keccak256(b"owner %d" % number))


def _session(number: int) -> AccountKey:
    return AccountKey.from_secret(keccak256(b"session %d" % number))
