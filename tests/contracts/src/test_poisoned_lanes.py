"""What a lane may leave behind so that whoever posts after it is challenged, or that no proof would reach."""

from dataclasses import replace

from commonlore.contracts.calling.tuples import commitment_tuple
from commonlore.contracts.client.proving import abi_argument, receipt_opening
from commonlore.contracts.staging.cast import BOND, LANE, TERMS, WATCHER
from commonlore.contracts.staging.stage import Stage, data_of
from commonlore.protocol.ids import checksummed
from commonlore.protocol.settlement.commitments import Earning
from commonlore.protocol.settlement.fraud_earnings import find_earnings_frauds
from commonlore.protocol.settlement.openings import open_earning, open_receipt

STAKE = 50
POSTER = 1
NOBODY = bytes(19) + b"\x01"


def final_at(stage, trees):
    return stage.network.read("Settlement", "finalAt", checksummed(stage.lane), trees.commitment.epoch)


def test_no_amount_hides_beyond_the_count():
    """Three of four receipts are counted, the fourth lies in the padding: the third cannot be shown."""
    stage = Stage(replace(TERMS, demand_stake=STAKE))
    stage.fund(WATCHER, "Demands", STAKE)
    for price in (900, 500, 700, 300):
        stage.serve(price)
    stage.redeem()
    whole = stage.build()
    trees = stage.post(replace(whole, commitment=replace(whole.commitment, receipt_count=3)))
    place = stage.commitment_call(trees)
    stage.call(WATCHER, "Demands", "demand", *place, 0, 2)
    shown = receipt_opening(open_receipt(trees, 2))
    assert stage.network.refusal(LANE.address, "Demands", "answerReceipt", *place, shown) == "BadProof"
    stage.network.wait(TERMS.answer_time)
    stage.call(WATCHER, "Demands", "expire", *place, 0, 2)
    assert stage.network.tokens(WATCHER) == STAKE + BOND // 2


def test_an_account_that_had_nothing_may_go():
    """A leaf of 0 that nobody could prove wrong does not make the next commitment, without it, a fraud."""
    stage = Stage()
    stage.run_epoch()
    stage.serve(900)
    stage.redeem()
    data = data_of(stage.build())
    poisoned = stage.post(stage.changed(replace(data, earnings=(Earning(NOBODY, 0), *data.earnings))))
    stage.network.wait(TERMS.window)
    honest = stage.run_epoch()
    assert poisoned.accounts[0] == NOBODY != honest.accounts[0]
    assert list(find_earnings_frauds(stage.posted())) == []
    lane, now = stage.commitment_call(honest)
    before, gap = abi_argument(open_earning(poisoned, 0)), [abi_argument(open_earning(honest, 0))]
    call = (lane, commitment_tuple(poisoned.commitment), before, now, gap)
    assert stage.network.refusal(WATCHER, "EarningsProofs", "proveDropped", *call) == "NotFraud"


def test_demands_on_later_commitments_do_not_hold_an_earlier_one_for_ever():
    """Nor is anything open longer than a successor waits: its bond would answer for another's commitment."""
    stage = Stage(replace(TERMS, epoch_length=100, grace=0, demand_stake=STAKE))
    stage.fund(WATCHER, "Demands", 10 * STAKE)
    first = stage.run_epoch((900,))
    longest = stage.network.now + TERMS.window + 2 * TERMS.answer_time
    stage.call(WATCHER, "Demands", "demand", *stage.commitment_call(first), 0, 0)
    for _ in range(8):
        later = stage.run_epoch((900,))
        stage.call(WATCHER, "Demands", "demand", *stage.commitment_call(later), 0, 0)
        stage.network.wait(50)
    assert final_at(stage, first) <= longest < final_at(stage, later)


def test_what_stands_behind_a_pot_is_there_when_it_is_posted():
    stage = Stage()
    stage.serve(50_000)
    stage.redeem()
    stage.call(stage.lane, "Bonds", "thaw", POSTER, BOND - TERMS.minimum_bond)
    stage.network.wait(TERMS.thaw_period)
    stage.call(stage.lane, "Bonds", "withdraw", POSTER)
    call = stage.commitment_call(stage.build())
    assert stage.network.refusal(stage.lane, "Settlement", "postEpoch", *call) == "PotExceedsBond"
    stage.bond(stage.lane, POSTER, BOND)
    stage.network.wait(2 * TERMS.epoch_length)
    assert stage.network.refusal(stage.lane, "Settlement", "postEpoch", *call) is None
