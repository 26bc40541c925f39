"""Money is conserved among honest and dishonest posters and watchers, whatever is done in whatever order: a
state machine over all contracts on revm.

After every step: every token is where the books say, claims never exceed pots, nothing that only grows has
shrunk, and no honest commitment was killed."""

from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from commonlore.contracts.calling.tuples import claim_tuple, commitment_tuple
from commonlore.contracts.client.proving import abi_argument, path_tuples
from commonlore.contracts.staging.cast import (
    ALICE,
    AUTHOR,
    BOB,
    BOND,
    CLIENT,
    GUARDIAN,
    LANE,
    PAYER,
    PLATFORM,
    POOL_ACCOUNT,
    SUCCESSOR,
    TERMS,
    WATCHER,
)
from commonlore.contracts.staging.stage import Stage
from commonlore.protocol.ids import checksummed
from commonlore.protocol.settlement.commitments import EpochTrees
from commonlore.protocol.settlement.dishonest import FRIEND, plant
from commonlore.protocol.settlement.epoch_leaves import pack_line
from commonlore.protocol.settlement.fraud_earnings import find_earnings_frauds
from commonlore.protocol.settlement.fraud_receipts import find_receipt_frauds
from commonlore.protocol.settlement.frauds import Fraud, FraudKind
from commonlore.protocol.settlement.openings import open_receipt

STAKE, LINES, POSTER = 40, 1, 1
ASHES = bytes(18) + b"\xde\xad"
HOLDERS = (
    ALICE, BOB, AUTHOR.address, CLIENT.address, LANE.address, PLATFORM, POOL_ACCOUNT, SUCCESSOR, WATCHER,
    FRIEND, ASHES,
)  # fmt: skip
POSTERS = (LANE.address, SUCCESSOR)
LANE_TEXT = checksummed(LANE.address)
FRAUDS = (
    FraudKind.BAD_RECEIPT, FraudKind.BAD_LINE, FraudKind.UNSORTED_RECEIPTS, FraudKind.STRAY_LINE,
    FraudKind.DROPPED, FraudKind.WRONG_CUMULATIVE, FraudKind.POOL_SUM, FraudKind.WRONG_ACCOUNT,
)  # fmt: skip
SENT: list[int] = []
KILLED: list[FraudKind] = []


class ChallengedLane(RuleBasedStateMachine):
    """One lane with its bond, a payer with money in escrow, a watcher with stakes, another bonded poster."""

    @initialize(used=st.booleans())
    def begin(self, used: bool) -> None:
        self.stage = stage = Stage(replace(TERMS, demand_stake=STAKE))
        self.network = stage.network
        self.paid_prices = 0
        self.deposited = self.network.tokens(self.network.at["Escrow"])
        stage.bond(SUCCESSOR, POSTER, BOND)
        stage.fund(WATCHER, "Demands", 100 * STAKE)
        self.minted = self._all_tokens()
        self.grown = (0, 0, 0)
        if used:
            self.honest_epoch()

    def teardown(self) -> None:
        if hasattr(self, "network"):
            SENT.append(self.network.sent)

    # ---- what the lane does

    @rule(price=st.integers(1, 5_000), by_adapter=st.booleans())
    def serve(self, price: int, by_adapter: bool) -> None:
        self.stage.serve(price, by_adapter)

    @precondition(lambda self: self.stage.served)
    @rule()
    def redeem(self) -> None:
        unsettled = self._lane()["pot"] - self._lane()["settled"]
        owed = self.stage.voucher.voucher.cumulative - self._redeemed()
        standing = self.network.read("Bonds", "standing", LANE_TEXT, POSTER)
        allowed = owed > 0 and unsettled + owed <= 100 * standing
        call = self.stage.voucher_call()
        refusal = self.network.refusal(LANE.address, "Escrow", "redeemMany", *call)
        assert (refusal is None) == allowed, refusal

    @rule(kind=st.sampled_from((None, None, *FRAUDS)), challenged=st.booleans())
    def post(self, kind: FraudKind | None, challenged: bool) -> None:
        """An honest commitment, or one with a fraud that a watcher proves."""
        if self.stage.served and self._redeemed() < self.stage.voucher.voucher.cumulative:
            return
        served, earnings = list(self.stage.served), dict(self.stage.earnings)
        trees, honest = self._planted(kind), self.stage.build().commitment
        if self.network.read("Bonds", "standing", LANE_TEXT, POSTER) < TERMS.minimum_bond:
            self.network.wait(TERMS.epoch_length + TERMS.grace)
            call = self.stage.commitment_call(trees)
            assert self.network.refusal(LANE.address, "Settlement", "postEpoch", *call) == "BondTooSmall"
            return
        self.stage.post(trees)
        frauds = self._frauds()
        assert bool(frauds) == (trees.commitment != honest)
        if frauds:
            self._kill(frauds, served, earnings)
        elif challenged:
            self._accuse_falsely()

    @rule()
    def honest_epoch(self) -> None:
        """Enough in it that the next can hold any fraud, and a bond that allows it."""
        self._be_busy()
        self.post(None, True)

    @rule()
    def dishonest_epoch(self) -> None:
        """One that is caught."""
        self._be_busy()
        self.post(self._rarest_fraud(), True)

    def _be_busy(self) -> None:
        for price in (700, 800):
            self.stage.serve(price)
        self.stage.serve(300, by_adapter=False)
        self.bond_again()
        self.redeem()

    def _rarest_fraud(self) -> FraudKind | None:
        """Of those that the epoch holds enough for, the one that was proved least often."""
        honest = self.stage.build().commitment
        return next(
            (k for k in sorted(FRAUDS, key=KILLED.count) if self._planted(k).commitment != honest), None
        )

    def _planted(self, kind: FraudKind | None) -> EpochTrees:
        """The honest commitment where none is asked for, or the epoch holds too little for this fraud."""
        honest = self.stage.build()
        if kind is None or len(self.stage.served) < 2 or honest.commitment.credit_count < 2:
            return honest
        try:
            return self.stage.changed(plant(kind, self.stage.scene()))
        except (IndexError, ValueError):
            return honest

    def _frauds(self) -> list[Fraud]:
        posted = self.stage.posted()
        return [*find_receipt_frauds(posted), *find_earnings_frauds(posted)]

    def _kill(self, frauds, served, earnings) -> None:
        bond = self.network.read("Bonds", "bondOf", LANE_TEXT, POSTER)[0]
        before = self.network.tokens(WATCHER), self.network.tokens(ASHES)
        fraud = min(frauds, key=lambda found: KILLED.count(found.kind))
        assert self.stage.challenge(fraud) is None, fraud.said
        KILLED.append(fraud.kind)
        assert self.network.tokens(WATCHER) == before[0] + bond // 2
        assert self.network.tokens(ASHES) == before[1] + bond - bond // 2
        self.stage.epochs.pop()
        self.stage.served, self.stage.earnings = served + self.stage.served, earnings
        self.stage.bond(LANE.address, POSTER, BOND)
        self.minted += BOND

    def _accuse_falsely(self) -> None:
        trees = self.stage.epochs[-1]
        if not trees.commitment.receipt_count:
            return
        call = (LANE_TEXT, commitment_tuple(trees.commitment), abi_argument(open_receipt(trees, 0)))
        assert self.network.refusal(WATCHER, "ReceiptProofs", "proveBadReceipt", *call) == "NotFraud"

    @precondition(lambda self: self.stage.epochs)
    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        trees = data.draw(st.sampled_from(self.stage.epochs))
        epoch = trees.commitment.epoch
        final = self.network.read("Settlement", "isFinal", LANE_TEXT, epoch)
        claims = [claim_tuple(claim) for claim in trees.claims() if data.draw(st.booleans())]
        call = (LANE_TEXT, commitment_tuple(trees.commitment), claims)
        refusal = self.network.refusal(WATCHER, "Settlement", "claimMany", *call)
        assert refusal == (None if final else "WindowOpen")

    @precondition(lambda self: self.stage.epochs)
    @rule()
    def finalise(self) -> None:
        commitment = self.stage.epochs[-1].commitment
        final = self.network.read("Settlement", "isFinal", LANE_TEXT, commitment.epoch)
        call = (LANE_TEXT, commitment_tuple(commitment))
        refusal = self.network.refusal(WATCHER, "Settlement", "finalise", *call)
        assert refusal == (None if final else "WindowOpen")

    # ---- what others do

    @rule(
        seconds=st.sampled_from((1, TERMS.answer_time, TERMS.window, TERMS.epoch_length, TERMS.thaw_period))
    )
    def wait(self, seconds: int) -> None:
        self.network.wait(seconds)

    @precondition(lambda self: self.stage.epochs and self.stage.epochs[-1].commitment.receipt_count)
    @rule(answered=st.booleans())
    def demand(self, answered: bool) -> None:
        """An answer in time costs the watcher its stake; without one the commitment dies."""
        trees = self.stage.epochs[-1]
        call = self.stage.commitment_call(trees)
        if self.network.refusal(WATCHER, "Demands", "demand", *call, LINES, 0) is not None:
            return
        if answered:
            zeros = commitment_tuple(self.stage.posted().before)
            leaf, path = pack_line(trees.lines[0]), path_tuples(tuple(trees.line_tree.proof(0)))
            self.stage.call(
                LANE.address, "Demands", "answer", LANE_TEXT, zeros, call[1], LINES, 0, leaf, path
            )
            return
        self.network.wait(TERMS.answer_time)
        self.stage.call(CLIENT.address, "Demands", "expire", *call, LINES, 0)
        killed = self.stage.epochs.pop()
        self.stage.served = [*killed.receipts, *self.stage.served]
        before = self.stage.epochs[-1].earned if self.stage.epochs else ()
        self.stage.earnings = {earning.account: earning.cumulative for earning in before}
        self.stage.bond(LANE.address, POSTER, BOND)
        self.minted += BOND

    @rule(amount=st.integers(1, BOND))
    def thaw_bond(self, amount: int) -> None:
        held = self.network.read("Bonds", "bondOf", LANE_TEXT, POSTER)[0]
        refusal = self.network.refusal(LANE.address, "Bonds", "thaw", POSTER, amount)
        assert refusal == (None if amount <= held else "ThawExceedsFund")

    @rule()
    def withdraw_bond(self) -> None:
        _, thawing, thaw_at = self.network.read("Bonds", "bondOf", LANE_TEXT, POSTER)
        refusal = self.network.refusal(LANE.address, "Bonds", "withdraw", POSTER)
        assert (refusal is None) == (thawing > 0 and self.network.now >= thaw_at)

    @rule()
    def bond_again(self) -> None:
        self.stage.bond(LANE.address, POSTER, 200)
        self.minted += 200

    @rule()
    def succeed(self) -> None:
        due = self.network.read("Settlement", "succeedableAt", LANE_TEXT)
        refusal = self.network.refusal(WATCHER, "Settlement", "succeed", LANE_TEXT)
        assert refusal == "NotSuccessor", "the watcher has no bond"
        assert self.network.read("Settlement", "canSucceed", LANE_TEXT, checksummed(SUCCESSOR)) == (
            self.network.now >= due
        )

    @rule(seconds=st.integers(1, 50))
    def pause(self, seconds: int) -> None:
        allowed = self.network.now >= self.network.read("Settlement", "nextPause")
        refusal = self.network.refusal(GUARDIAN, "Settlement", "pause", seconds)
        assert (refusal is None) == allowed
        if allowed:
            self.network.wait(seconds)

    # ---- what must hold

    @invariant()
    def no_token_appears_or_vanishes(self) -> None:
        assert self._all_tokens() == self.minted

    @invariant()
    def contracts_hold_what_they_owe(self) -> None:
        lane = self._lane()
        at = self.network.at
        assert self.network.tokens(at["Settlement"]) == lane["pot"] - lane["claimed"]
        assert self.network.tokens(at["Escrow"]) == self.deposited - self._redeemed()
        assert lane["pot"] == self._redeemed()
        assert lane["claimed"] <= lane["committed"] <= lane["pot"]
        assert lane["settled"] <= lane["committed"]
        exposed = self.network.read("Settlement", "exposure", LANE_TEXT)
        assert exposed == lane["pot"] - lane["settled"]
        bonds = [self.network.read("Bonds", "bondOf", checksummed(p), POSTER)[0] for p in POSTERS]
        assert self.network.tokens(at["Bonds"]) == sum(bonds)

    @invariant()
    def what_only_grows_has_not_shrunk(self) -> None:
        lane = self._lane()
        grown = (lane["pot"], lane["claimed"], lane["settled"])
        assert all(now >= before for now, before in zip(grown, self.grown, strict=True))
        self.grown = grown

    @invariant()
    def honest_commitments_stand(self) -> None:
        head = self.stage.epochs[-1].commitment.epoch + 1 if self.stage.epochs else 0
        assert self._lane()["next"] == head

    # ---- readings

    def _lane(self) -> dict[str, int]:
        given = self.network.read("Settlement", "laneOf", LANE_TEXT)
        names = ("pot", "committed", "claimed", "settled", "next", "latest", "owed", "held")
        return dict(zip(names, given, strict=False))

    def _redeemed(self) -> int:
        return self.network.read("Escrow", "redeemed", checksummed(PAYER.address), LANE_TEXT)

    def _all_tokens(self) -> int:
        contracts = (address for name, address in self.network.at.items() if name != "CommonloreToken")
        return sum(self.network.tokens(account) for account in (*HOLDERS, *contracts))


TestChallengedLane = ChallengedLane.TestCase
TestChallengedLane.settings = settings(
    max_examples=50,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_the_machine_sent_enough():
    """Runs after it: what it sent are calls that change something, not readings."""
    assert sum(SENT) >= 2_000
    assert set(KILLED) >= set(FRAUDS)
