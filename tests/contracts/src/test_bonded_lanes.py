"""Who may post, what stands behind a pot, who goes on when a lane stops, where its money goes in the end."""

from dataclasses import replace

import pytest

from commonlore.contracts.calling.records import PayeeRotation
from commonlore.contracts.calling.tuples import claim_tuple, commitment_tuple
from commonlore.contracts.staging.cast import BOND, CLIENT, GUARDIAN, LANE, SUCCESSOR, TERMS, WATCHER, key_of
from commonlore.contracts.staging.revm import DEPLOYER
from commonlore.contracts.staging.stage import Stage
from commonlore.protocol.ids import checksummed
from commonlore.protocol.settlement.commitments import build_epoch
from commonlore.protocol.settlement.dishonest import plant
from commonlore.protocol.settlement.fraud_receipts import find_receipt_frauds
from commonlore.protocol.settlement.frauds import NO_COMMITMENT, FraudKind
from commonlore.protocol.signing.eip712 import sign

POSTER_ROLE = 1
ZEROS = commitment_tuple(NO_COMMITMENT)
DAY = 86_400


def refuse(stage, sender, name, *arguments, contract="Settlement"):
    return stage.network.refusal(sender, contract, name, *arguments)


def redeem(stage):
    return refuse(stage, stage.lane, "redeemMany", *stage.voucher_call(), contract="Escrow")


# ---- bonds


def test_a_bond_leaves_after_its_notice_and_stops_counting_at_once(stage):
    lane = checksummed(stage.lane)
    stage.call(stage.lane, "Bonds", "thaw", POSTER_ROLE, 400)
    assert stage.network.read("Bonds", "standing", lane, POSTER_ROLE) == BOND - 400
    stage.network.wait(TERMS.thaw_period - 1)
    assert refuse(stage, stage.lane, "withdraw", POSTER_ROLE, contract="Bonds") == "StillThawing"
    stage.network.wait(1)
    stage.call(stage.lane, "Bonds", "withdraw", POSTER_ROLE)
    assert stage.network.tokens(stage.lane) == 400
    assert refuse(stage, stage.lane, "withdraw", POSTER_ROLE, contract="Bonds") == "NothingThaws"


def test_ill_made_bonds_are_refused(stage):
    stage.fund(WATCHER, "Bonds", 10)
    assert refuse(stage, WATCHER, "bond", 5, 1, contract="Bonds") == "UnknownRole"
    assert refuse(stage, WATCHER, "bond", 4, 0, contract="Bonds") == "NothingBonded"
    assert refuse(stage, WATCHER, "bond", 4, 11, contract="Bonds") == "ERC20InsufficientAllowance"


def test_nobody_else_freezes_or_slashes(stage):
    victim = checksummed(stage.lane), POSTER_ROLE
    for name, more in (("freeze", ()), ("unfreeze", ()), ("slash", (1, checksummed(WATCHER)))):
        assert refuse(stage, WATCHER, name, *victim, *more, contract="Bonds") == "NotSlasher"
    for name in ("kill", "hold"):
        more = (checksummed(WATCHER), bytes(32)) if name == "kill" else (1,)
        assert refuse(stage, WATCHER, name, checksummed(stage.lane), ZEROS, *more) == "NotChallenger"
    assert refuse(stage, WATCHER, "letGo", checksummed(stage.lane)) == "NotChallenger"


def test_a_bond_that_is_topped_up_counts_from_then(stage):
    stage.bond(WATCHER, 3, 5)
    first = stage.network.read("Bonds", "since", checksummed(WATCHER), 3)
    stage.network.wait(10)
    stage.bond(WATCHER, 3, 5)
    assert stage.network.read("Bonds", "since", checksummed(WATCHER), 3) == first + 10


# ---- pots and posters


def test_an_epoch_is_posted_once_and_none_before_it(stage):
    first = stage.run_epoch()
    before = stage.network.read("Settlement", "posted", *posted_place(first))
    again = replace(stage.build().commitment, epoch=first.commitment.epoch)
    for epoch in (again.epoch, again.epoch - 1):
        call = (checksummed(stage.lane), commitment_tuple(replace(again, epoch=epoch)))
        assert refuse(stage, stage.lane, "postEpoch", *call) == "NotLater"
    assert stage.network.read("Settlement", "posted", *posted_place(first)) == before


def posted_place(trees):
    return checksummed(LANE.address), trees.commitment.epoch


def test_what_is_not_final_of_a_pot_stays_within_the_bond(stage):
    """potPerBond is 100, the bond 1,000."""
    stage.serve(100_000)
    stage.redeem()
    stage.serve(1)
    assert redeem(stage) == "PotExceedsBond"
    served, stage.served = stage.served[1:], stage.served[:1]
    posted = stage.post()
    assert redeem(stage) == "PotExceedsBond"
    assert refuse(stage, WATCHER, "finalise", *stage.commitment_call(posted)) == "WindowOpen"
    stage.network.wait(TERMS.window)
    stage.call(WATCHER, "Settlement", "finalise", *stage.commitment_call(posted))
    assert stage.network.read("Settlement", "exposure", checksummed(stage.lane)) == 0
    stage.served = served
    stage.redeem()
    assert stage.network.read("Settlement", "exposure", checksummed(stage.lane)) == 1


def test_claims_free_the_bond_too(stage):
    stage.run_epoch()
    second = stage.run_epoch()
    assert stage.network.read("Settlement", "exposure", checksummed(stage.lane)) == 3_400
    stage.network.wait(TERMS.window)
    claims = [claim_tuple(claim) for claim in second.claims()]
    stage.call(WATCHER, "Settlement", "claimMany", *stage.commitment_call(second), claims)
    assert stage.network.read("Settlement", "exposure", checksummed(stage.lane)) == 0
    assert stage.network.read("Settlement", "laneOf", checksummed(stage.lane))[3] == 3_400


def test_what_is_claimed_again_is_paid_once(stage):
    stage.run_epoch()
    second = stage.run_epoch()
    stage.network.wait(TERMS.window)
    claims = [claim_tuple(claim) for claim in second.claims()]
    for _ in range(2):
        stage.call(WATCHER, "Settlement", "claimMany", *stage.commitment_call(second), claims)
    assert all(stage.network.tokens(e.account) == e.cumulative for e in second.earned)


def test_a_claim_goes_to_whom_the_account_has_rotated_to(stage):
    first = stage.run_epoch()
    earned = stage.run_epoch()
    stage.network.wait(TERMS.window)
    author, heir = key_of("author"), key_of("heir").address
    rotation = sign(stage.domain, author, PayeeRotation(author.address, heir))
    pair = (checksummed(author.address), checksummed(heir))
    stage.call(WATCHER, "Registry", "rotatePayee", *pair, rotation)
    claim = earned.claim(author.address)
    stage.call(WATCHER, "Settlement", "claimMany", *stage.commitment_call(earned), [claim_tuple(claim)])
    assert (stage.network.tokens(author.address), stage.network.tokens(heir)) == (0, claim.cumulative)
    assert first.commitment.receipt_sum > claim.cumulative > 0


def test_roots_that_disagree_pay_no_more_than_the_pot(stage):
    """Two final commitments that nobody challenged promise the same money to two."""
    stage.run_epoch((1_000,))
    for rich in (key_of("one").address, key_of("two").address):
        stage.network.wait(TERMS.epoch_length)
        lie = build_epoch(stage.domain, stage.epoch, (), {rich: 1_300}, ())
        stage.post(lie)
        stage.network.wait(TERMS.window)
        claims = [claim_tuple(claim) for claim in lie.claims()]
        refusal = refuse(stage, WATCHER, "claimMany", *stage.commitment_call(lie), claims)
        assert refusal == (None if rich == key_of("one").address else "ClaimExceedsPot")


def test_a_thawing_bond_backs_nothing(stage):
    stage.call(stage.lane, "Bonds", "thaw", POSTER_ROLE, BOND - 99)
    stage.serve(9_901)
    assert redeem(stage) == "PotExceedsBond"
    stage.served.clear()
    stage.voucher = None
    stage.network.wait(2_000)
    trees = stage.build()
    stage.network.wait(2_000)
    assert refuse(stage, stage.lane, "postEpoch", *stage.commitment_call(trees)) == "BondTooSmall"


def test_an_appointed_poster_serves_with_its_own_bond(stage):
    lane, poster = checksummed(stage.lane), checksummed(WATCHER)
    stage.serve(500)
    stage.redeem()
    assert refuse(stage, WATCHER, "appoint", lane, poster) == "NotLane"
    assert refuse(stage, stage.lane, "appoint", lane, checksummed(bytes(20))) == "ZeroAddress"
    stage.call(stage.lane, "Settlement", "appoint", lane, poster)
    assert refuse(stage, SUCCESSOR, "serve", lane) == "NotProposed"
    assert refuse(stage, WATCHER, "serve", lane) == "PotExceedsBond"
    stage.bond(WATCHER, POSTER_ROLE, 100)
    stage.call(WATCHER, "Settlement", "serve", lane)
    exposed = [stage.network.read("Settlement", "exposure", account) for account in (lane, poster)]
    assert exposed == [0, 500]
    trees = stage.build()
    stage.network.wait(2_000)
    assert refuse(stage, stage.lane, "postEpoch", *stage.commitment_call(trees)) == "NotLane"
    stage.post(trees, WATCHER)
    stage.call(stage.lane, "Settlement", "appoint", lane, poster)
    assert refuse(stage, WATCHER, "serve", lane) == "CommitmentNotFinal"
    assert refuse(stage, stage.lane, "appoint", lane, lane) == "CommitmentNotFinal"
    stage.network.wait(TERMS.window)
    stage.call(stage.lane, "Settlement", "appoint", lane, lane)
    assert stage.network.read("Settlement", "laneOf", lane)[8] == lane.lower()


def test_a_posters_fraud_costs_the_poster_and_not_the_lane(stage):
    lane = checksummed(stage.lane)
    stage.bond(WATCHER, POSTER_ROLE, 1_000)
    stage.call(stage.lane, "Settlement", "appoint", lane, checksummed(WATCHER))
    stage.call(WATCHER, "Settlement", "serve", lane)
    stage.serve(500)
    stage.serve(400)
    stage.redeem()
    stage.post(stage.changed(plant(FraudKind.BAD_RECEIPT, stage.scene())), WATCHER)
    fraud = find_receipt_frauds(stage.posted())
    assert stage.challenge(next(iter(fraud)), CLIENT.address) is None
    bonds = [
        stage.network.read("Bonds", "bondOf", checksummed(a), POSTER_ROLE)[0] for a in (WATCHER, stage.lane)
    ]
    assert bonds == [0, BOND]


# ---- pauses


def test_the_guardian_stops_deposits_redemptions_and_postings_and_nothing_else(stage):
    stage.run_epoch()
    second = stage.run_epoch()
    trees = stage.build()
    stage.serve(5)
    stage.network.wait(TERMS.epoch_length + TERMS.grace)
    stage.call(CLIENT.address, "Escrow", "thaw", 7)
    stage.network.wait(TERMS.thaw_period)
    assert refuse(stage, WATCHER, "pause", 10) == "NotGuardian"
    assert refuse(stage, GUARDIAN, "pause", 14 * DAY + 1) == "BadDuration"
    assert refuse(stage, GUARDIAN, "pause", 0) == "BadDuration"
    stage.call(GUARDIAN, "Settlement", "pause", 100)
    client = checksummed(CLIENT.address)
    assert refuse(stage, CLIENT.address, "deposit", client, 1, contract="Escrow") == "IsPaused"
    assert redeem(stage) == "IsPaused"
    assert refuse(stage, stage.lane, "postEpoch", *stage.commitment_call(trees)) == "IsPaused"
    stage.call(CLIENT.address, "Escrow", "withdraw")
    claims = [claim_tuple(claim) for claim in second.claims()]
    stage.call(WATCHER, "Settlement", "claimMany", *stage.commitment_call(second), claims)
    assert refuse(stage, GUARDIAN, "pause", 1) == "PausedTooRecently"
    stage.network.wait(100)
    stage.redeem()
    assert refuse(stage, GUARDIAN, "pause", 1) == "PausedTooRecently"
    stage.network.wait(100)
    stage.call(GUARDIAN, "Settlement", "pause", 14 * DAY)
    assert refuse(stage, WATCHER, "unpause") == "NotGuardian"
    stage.call(GUARDIAN, "Settlement", "unpause")
    assert not stage.network.read("Settlement", "paused")


def test_a_challenge_goes_through_a_pause(stage):
    stage.serve(500)
    stage.serve(400)
    stage.redeem()
    stage.post(stage.changed(plant(FraudKind.BAD_RECEIPT, stage.scene())))
    stage.call(GUARDIAN, "Settlement", "pause", 100)
    assert stage.challenge(next(iter(find_receipt_frauds(stage.posted())))) is None


def test_ill_made_terms_deploy_nothing():
    short = TERMS.epoch_length + TERMS.grace + TERMS.window + 2 * TERMS.answer_time
    for change in ({"thaw": short}, {"patience": TERMS.window + 2 * TERMS.answer_time - 1}):
        with pytest.raises(Exception, match="BadTerms"):
            Stage(replace(TERMS, **change))


def test_only_the_deployer_mints(stage):
    call = (checksummed(WATCHER), 5)
    assert refuse(stage, WATCHER, "mint", *call, contract="CommonloreToken") == "NotMinter"
    stage.call(DEPLOYER, "CommonloreToken", "mint", *call)
    assert stage.network.tokens(WATCHER) == 5
