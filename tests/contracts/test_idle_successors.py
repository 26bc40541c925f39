"""Whoever takes a lane over and does nothing pays for it, and keeps it from nobody for longer than once."""

import pytest

from commonlore.contracts.stage import SUCCESSOR, TERMS, WATCHER, Stage
from commonlore.contracts.tuples import commitment_tuple
from commonlore.protocol.frauds import NO_COMMITMENT
from commonlore.protocol.ids import checksummed
from commonlore.protocol.settlement import build_epoch

POSTER, BOND = 1, 300
ASHES = bytes(18) + b"\xde\xad"


@pytest.fixture
def stage():
    """A lane that served, redeemed and fell silent; it was taken over, and its successor did nothing."""
    stage = Stage()
    stage.serve(500)
    stage.redeem()
    for account in (SUCCESSOR, WATCHER):
        stage.bond(account, POSTER, BOND)
    stage.network.wait(due(stage) - stage.network.now)
    stage.call(SUCCESSOR, "Settlement", "succeed", checksummed(stage.lane))
    return stage


def due(stage):
    return stage.network.read("Settlement", "succeedableAt", checksummed(stage.lane))


def refuse(stage, sender, name, *arguments, contract="Settlement"):
    return stage.network.refusal(sender, contract, name, *arguments)


def bond_of(stage, account):
    return stage.network.read("Bonds", "bondOf", checksummed(account), POSTER)[0]


def is_frozen(stage, account):
    return stage.network.read("Bonds", "frozen", checksummed(account), POSTER)


def test_its_bond_stays_and_the_next_gets_half_of_the_least(stage):
    lane = checksummed(stage.lane)
    stage.call(SUCCESSOR, "Bonds", "thaw", POSTER, BOND)
    stage.network.wait(due(stage) - stage.network.now - 1)
    assert refuse(stage, SUCCESSOR, "withdraw", POSTER, contract="Bonds") == "BondIsFrozen"
    assert refuse(stage, WATCHER, "succeed", lane) == "NotSuccessor"
    stage.network.wait(1)
    stage.bond(SUCCESSOR, POSTER, BOND)
    assert refuse(stage, SUCCESSOR, "succeed", lane) == "NotSuccessor", "nobody takes over from oneself"
    stage.call(WATCHER, "Settlement", "succeed", lane)
    assert stage.network.read("Settlement", "isSuccessor", lane, checksummed(WATCHER))
    least = TERMS.minimum_bond
    assert (bond_of(stage, SUCCESSOR), bond_of(stage, WATCHER)) == (2 * BOND - least, BOND)
    assert (stage.network.tokens(WATCHER), stage.network.tokens(ASHES)) == (least // 2, least // 2)
    assert (is_frozen(stage, SUCCESSOR), is_frozen(stage, WATCHER)) == (False, True)


def test_the_lane_itself_comes_back_once_that_took_too_long(stage):
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


def test_who_does_what_was_owed_has_its_bond_back(stage):
    first = build_epoch(stage.domain, stage.served[0].receipt.epoch, stage.served, {}, ())
    stage.post(first, SUCCESSOR)
    assert is_frozen(stage, SUCCESSOR), "what these receipts earn is owed still"
    stage.network.wait(TERMS.epoch_length)
    stage.post(sender=SUCCESSOR)
    assert not is_frozen(stage, SUCCESSOR)
    assert bond_of(stage, SUCCESSOR) == BOND


def test_who_is_idle_until_the_lane_is_closed_pays_too(stage):
    stage.network.wait(due(stage) + TERMS.residue - stage.network.now)
    stage.call(WATCHER, "Settlement", "closeLane", checksummed(stage.lane), commitment_tuple(NO_COMMITMENT))
    assert bond_of(stage, SUCCESSOR) == BOND - TERMS.minimum_bond
    assert not is_frozen(stage, SUCCESSOR)
    assert stage.network.tokens(WATCHER) == TERMS.minimum_bond // 2
