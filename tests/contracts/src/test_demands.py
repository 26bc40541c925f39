"""Data withheld: show the leaf in time, or lose the commitment."""

from dataclasses import replace

import pytest

from commonlore.contracts.calling.tuples import claim_tuple, commitment_tuple
from commonlore.contracts.client.proving import path_tuples, receipt_opening
from commonlore.contracts.staging.cast import ADAPTER_POOL, BOND, LANE, TERMS, WATCHER
from commonlore.contracts.staging.stage import Stage
from commonlore.protocol.ids import checksummed
from commonlore.protocol.settlement.epoch_leaves import pack_line
from commonlore.protocol.settlement.fraud_receipts import find_receipt_frauds
from commonlore.protocol.settlement.frauds import NO_COMMITMENT
from commonlore.protocol.settlement.openings import open_receipt

STAKE = 50
RECEIPTS, LINES, EARNINGS, BY_ACCOUNT, BY_POOL = range(5)
ANSWER = TERMS.answer_time


@pytest.fixture
def stage():
    """A lane with two commitments, the second with credits and earnings, and a watcher with money."""
    stage = Stage(replace(TERMS, demand_stake=STAKE))
    stage.run_epoch()
    stage.run_epoch((700, 800, 800))
    stage.fund(WATCHER, "Demands", 10 * STAKE)
    return stage


def call_of(stage):
    return stage.commitment_call(stage.epochs[-1])


def demand(stage, tree, index=0):
    return stage.network.refusal(WATCHER, "Demands", "demand", *call_of(stage), tree, index)


def answer(stage, tree, index=0, sender=LANE.address, leaf=None):
    trees, previous = stage.epochs[-1], stage.epochs[-2].commitment
    if tree == RECEIPTS:
        call = (*call_of(stage), receipt_opening(open_receipt(trees, index)))
        return stage.network.refusal(sender, "Demands", "answerReceipt", *call)
    packed, grown = leaf_of(trees, tree, index)
    lane, commitment = call_of(stage)
    place = (commitment_tuple(previous), commitment, tree, index)
    call = (lane, *place, leaf or packed, path_tuples(tuple(grown.proof(index))))
    return stage.network.refusal(sender, "Demands", "answer", *call)


def leaf_of(trees, tree, index):
    """What is hashed of a leaf, and its tree."""
    if tree == LINES:
        return pack_line(trees.lines[index]), trees.line_tree
    if tree == EARNINGS:
        earning = trees.earned[index]
        return earning.account + earning.cumulative.to_bytes(16, "big"), trees.earnings_tree
    credits = trees.pool_credits if tree == BY_POOL else trees.account_credits
    credit = credits[index]
    packed = credit.pool + bytes((credit.role,)) + credit.account + credit.amount.to_bytes(16, "big")
    return packed, trees.pool_credit_tree if tree == BY_POOL else trees.account_credit_tree


@pytest.mark.parametrize("tree", range(5))
def test_whoever_shows_the_leaf_gets_the_stake(stage, tree):
    assert demand(stage, tree, 1) is None
    assert stage.network.read("Bonds", "frozen", checksummed(stage.lane), 1)
    assert answer(stage, tree, 1) is None
    assert stage.network.tokens(stage.lane) == STAKE
    assert not stage.network.read("Bonds", "frozen", checksummed(stage.lane), 1)
    assert answer(stage, tree, 1) == "UnknownDemand"


@pytest.mark.parametrize("tree", range(5))
def test_what_is_not_shown_in_time_kills(stage, tree):
    lane, commitment = call_of(stage)
    assert demand(stage, tree) is None
    expire = (lane, commitment, tree, 0)
    stage.network.wait(ANSWER - 1)
    assert stage.network.refusal(WATCHER, "Demands", "expire", *expire) == "StillAnswerable"
    stage.network.wait(1)
    assert answer(stage, tree) == "TooLate"
    stage.call(stage.lane, "Demands", "expire", *expire)
    assert stage.network.tokens(WATCHER) == 10 * STAKE + BOND // 2
    assert stage.network.read("Settlement", "posted", lane, stage.epochs[-1].commitment.epoch)[0] == bytes(32)
    assert stage.network.refusal(WATCHER, "Demands", "expire", *expire) == "UnknownDemand"


def test_a_demand_holds_the_commitment_and_the_bond(stage):
    """Made at the last moment, it keeps claims out until its answer could have been challenged too."""
    lane, commitment = call_of(stage)
    stage.network.wait(TERMS.window - 1)
    assert demand(stage, LINES) is None
    claims = [claim_tuple(claim) for claim in stage.epochs[-1].claims()]
    stage.network.wait(2 * ANSWER - 1)
    assert stage.network.refusal(WATCHER, "Settlement", "claimMany", lane, commitment, claims) == "WindowOpen"
    stage.network.wait(1)
    stage.call(WATCHER, "Settlement", "claimMany", lane, commitment, claims)
    stage.call(stage.lane, "Bonds", "thaw", 1, BOND)
    stage.network.wait(TERMS.thaw_period)
    assert stage.network.refusal(stage.lane, "Bonds", "withdraw", 1) == "BondIsFrozen"
    stage.call(stage.lane, "Demands", "expire", lane, commitment, LINES, 0)
    held = stage.network.tokens(stage.lane)
    stage.call(stage.lane, "Bonds", "withdraw", 1)
    assert stage.network.tokens(stage.lane) == held + BOND


def test_an_earlier_commitment_stays_claimable_while_a_later_one_is_held(stage):
    stage.network.wait(TERMS.window)
    early = stage.commitment_call(stage.epochs[-1])
    claims = [claim_tuple(claim) for claim in stage.epochs[-1].claims()]
    stage.run_epoch()
    assert demand(stage, EARNINGS) is None
    stage.call(WATCHER, "Settlement", "claimMany", *early, claims)


def test_what_an_answer_shows_can_still_be_proved_wrong(stage):
    stage.serve(900)
    stage.serve(500)
    stage.redeem()
    settled = stage.served[0]
    wrong = replace(settled, voucher_signature=bytes(65))
    stage.post(stage.changed(stage.scene().first(wrong)))
    stage.network.wait(TERMS.window - 1)
    index = [r.receipt_id for r in stage.epochs[-1].receipts].index(settled.receipt_id)
    assert demand(stage, RECEIPTS, index) is None
    stage.network.wait(ANSWER - 1)
    assert answer(stage, RECEIPTS, index) is None
    stage.network.wait(ANSWER - 1)
    assert stage.challenge(next(iter(find_receipt_frauds(stage.posted())))) is None


def test_demands_that_ask_for_nothing_are_refused(stage):
    assert demand(stage, LINES, stage.epochs[-1].commitment.receipt_count) == "NoSuchLeaf"
    assert demand(stage, 5) == "NoSuchLeaf"
    assert demand(stage, LINES) is None
    assert demand(stage, LINES) == "AlreadyDemanded"
    stage.network.wait(TERMS.window)
    assert demand(stage, EARNINGS) == "WindowPassed"
    nothing = (checksummed(stage.lane), commitment_tuple(NO_COMMITMENT), LINES, 0)
    assert stage.network.refusal(WATCHER, "Demands", "demand", *nothing) == "WindowPassed"


@pytest.mark.parametrize("tree", [LINES, EARNINGS, BY_ACCOUNT, BY_POOL])
def test_a_leaf_that_is_not_the_one_is_no_answer(stage, tree):
    assert demand(stage, tree) is None
    other, _ = leaf_of(stage.epochs[-1], tree, 1)
    assert answer(stage, tree, leaf=other) == "BadProof"
    assert answer(stage, tree, leaf=other[:-1]) == "WrongLeaf"
    assert answer(stage, tree, 1) == "UnknownDemand"


def test_a_demand_outlives_a_commitment_that_died_otherwise(stage):
    stage.serve(900)
    stage.serve(500)
    stage.redeem()
    wrong = replace(stage.served[0], voucher_signature=bytes(65))
    stage.post(stage.changed(stage.scene().first(wrong)))
    assert demand(stage, LINES) is None
    assert stage.challenge(next(iter(find_receipt_frauds(stage.posted()))), sender=b"\x05" * 20) is None
    stage.network.wait(ANSWER)
    stage.call(WATCHER, "Demands", "expire", *call_of(stage), LINES, 0)
    assert stage.network.tokens(WATCHER) == 10 * STAKE
    assert not stage.network.read("Bonds", "frozen", checksummed(stage.lane), 1)


def test_the_first_line_is_the_one_of_no_pool(stage):
    pools = [line.pool for line in stage.epochs[-1].lines]
    assert pools == sorted(pools)
    assert {bytes(32), ADAPTER_POOL} == set(pools)
