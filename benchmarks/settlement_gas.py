"""Gas of settlement: every entry point, fraud proofs, and an epoch at 1, 100, 10,000 and a million
receipts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from commonlore.contracts import stage as stages
from commonlore.contracts.client import CLAIM_BATCH
from commonlore.contracts.lineage import Ancestor, lineage_arguments
from commonlore.contracts.proving import PROOFS, abi_argument, path_tuples, receipt_opening
from commonlore.contracts.redeeming import REDEEM_BATCH
from commonlore.contracts.registering import datanet_record_id
from commonlore.contracts.stage import Stage, key_of
from commonlore.contracts.terms import Accounts, Terms
from commonlore.contracts.tuples import claim_tuple, commitment_tuple, voucher_tuple
from commonlore.protocol.dishonest import FRIEND, plant
from commonlore.protocol.eip712 import sign
from commonlore.protocol.epoch_leaves import PoolCredit, pack_line
from commonlore.protocol.fraud_earnings import find_earnings_frauds
from commonlore.protocol.fraud_overlaps import ChannelHistory
from commonlore.protocol.fraud_receipts import find_receipt_frauds
from commonlore.protocol.frauds import FraudKind
from commonlore.protocol.ids import Address, checksummed, keccak256
from commonlore.protocol.keys import AccountKey
from commonlore.protocol.openings import open_line, open_receipt
from commonlore.protocol.receipts import Voucher
from commonlore.protocol.settlement import EpochTrees, build_epoch

from .settlement_chain import DEPLOYER, ChainNetwork

PRICE = 5_000
ACCOUNTS_EARNING = 512
"""So many accounts earn: a claim's path is nine steps."""
MIN_BOND_TERMS = replace(stages.TERMS, pot_per_bond=0, minimum_bond=0)


@dataclass(frozen=True, slots=True)
class Scale:
    """An epoch: its receipts, the channels that are redeemed and the claims that are made for it."""

    receipts: int
    channels: int
    claims: int


SCALES = (Scale(1, 1, 1), Scale(100, 10, 5), Scale(10_000, 200, 50), Scale(1_000_000, 2_000, 500))


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
    names = ("client", "payer", "lane", "author", "curator", "watcher", "successor", "guardian", "platform")
    keys = [key_of(name) for name in names] + [_payer(number) for number in range(REDEEM_BATCH)]

    def network(terms: Terms, accounts: Accounts, now: int, _: object) -> ChainNetwork:
        return ChainNetwork(terms, accounts, now, keys)

    original, stages.RevmNetwork = stages.RevmNetwork, network  # type: ignore[assignment,misc]
    try:
        return MeasuredStage(terms)
    finally:
        stages.RevmNetwork = original  # type: ignore[misc]


# ---- fraud


def measure_frauds() -> dict[str, int]:
    """The gas of proving one planted fraud of each kind, demanding a leaf, answering, and taking back."""
    stage = open_stage(stages.TERMS)
    for prices in ((900, 500, 500, 700), (800, 500, 500, 700)):
        stage.run_epoch(prices)
    stage.serve(900)
    for price in (500, 500, 300):
        stage.serve(price)
    stage.serve(300, by_adapter=False)
    stage.redeem()
    return {**{kind.value: _proof_gas(stage, kind) for kind in FraudKind}, **_demand_gas(stage)}


def _proof_gas(stage: MeasuredStage, kind: FraudKind) -> int:
    saved, now, epochs = stage.network.chain.snapshot(), stage.network.now, list(stage.epochs)
    served, earnings = stage.served, stage.earnings
    stage.post(stage.changed(plant(kind, stage.scene())))
    posted = stage.posted()
    history = ChannelHistory(lambda epoch: next(e for e in stage.epochs if e.commitment.epoch == epoch))
    for earlier in stage.epochs[:-1]:
        history.remember(stage.lane, earlier)
    found = [*find_receipt_frauds(posted), *history.take(posted), *find_earnings_frauds(posted)]
    fraud = next(fraud for fraud in found if fraud.kind is kind)
    contract, name = PROOFS[kind]
    arguments = [abi_argument(argument) for argument in fraud.arguments]
    if kind is FraudKind.OUTSIDE_LINEAGE:
        datanet = datanet_record_id(stages.CURATOR.address, "stage", 1)
        ancestry = [Ancestor(stages.ADAPTER_POOL, (datanet,), ())]
        arguments += lineage_arguments(ancestry, {datanet: [stages.ALICE, stages.BOB]}, FRIEND)
    used: int = stage.call(stages.WATCHER, contract, name, checksummed(stage.lane), *arguments)  # type: ignore[assignment]
    stage.network.chain.restore(saved)
    stage.network.now, stage.epochs = now, epochs
    stage.served, stage.earnings = served, earnings
    return used


def _demand_gas(stage: MeasuredStage) -> dict[str, int]:
    """A demand for each kind of answer, and one that nobody answers."""
    trees, lane, watcher = stage.post(), checksummed(stage.lane), stages.WATCHER
    commitment, before = (commitment_tuple(each.commitment) for each in (trees, stage.epochs[-2]))

    def sent(sender: Address, name: str, *arguments: object) -> int:
        used: int = stage.call(sender, "Demands", name, lane, *arguments)  # type: ignore[assignment]
        return used

    demanded = sent(watcher, "demand", commitment, 0, 1)
    shown = sent(stages.LANE.address, "answerReceipt", commitment, receipt_opening(open_receipt(trees, 1)))
    sent(watcher, "demand", commitment, 1, 2)
    line = open_line(trees, 2)
    leaf = (1, 2, pack_line(line.line), path_tuples(line.path))
    answered = sent(stages.LANE.address, "answer", before, commitment, *leaf)
    sent(watcher, "demand", commitment, 2, 0)
    stage.network.wait(stage.terms.answer_time)
    expired = sent(watcher, "expire", commitment, 2, 0)
    return {
        "demand": demanded,
        "answer (receipt)": shown,
        "answer (other leaf)": answered,
        "data withheld": expired,
    }


# ---- an epoch at size


def measure_epochs() -> tuple[dict[str, dict[str, float]], dict[str, object]]:
    """Gas per receipt by number of receipts (`post`, `redeem`, `claims`) of an epoch whose channels were
    redeemed and whose accounts were paid before; and beside it what the first time costs, batch by batch."""
    lane = _Lane()
    first_redeem = {count: lane.redeem(count) for count in (REDEEM_BATCH,)}
    first_post = lane.post()
    again = {count: lane.redeem(count) for count in (1, 10, 50, REDEEM_BATCH)}
    post = lane.post()
    lane.post_rest()
    counts = _parts(500, CLAIM_BATCH) | {1, 5, 50}
    first_claims = lane.claim_all(counts)
    lane.redeem(REDEEM_BATCH)
    lane.post()
    lane.post_rest()
    claims = lane.claim_all(counts)
    per_receipt = {
        str(scale.receipts): {
            "post": post / scale.receipts,
            "redeem": _in_batches(again, scale.channels, REDEEM_BATCH) / scale.receipts,
            "claims": _in_batches(claims, scale.claims, CLAIM_BATCH) / scale.receipts,
        }
        for scale in SCALES
    }
    detail: dict[str, object] = {
        "post_first": first_post,
        "post_again": post,
        "redeem_batch_first": first_redeem,
        "redeem_batch_again": again,
        "claim_batch_first": first_claims,
        "claim_batch_again": claims,
        "claim_path_steps": 9,
        "entry_points": lane.stage.network.gas,
    }
    return per_receipt, detail


def _parts(whole: int, batch: int) -> set[int]:
    return {batch, whole % batch} - {0}


def _in_batches(measured: dict[int, int], count: int, batch: int) -> int:
    """The gas of so many in batches, each of a size that was measured."""
    full, rest = divmod(count, batch)
    return full * measured.get(batch, 0) + (measured[rest] if rest else 0)


class _Lane:
    """A lane of many channels and many earners; each redemption pays PRICE a channel."""

    def __init__(self) -> None:
        self.stage = open_stage(MIN_BOND_TERMS)
        self.cumulative = [0] * REDEEM_BATCH
        self.pot, self.cumulative_total = 0, 0
        self.earned: dict[Address, int] = {}
        self.last: EpochTrees | None = None
        self.credits: tuple[PoolCredit, ...] = ()
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
            vouchers.append(voucher_tuple(stages.SignedVoucher(voucher, signature)))
            signatures.append(signature)
        self.pot += channels * PRICE
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
        )
        end = (commitment.epoch + 1) * self.stage.terms.epoch_length + self.stage.terms.grace
        self.stage.network.wait(max(stages.START + end - self.stage.network.now, 0))
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


# ---- the other entry points


def measure_entry_points(measured: dict[str, list[int]]) -> dict[str, int]:
    """What each entry point costs: the first call of those that were `measured`, and where it differs the
    last."""
    table: dict[str, int] = {}
    for name, used in sorted(measured.items()):
        table[name] = used[0]
        if len(used) > 1 and used[-1] != used[0]:
            table[f"{name} (again)"] = used[-1]
    return table
