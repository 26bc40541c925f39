"""Who goes on when a lane stops, what taking over and doing nothing costs, and where the money of a lane goes
that nobody posts for."""

import pytest

from commonlore.contracts.calling.tuples import claim_tuple, commitment_tuple
from commonlore.contracts.staging.cast import GUARDIAN, POOL_ACCOUNT, SUCCESSOR, TERMS, WATCHER
from commonlore.protocol.ids import checksummed
from commonlore.protocol.settlement.commitments import build_epoch
from commonlore.protocol.settlement.frauds import NO_COMMITMENT

POSTER_ROLE, BOND = 1, 300
ASHES = bytes(18) + b"\xde\xad"
ZEROS = commitment_tuple(NO_COMMITMENT)
DAY = 86_400


def refuse(stage, sender, name, *arguments, contract="Settlement"):
    return stage.network.refusal(sender, contract, name, *arguments)


# ---- succession and residue


def overdue(stage):
    """A lane that served, redeemed and fell silent, at the first moment of succession."""
    stage.serve(500)
    stage.serve(400)
    stage.redeem()
    at = stage.network.read("Settlement", "succeedableAt", checksummed(stage.lane))
    stage.network.wait(at - stage.network.now - 1)
    return checksummed(stage.lane)


def test_after_its_patience_any_bonded_poster_goes_on_with_a_lane(stage):
    lane = overdue(stage)
    stage.bond(SUCCESSOR, POSTER_ROLE, 200)
    assert refuse(stage, SUCCESSOR, "succeed", lane) == "NotSuccessor"
    stage.network.wait(1)
    assert refuse(stage, WATCHER, "succeed", lane) == "NotSuccessor"
    assert refuse(stage, SUCCESSOR, "redeemMany", *stage.voucher_call(), contract="Escrow") == "NotLane"
    stage.call(SUCCESSOR, "Settlement", "succeed", lane)
    assert stage.network.read("Settlement", "isSuccessor", lane, checksummed(SUCCESSOR))
    epoch = stage.served[0].receipt.epoch
    trees = build_epoch(stage.domain, epoch, stage.served, {}, ())
    assert refuse(stage, stage.lane, "postEpoch", *stage.commitment_call(trees)) == "NotLane"
    stage.post(trees, SUCCESSOR)
    assert stage.network.read("Settlement", "posted", lane, epoch)[3:] == (SUCCESSOR_TEXT, True)
    stage.network.wait(TERMS.window)
    stage.call(stage.lane, "Settlement", "appoint", lane, checksummed(WATCHER))
    stage.bond(WATCHER, POSTER_ROLE, 200)
    assert refuse(stage, WATCHER, "serve", lane) == "SuccessorAtWork"
    assert refuse(stage, stage.lane, "appoint", lane, lane) == "SuccessorAtWork"


SUCCESSOR_TEXT = checksummed(SUCCESSOR).lower()


def test_the_successor_redeems_what_the_lane_left(stage):
    lane = overdue(stage)
    stage.serve(77)
    stage.network.wait(1)
    stage.bond(SUCCESSOR, POSTER_ROLE, 200)
    stage.call(SUCCESSOR, "Settlement", "succeed", lane)
    stage.redeem(SUCCESSOR)
    assert stage.network.read("Settlement", "lanes", lane)[0] == 977
    assert stage.network.read("Settlement", "exposure", checksummed(SUCCESSOR)) == 977


def test_a_lane_that_owes_nothing_is_nobodys_to_take(stage):
    lane = checksummed(stage.lane)
    stage.bond(SUCCESSOR, POSTER_ROLE, 200)
    stage.run_epoch()
    stage.network.wait(TERMS.epoch_length)
    stage.post()
    stage.network.wait(1_000 * DAY)
    assert refuse(stage, SUCCESSOR, "succeed", lane) == "NotSuccessor"
    assert refuse(stage, SUCCESSOR, "closeLane", lane, ZEROS) == "ResidueNotDue"


def test_a_pause_gives_lanes_its_time_back(stage):
    lane = overdue(stage)
    stage.bond(SUCCESSOR, POSTER_ROLE, 200)
    stage.call(GUARDIAN, "Settlement", "pause", 5_000)
    stage.network.wait(5_000)
    assert refuse(stage, SUCCESSOR, "succeed", lane) == "NotSuccessor"
    stage.network.wait(TERMS.patience_time)
    stage.call(SUCCESSOR, "Settlement", "succeed", lane)


def abandoned(stage, missing=0):
    """A lane given up by everybody for as long as it takes, but for some seconds."""
    at = stage.network.read("Settlement", "succeedableAt", checksummed(stage.lane)) + TERMS.residue
    stage.network.wait(at - missing - stage.network.now)


def test_the_residue_follows_the_last_final_earnings(stage):
    stage.run_epoch()
    last = stage.run_epoch((700, 800, 800))
    stage.serve(999)
    stage.redeem()
    lane = checksummed(stage.lane)
    call = stage.commitment_call(last)
    assert refuse(stage, WATCHER, "closeLane", *call) == "ResidueNotDue"
    claims = [claim_tuple(claim) for claim in last.claims()]
    assert refuse(stage, WATCHER, "claimResidue", *call, claims) == "LaneIsOpen"
    abandoned(stage, missing=1)
    assert refuse(stage, WATCHER, "closeLane", *call) == "ResidueNotDue"
    abandoned(stage)
    assert refuse(stage, WATCHER, "closeLane", *stage.commitment_call(stage.epochs[0])) == "NotLatest"
    assert refuse(stage, WATCHER, "closeLane", lane, ZEROS) == "NotLatest"
    stage.call(WATCHER, "Settlement", "closeLane", *call)
    residue = 2_600 + 999
    assert stage.network.read("Settlement", "residue", lane) == residue
    for _ in range(2):
        stage.call(WATCHER, "Settlement", "claimResidue", *call, claims)
    paid = {e.account: residue * e.cumulative // 1_700 for e in last.earned}
    assert {account: stage.network.tokens(account) for account in paid} == paid
    stage.call(WATCHER, "Settlement", "claimMany", *call, claims)
    held = stage.network.tokens(stage.network.at["Settlement"])
    assert 0 <= held == residue - sum(paid.values()) < len(paid)
    for name, more in (("closeLane", call), ("postEpoch", call)):
        assert refuse(stage, stage.lane, name, *more) in ("LaneIsClosed", "ResidueNotDue")
    stage.serve(1)
    assert refuse(stage, stage.lane, "redeemMany", *stage.voucher_call(), contract="Escrow") == "LaneIsClosed"


def test_the_residue_of_a_lane_that_never_posted_goes_to_the_work_pool(stage):
    stage.serve(999)
    stage.redeem()
    abandoned(stage)
    stage.call(WATCHER, "Settlement", "closeLane", checksummed(stage.lane), ZEROS)
    assert stage.network.tokens(POOL_ACCOUNT) == 999
    assert stage.network.read("Settlement", "lanes", checksummed(stage.lane))[:3] == (999, 999, 999)


# ---- idle successors


@pytest.fixture
def idle(stage):
    """A lane that served, redeemed and fell silent; it was taken over, and its successor did nothing."""
    stage.serve(500)
    stage.redeem()
    for account in (SUCCESSOR, WATCHER):
        stage.bond(account, POSTER_ROLE, BOND)
    stage.network.wait(due(stage) - stage.network.now)
    stage.call(SUCCESSOR, "Settlement", "succeed", checksummed(stage.lane))
    return stage


def due(stage):
    return stage.network.read("Settlement", "succeedableAt", checksummed(stage.lane))


def bond_of(stage, account):
    return stage.network.read("Bonds", "bondOf", checksummed(account), POSTER_ROLE)[0]


def is_frozen(stage, account):
    return stage.network.read("Bonds", "frozen", checksummed(account), POSTER_ROLE)


def test_its_bond_stays_and_the_next_gets_half_of_the_least(idle):
    stage = idle
    lane = checksummed(stage.lane)
    stage.call(SUCCESSOR, "Bonds", "thaw", POSTER_ROLE, BOND)
    stage.network.wait(due(stage) - stage.network.now - 1)
    assert refuse(stage, SUCCESSOR, "withdraw", POSTER_ROLE, contract="Bonds") == "BondIsFrozen"
    assert refuse(stage, WATCHER, "succeed", lane) == "NotSuccessor"
    stage.network.wait(1)
    stage.bond(SUCCESSOR, POSTER_ROLE, BOND)
    assert refuse(stage, SUCCESSOR, "succeed", lane) == "NotSuccessor", "nobody takes over from oneself"
    stage.call(WATCHER, "Settlement", "succeed", lane)
    assert stage.network.read("Settlement", "isSuccessor", lane, checksummed(WATCHER))
    least = TERMS.minimum_bond
    assert (bond_of(stage, SUCCESSOR), bond_of(stage, WATCHER)) == (2 * BOND - least, BOND)
    assert (stage.network.tokens(WATCHER), stage.network.tokens(ASHES)) == (least // 2, least // 2)
    assert (is_frozen(stage, SUCCESSOR), is_frozen(stage, WATCHER)) == (False, True)


def test_the_lane_itself_comes_back_once_that_took_too_long(idle):
    stage = idle
    lane = checksummed(stage.lane)
    stage.network.wait(due(stage) - stage.network.now - 1)
    assert refuse(stage, stage.lane, "appoint", lane, lane) == "SuccessorAtWork"
    stage.network.wait(1)
    stage.call(stage.lane, "Settlement", "appoint", lane, lane)
    assert bond_of(stage, SUCCESSOR) == BOND - TERMS.minimum_bond
    assert not is_frozen(stage, SUCCESSOR)
    trees = build_epoch(stage.domain, stage.served[0].receipt.epoch, stage.served, {}, ())
    stage.post(trees)
    assert stage.network.read("Settlement", "posted", lane, trees.commitment.epoch)[4] is False


def test_who_does_what_was_owed_has_its_bond_back(idle):
    stage = idle
    first = build_epoch(stage.domain, stage.served[0].receipt.epoch, stage.served, {}, ())
    stage.post(first, SUCCESSOR)
    assert is_frozen(stage, SUCCESSOR), "what these receipts earn is owed still"
    stage.network.wait(TERMS.epoch_length)
    stage.post(sender=SUCCESSOR)
    assert not is_frozen(stage, SUCCESSOR)
    assert bond_of(stage, SUCCESSOR) == BOND


def test_who_is_idle_until_the_lane_is_closed_pays_too(idle):
    stage = idle
    stage.network.wait(due(stage) + TERMS.residue - stage.network.now)
    stage.call(WATCHER, "Settlement", "closeLane", checksummed(stage.lane), commitment_tuple(NO_COMMITMENT))
    assert bond_of(stage, SUCCESSOR) == BOND - TERMS.minimum_bond
    assert not is_frozen(stage, SUCCESSOR)
    assert stage.network.tokens(WATCHER) == TERMS.minimum_bond // 2
