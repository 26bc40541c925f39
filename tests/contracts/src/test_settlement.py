"""Vouchers into pots, pots into commitments, commitments into claims; and everything the contracts refuse."""

import dataclasses
import math

import pytest

from commonlore.contracts.calling.tuples import voucher_tuple
from commonlore.protocol.content.splits import (
    BASE_SPLIT,
    DEFAULT_SPLIT,
    OPENLEDGER_SPLIT,
    SPLIT_BOUNDS,
    check_split_bounds,
)
from commonlore.protocol.encoding.merkle import SumNode
from commonlore.protocol.errors import ChainError, InsufficientEscrow, LocalProtocolError
from commonlore.protocol.ids import Address, checksummed, keccak256
from commonlore.protocol.receipts.records import SignedVoucher

DATA_OWNER, AUTHOR = (Address(keccak256(name)[12:]) for name in (b"data", b"author"))


def reason_of(redemption):
    (refused,) = redemption.refused
    return refused.error.reason.name


@pytest.fixture
def alice(network):
    return network.payer("alice", 1_000)


@pytest.fixture
def bob(network):
    """A worker."""
    return network.party("bob")


def test_the_whole_path_from_deposit_to_claims(network, alice, bob, tools):
    """Deposit, reserve, redeem, post n, post n+1, claim; what goes in comes out, at every step."""
    lane = bob.key
    alice.chain.reserve(alice.key, lane, 300)
    redemption = bob.chain.redeem([alice.voucher(lane, 400)])
    assert (redemption.amount, redemption.refused) == (400, ())
    state = alice.chain.escrow_of(alice.key, lane)
    assert (state.reservation.amount, state.balance.amount, state.redeemed) == (0, 600, 400)
    network.check_conservation(lane)

    network.end_epoch(0)
    first = tools.commitment(0, 400)
    bob.chain.post_epoch(lane, first)
    network.check_conservation(lane)

    earned = tools.Earnings({bob.owner.address: 160, DATA_OWNER: 180, AUTHOR: 60})
    network.end_epoch(1)
    second = tools.commitment(1, 0, earned)
    bob.chain.post_epoch(lane, second)
    posted = alice.chain.commitments(lane)
    assert [entry.commitment for entry in posted] == [first, second]
    assert posted[1].final_at == network.clock.now + tools.TERMS.window

    with tools.refused("WindowOpen"):
        alice.chain.claim(lane, second, earned.claims())
    network.clock.now += tools.TERMS.window
    claims = alice.chain.claim(lane, second, earned.claims())
    assert {paid.account: paid.amount for paid in claims.paid} == earned.earned
    assert claims.amount == 400
    assert alice.chain.balance(DATA_OWNER) == 180 == alice.chain.claimed(lane, DATA_OWNER)
    assert alice.chain.lane_state(lane).claimed == 400
    network.check_conservation(lane)
    assert alice.chain.balance(network.deployment.settlement) == 0
    assert alice.chain.balance(network.deployment.escrow) == 600


def test_claims_are_cumulative_and_a_repetition_pays_nothing(network, alice, bob, tools):
    lane = bob.key
    for epoch, total in ((0, 100), (1, 250)):
        bob.chain.redeem([alice.voucher(lane, total, epoch)])
        network.end_epoch(epoch)
        earned = tools.Earnings({DATA_OWNER: 60, AUTHOR: 40} if epoch else {})
        bob.chain.post_epoch(lane, tools.commitment(epoch, 150 if epoch else 100, earned))
    final = tools.Earnings({DATA_OWNER: 150, AUTHOR: 100})
    network.end_epoch(2)
    bob.chain.post_epoch(lane, tools.commitment(2, 0, final))
    network.clock.now += tools.TERMS.window
    earlier = tools.Earnings({DATA_OWNER: 60, AUTHOR: 40})
    old, new = tools.commitment(1, 150, earlier), tools.commitment(2, 0, final)
    assert alice.chain.claim(lane, old, [earlier.claim(DATA_OWNER)]).amount == 60
    assert alice.chain.claim(lane, new, final.claims()).amount == 90 + 100
    assert alice.chain.claim(lane, new, final.claims()).amount == 0
    assert alice.chain.claim(lane, old, earlier.claims()).paid == ()
    network.check_conservation(lane)


def test_redeeming_takes_the_highest_voucher_of_each_channel(network, alice, bob):
    carol = network.payer("carol", 50)
    vouchers = [alice.voucher(bob.key, 10), alice.voucher(bob.key, 30), carol.voucher(bob.key, 7)]
    redemption = bob.chain.redeem(vouchers)
    assert redemption.amount == 37
    assert len(redemption.transactions) == 1
    assert bob.chain.redeemed(alice.key, bob.key) == 30


def test_a_voucher_is_paid_whole_or_the_next_lower_one_is(network, alice, bob):
    redemption = bob.chain.redeem([alice.voucher(bob.key, 900), alice.voucher(bob.key, 1_200)])
    assert redemption.amount == 900
    assert isinstance(redemption.refused[0].error, InsufficientEscrow)
    assert redemption.refused[0].error.reason.arguments["available"] == 1_000


def test_what_one_channel_lacks_keeps_no_other_from_being_paid(network, alice, bob):
    poor, stranger = network.payer("poor", 5), network.party("stranger", bound=False)
    vouchers = [poor.voucher(bob.key, 6), stranger.voucher(bob.key, 1), alice.voucher(bob.key, 10)]
    redemption = bob.chain.redeem(vouchers)
    assert [signed.voucher.payer for signed in redemption.paid] == [alice.key]
    names = {refused.error.reason.name for refused in redemption.refused}
    assert names == {"InsufficientEscrow", "UnknownSession"}


def test_reserved_money_is_out_of_other_lanes_reach(network, alice, bob):
    other = network.party("other")
    alice.chain.reserve(alice.key, bob.key, 900)
    assert reason_of(other.chain.redeem([alice.voucher(other.key, 101)])) == "InsufficientEscrow"
    assert other.chain.redeem([alice.voucher(other.key, 100)]).amount == 100
    assert bob.chain.redeem([alice.voucher(bob.key, 900)]).amount == 900
    network.check_conservation(bob.key, other.key)


def test_replayed_and_lower_vouchers_are_refused(alice, bob):
    bob.chain.redeem([alice.voucher(bob.key, 100)])
    for cumulative in (100, 99):
        assert reason_of(bob.chain.redeem([alice.voucher(bob.key, cumulative)])) == "NothingToRedeem"


def test_a_voucher_by_another_key_or_altered_is_refused(alice, bob):
    good = alice.voucher(bob.key, 100)
    forged = SignedVoucher(good.voucher, bob.voucher(bob.key, 100).signature)
    raised = SignedVoucher(dataclasses.replace(good.voucher, cumulative=200), good.signature)
    torn = SignedVoucher(good.voucher, good.signature[:64])
    for bad in (forged, raised, torn):
        assert reason_of(bob.chain.redeem([bad])) == "BadSignature"


def test_a_voucher_of_an_expired_session_is_refused(network, alice, bob, tools):
    network.clock.now = tools.GENESIS + tools.YEAR + 1
    assert reason_of(bob.chain.redeem([alice.voucher(bob.key, 100)])) == "SessionExpired"


def test_a_voucher_of_an_epoch_to_come_is_refused(alice, bob):
    assert reason_of(bob.chain.redeem([alice.voucher(bob.key, 100, epoch=1)])) == "FutureEpoch"


def test_only_the_lane_or_its_owner_redeems(network, alice, bob, tools):
    with tools.refused("NotLane"):
        alice.chain.redeem([alice.voucher(bob.key, 100)])


def test_vouchers_of_other_lanes_do_not_slip_into_a_batch(network, alice, bob, tools):
    mallory = network.party("mallory")
    vouchers = [alice.voucher(bob.key, 1), alice.voucher(mallory.key, 1)]
    with pytest.raises(LocalProtocolError, match="several lanes"):
        bob.chain.redeem(vouchers)


@pytest.mark.parametrize(
    ("reason", "own", "signatures"),
    [("WrongLane", False, 1), ("LengthMismatch", True, 2), ("ZeroAmount", None, 0)],
)
def test_ill_made_batches_are_refused(network, alice, tools, reason, own, signatures):
    """`own`: whether the batch's one voucher is of the lane it is sent for; None sends no voucher."""
    mallory, lane = network.party("mallory"), network.party("lane").key
    signed = alice.voucher(mallory.key if own else lane, 1)
    vouchers = [] if own is None else [voucher_tuple(signed)]
    arguments = (checksummed(mallory.key), vouchers, [signed.signature] * signatures)
    with tools.refused(reason):
        mallory.chain.send("redeem", mallory.chain.function("Escrow", "redeemMany", *arguments))


def test_nobody_else_credits_a_pot(alice, tools):
    with tools.refused("NotEscrow"):
        alice.chain.send("credit", alice.chain.function("Settlement", "credit", checksummed(alice.key), 0, 5))


def test_an_epoch_is_posted_after_its_end_and_grace(network, alice, bob, tools):
    bob.chain.redeem([alice.voucher(bob.key, 100)])
    commitment = tools.commitment(0, 100)
    for moment in (tools.GENESIS + 999, network.deployment.postable_at(0) - 1):
        network.clock.now = moment
        with tools.refused("EpochOpen"):
            bob.chain.post_epoch(bob.key, commitment)
    network.clock.now += 1
    bob.chain.post_epoch(bob.key, commitment)
    assert bob.chain.epoch_at(bob.chain.chain_time()) == 1
    with tools.refused("EpochOpen"):
        bob.chain.post_epoch(bob.key, tools.commitment(2**64 - 1, 0))


def test_epochs_rise_and_may_be_skipped(network, alice, bob, tools):
    bob.chain.redeem([alice.voucher(bob.key, 100)])
    network.end_epoch(5)
    bob.chain.post_epoch(bob.key, tools.commitment(3, 100))
    for epoch in (3, 0):
        with tools.refused("NotLater"):
            bob.chain.post_epoch(bob.key, tools.commitment(epoch, 0))
    bob.chain.post_epoch(bob.key, tools.commitment(5, 0, tools.Earnings({AUTHOR: 100})))
    assert bob.chain.lane_state(bob.key).next_epoch == 6


def test_a_commitment_holds_what_the_pot_grew_by(network, alice, bob, tools):
    bob.chain.redeem([alice.voucher(bob.key, 100)])
    network.end_epoch(0)
    for amount in (99, 101, 0):
        with tools.refused("ReceiptSumMismatch"):
            bob.chain.post_epoch(bob.key, tools.commitment(0, amount))
    for earned in ({AUTHOR: 1}, {AUTHOR: 100}):
        with tools.refused("CumulativeMismatch"):
            bob.chain.post_epoch(bob.key, tools.commitment(0, 100, tools.Earnings(earned)))
    with tools.refused("NotLane"):
        alice.chain.post_epoch(bob.key, tools.commitment(0, 100))
    bob.chain.post_epoch(bob.key, tools.commitment(0, 100))
    network.end_epoch(1)
    with tools.refused("CumulativeMismatch"):
        bob.chain.post_epoch(bob.key, tools.commitment(1, 0))


def test_money_of_a_later_epoch_cannot_be_committed_to_an_earlier_one(network, alice, bob, tools):
    network.end_epoch(0)
    bob.chain.redeem([alice.voucher(bob.key, 100, epoch=1)])
    network.end_epoch(1)
    with tools.refused("PotHoldsLaterEpoch"):
        bob.chain.post_epoch(bob.key, tools.commitment(0, 100))
    bob.chain.post_epoch(bob.key, tools.commitment(1, 100))


def test_empty_trees_are_written_in_one_way(network, bob, tools):
    network.end_epoch(0)
    empty = tools.commitment(0, 0)
    for change in ({"receipt_root": keccak256(b"x")}, {"receipt_count": 1}, {"account_count": 1}):
        with tools.refused("InconsistentCommitment"):
            bob.chain.post_epoch(bob.key, dataclasses.replace(empty, **change))
    bob.chain.post_epoch(bob.key, empty)


@pytest.fixture
def final(network, alice, bob, tools):
    """A final commitment of 100 earned by five accounts, with its tree."""
    accounts = [Address(keccak256(bytes([i]))[12:]) for i in range(5)]
    earned = tools.Earnings(dict.fromkeys(accounts, 20))
    bob.chain.redeem([alice.voucher(bob.key, 100)])
    network.end_epoch(1)
    bob.chain.post_epoch(bob.key, tools.commitment(0, 100))
    commitment = tools.commitment(1, 0, earned)
    bob.chain.post_epoch(bob.key, commitment)
    network.clock.now += tools.TERMS.window
    return commitment, earned


def test_wrong_proofs_are_refused(alice, bob, tools, final):
    commitment, earned = final
    good = earned.claims()[1]
    flipped = SumNode(keccak256(b"no"), good.path[0].amount)
    moved = SumNode(good.path[0].hash, good.path[0].amount + 1)
    for change in (
        {"cumulative": good.cumulative + 1},
        {"account": AUTHOR},
        {"index": good.index + 1},
        {"index": 5},
        {"index": 7},
        {"path": good.path[:-1]},
        {"path": (*good.path, SumNode(bytes(32), 0))},
        {"path": (flipped, *good.path[1:])},
        {"path": (moved, *good.path[1:])},
        {"path": ()},
    ):
        with tools.refused("BadProof"):
            alice.chain.claim(bob.key, commitment, [dataclasses.replace(good, **change)])
    overflow = (SumNode(good.path[0].hash, 2**128 - 1), *good.path[1:])
    with tools.refused("Panic"):
        alice.chain.claim(bob.key, commitment, [dataclasses.replace(good, path=overflow)])
    assert alice.chain.claim(bob.key, commitment, [good]).amount == 20


def test_only_what_was_posted_is_claimed_on(alice, bob, tools, final):
    commitment, earned = final
    for other in (
        dataclasses.replace(commitment, epoch=7),
        dataclasses.replace(commitment, data_hash=bytes(32)),
    ):
        with tools.refused("UnknownCommitment"):
            alice.chain.claim(bob.key, other, earned.claims())
    with tools.refused("UnknownCommitment"):
        alice.chain.claim(alice.key, commitment, earned.claims())


def test_roots_that_contradict_each_other_cannot_pay_more_than_the_pot(network, alice, bob, tools, final):
    """A dishonest lane gives everything to one set of accounts, then to another: the backstop stops at the
    pot."""
    commitment, earned = final
    alice.chain.claim(bob.key, commitment, earned.claims())
    thief = tools.Earnings({AUTHOR: 100})
    network.end_epoch(3)
    bob.chain.post_epoch(bob.key, tools.commitment(3, 0, thief))
    network.clock.now += tools.TERMS.window
    with tools.refused("ClaimExceedsPot"):
        alice.chain.claim(bob.key, tools.commitment(3, 0, thief), thief.claims())
    network.check_conservation(bob.key)


def test_a_claim_pays_the_payee_of_the_day(network, alice, bob, tools):
    lane = bob.key
    bob.chain.redeem([alice.voucher(lane, 100)])
    network.end_epoch(1)
    bob.chain.post_epoch(lane, tools.commitment(0, 100))
    earned = tools.Earnings({bob.owner.address: 100})
    bob.chain.post_epoch(lane, tools.commitment(1, 0, earned))
    network.clock.now += tools.TERMS.window
    alice.chain.registry.rotate_payee(bob.owner, DATA_OWNER)
    (paid,) = alice.chain.claim(lane, tools.commitment(1, 0, earned), earned.claims()).paid
    assert (paid.account, paid.paid_to, paid.amount) == (bob.owner.address, DATA_OWNER, 100)
    assert alice.chain.balance(DATA_OWNER) == 100
    assert alice.chain.claimed(lane, bob.owner.address) == 100


def test_many_claims_go_in_several_transactions(network, alice, bob, tools, monkeypatch):
    monkeypatch.setattr("commonlore.contracts.client.chain.CLAIM_BATCH", 3)
    accounts = [Address(keccak256(bytes([i]))[12:]) for i in range(10)]
    bob.chain.redeem([alice.voucher(bob.key, 100)])
    network.end_epoch(1)
    bob.chain.post_epoch(bob.key, tools.commitment(0, 100))
    earned = tools.Earnings(dict.fromkeys(accounts, 10))
    bob.chain.post_epoch(bob.key, tools.commitment(1, 0, earned))
    network.clock.now += tools.TERMS.window
    claims = alice.chain.claim(bob.key, tools.commitment(1, 0, earned), earned.claims())
    assert len(claims.transactions) == math.ceil(10 / 3)
    assert claims.amount == 100


def test_a_client_without_a_key_reads_and_says_so_when_asked_to_send(network, alice):
    reader = network.client()
    assert reader.balance(alice.owner.address) == 0
    with pytest.raises(ChainError, match="only reads"):
        reader.deposit(1)


def test_the_split_presets_stay_within_the_deployments_bounds(network):
    bounds = network.client().registry.split_bounds()
    assert bounds == SPLIT_BOUNDS
    for split in (DEFAULT_SPLIT, OPENLEDGER_SPLIT, BASE_SPLIT):
        check_split_bounds(split, bounds)
