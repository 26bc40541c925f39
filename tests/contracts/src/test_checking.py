"""Who checks, and who judges those who check: the beacon, the draw, the work pool, the arbiter."""

from dataclasses import replace

import pytest
from eth_abi.abi import encode

from commonlore.contracts.calling.tuples import commitment_tuple
from commonlore.contracts.client.bonding import BondRole
from commonlore.contracts.client.drawing import lot
from commonlore.contracts.client.proving import abi_argument
from commonlore.contracts.deploying.terms import CheckTerms
from commonlore.contracts.staging.cast import CLIENT, START, TERMS, WATCHER, key_of
from commonlore.contracts.staging.stage import Stage
from commonlore.protocol.ids import checksummed, keccak256
from commonlore.protocol.settlement.openings import open_leaf

AUDITOR, CONTRIBUTOR = 3, 2
ONE, TWO, THREE = (key_of(name) for name in ("auditor one", "auditor two", "auditor three"))
PLATFORM = key_of("platform").address
ROUND = 1_000
CHECKS = CheckTerms(
    round_length=ROUND, beacon_stake=30, odds_ppm=1_000_000, fee_bps=5_000, contest=700, ruling=600,
    appeal=300, slash_cap_bps=2_500, appeal_stake=40, minimum_bond=100,
)  # fmt: skip
GOOD, BAD = keccak256(b"it is what was asked for"), keccak256(b"it is not")


@pytest.fixture
def stage():
    """A posted commitment, three bonded auditors, and the seed of the round that began after it."""
    stage = Stage(replace(TERMS, checks=CHECKS))
    for auditor in (ONE, TWO, THREE):
        stage.bond(auditor.address, AUDITOR, 400)
    stage.run_epoch()
    settle_round(stage, round_after(stage))
    return stage


def round_after(stage):
    """The round whose seed draws for the last commitment."""
    posted_at = stage.network.read("Settlement", "posted", checksummed(stage.lane), 1)[1]
    return (posted_at - START) // ROUND + 1


def settle_round(stage, number):
    """A round in which nobody takes part."""
    stage.network.wait(START + (number + 1) * ROUND - stage.network.now)
    stage.call(WATCHER, "Beacon", "close", number)
    for _ in range(2):
        stage.network.wait(1)
    stage.call(WATCHER, "Beacon", "settle", number)


def refuse(stage, sender, contract, name, *arguments):
    return stage.network.refusal(sender, contract, name, *arguments)


def leaf_of(stage, index=0):
    return open_leaf(stage.domain, stage.epochs[0], index)


def attestation(stage, key, verdict=GOOD, role=AUDITOR, **changes):
    fields = {
        "subject": leaf_of(stage).receipt_digest,
        "verdict": verdict,
        "round": round_after(stage),
        "role": role,
        "attester": checksummed(key.address),
    } | changes
    given = tuple(fields.values())
    digest = stage.network.read("Arbiter", "attestationDigest", given)
    return given, key.sign_digest(digest)


def attest(stage, key, verdict=GOOD, **changes):
    signed = attestation(stage, key, verdict, **changes)
    place = (checksummed(stage.lane), commitment_tuple(stage.epochs[0].commitment))
    call = (*place, abi_argument(leaf_of(stage)), *signed)
    return refuse(stage, key.address, "WorkPool", "attest", *call)


# ---- beacon


def commitment_of(sender, number, value, salt):
    kinds = ("address", "uint64", "bytes32", "bytes32")
    return keccak256(encode(kinds, (checksummed(sender), number, value, salt)))


def test_a_round_takes_commitments_then_values_then_a_block(stage):
    network, number = stage.network, round_after(stage) + 2
    value, salt = keccak256(b"value"), keccak256(b"salt")
    stage.fund(WATCHER, "Beacon", 100)
    hidden = commitment_of(WATCHER, number, value, salt)
    assert refuse(stage, WATCHER, "Beacon", "commit", number, hidden) == "NotNow"
    network.wait(START + number * ROUND - network.now)
    assert refuse(stage, WATCHER, "Beacon", "commit", number, bytes(32)) == "ZeroCommitment"
    stage.call(WATCHER, "Beacon", "commit", number, hidden)
    assert refuse(stage, WATCHER, "Beacon", "commit", number, hidden) == "AlreadyCommitted"
    assert refuse(stage, WATCHER, "Beacon", "reveal", number, value, salt) == "NotNow"
    network.wait(ROUND // 2)
    assert refuse(stage, WATCHER, "Beacon", "commit", number, hidden) == "NotNow"
    assert refuse(stage, WATCHER, "Beacon", "reveal", number, value, value) == "WrongReveal"
    assert refuse(stage, WATCHER, "Beacon", "close", number) == "NotNow"
    stage.call(WATCHER, "Beacon", "reveal", number, value, salt)
    assert network.tokens(WATCHER) == 100
    assert refuse(stage, WATCHER, "Beacon", "reveal", number, value, salt) == "WrongReveal"
    assert refuse(stage, WATCHER, "Beacon", "settle", number) == "NotClosed"
    network.wait(ROUND // 2)
    stage.call(WATCHER, "Beacon", "close", number)
    assert refuse(stage, WATCHER, "Beacon", "close", number) == "NotNow"
    network.wait(1)
    assert refuse(stage, WATCHER, "Beacon", "settle", number) == "TooEarly"
    network.wait(1)
    stage.call(WATCHER, "Beacon", "settle", number)
    assert refuse(stage, WATCHER, "Beacon", "settle", number) == "AlreadySettled"


def test_who_does_not_reveal_loses_the_stake_and_values_change_the_seed(stage):
    network, number = stage.network, round_after(stage) + 2
    network.wait(START + number * ROUND - network.now)
    values = {ONE.address: keccak256(b"a"), TWO.address: keccak256(b"b")}
    for account, value in values.items():
        stage.fund(account, "Beacon", 30)
        stage.call(account, "Beacon", "commit", number, commitment_of(account, number, value, value))
    network.wait(ROUND // 2)
    seeds = set()
    for revealed in ((ONE,), (TWO,), (ONE, TWO), ()):
        before = network.snapshot()
        for key in revealed:
            value = values[key.address]
            stage.call(key.address, "Beacon", "reveal", number, value, value)
        network.wait(ROUND // 2)
        ashes = network.tokens(bytes(18) + b"\xde\xad")
        stage.call(WATCHER, "Beacon", "close", number)
        assert network.tokens(bytes(18) + b"\xde\xad") == ashes + 30 * (2 - len(revealed))
        network.wait(1)
        network.wait(1)
        stage.call(WATCHER, "Beacon", "settle", number)
        seeds.add(network.read("Beacon", "seed", number))
        network.revert(before)
    assert len(seeds) == 4


# ---- draws and the work pool


def test_who_was_bonded_before_the_round_is_drawn(stage):
    network, number = stage.network, round_after(stage)
    subject = leaf_of(stage).receipt_digest
    drawn = ("Arbiter", "isDrawn", checksummed(ONE.address))
    assert network.read(*drawn, AUDITOR, subject, number)
    assert not network.read(*drawn, AUDITOR, subject, number + 5)
    assert not network.read(*drawn, CONTRIBUTOR, subject, number)
    stage.bond(ONE.address, AUDITOR, 1)
    assert not network.read(*drawn, AUDITOR, subject, number), "topped up after the seed was known"
    assert not network.read("Arbiter", "isDrawn", checksummed(WATCHER), AUDITOR, subject, number)


def test_a_draw_takes_about_as_many_as_its_odds_say():
    checks = replace(CHECKS, odds_ppm=250_000)
    stage = Stage(replace(TERMS, checks=checks))
    stage.bond(ONE.address, AUDITOR, 400)
    settle_round(stage, 2)
    one = checksummed(ONE.address)
    subjects = [keccak256(bytes([i])) for i in range(200)]
    drawn = [stage.network.read("Arbiter", "isDrawn", one, AUDITOR, s, 2) for s in subjects]
    assert 25 <= sum(drawn) <= 75
    seed = stage.network.read("Beacon", "seed", 2)
    lots = [lot(seed, subject, BondRole.AUDITOR, ONE.address) for subject in subjects]
    assert drawn == [each < checks.odds_ppm for each in lots]


def test_two_who_agree_are_paid_from_the_pool(stage):
    pool = stage.network.at["WorkPool"]
    stage.fund(WATCHER, "Escrow", 10_000)
    stage.call(WATCHER, "CommonloreToken", "transfer", checksummed(pool), 10_000)
    assert attest(stage, ONE) is None
    assert attest(stage, ONE) == "NoPlace"
    assert attest(stage, TWO) is None
    assert attest(stage, THREE) == "NoPlace"
    subject = leaf_of(stage).receipt_digest
    fee = leaf_of(stage).price // 2
    assert refuse(stage, WATCHER, "WorkPool", "collect", subject, AUDITOR, 0) == "NotDue"
    stage.network.wait(CHECKS.contest)
    for place, key in enumerate((ONE, TWO)):
        stage.call(WATCHER, "WorkPool", "collect", subject, AUDITOR, place)
        assert stage.network.tokens(key.address) == fee
        assert refuse(stage, WATCHER, "WorkPool", "collect", subject, AUDITOR, place) == "AlreadyPaid"
    assert stage.network.tokens(pool) == 10_000 - 2 * fee
    works = stage.network.read("WorkPool", "worksOf", subject, AUDITOR)
    assert [work[4] for work in works] == [True, True]


def test_nobody_has_another_paid_from_an_empty_pool(stage):
    assert attest(stage, ONE) is None
    stage.network.wait(CHECKS.contest)
    subject, fee = leaf_of(stage).receipt_digest, leaf_of(stage).price // 2
    assert refuse(stage, WATCHER, "WorkPool", "collect", subject, AUDITOR, 0) == "PoolTooPoor"
    stage.fund(WATCHER, "Escrow", fee)
    stage.call(WATCHER, "CommonloreToken", "transfer", checksummed(stage.network.at["WorkPool"]), fee)
    stage.call(WATCHER, "WorkPool", "collect", subject, AUDITOR, 0)
    assert stage.network.tokens(ONE.address) == fee


def test_an_attester_settles_for_what_the_pool_has(stage):
    assert attest(stage, ONE) is None
    stage.network.wait(CHECKS.contest)
    call = ("WorkPool", "collect", leaf_of(stage).receipt_digest, AUDITOR, 0)
    assert refuse(stage, ONE.address, *call) is None
    assert refuse(stage, ONE.address, *call) == "AlreadyPaid"


def test_a_receipt_that_may_be_made_up_pays_nobody():
    stage = Stage(replace(TERMS, window=5_000, checks=CHECKS))
    stage.bond(ONE.address, AUDITOR, 400)
    stage.run_epoch()
    settle_round(stage, round_after(stage))
    assert attest(stage, ONE) == "CommitmentNotFinal"
    stage.network.wait(5_000)
    assert attest(stage, ONE) is None


def test_a_fee_that_no_amount_holds_is_refused():
    """A price near the largest amount, and a fee of a multiple of it: it does not wrap around to a small
    one."""
    stage = Stage(replace(TERMS, pot_per_bond=0, checks=replace(CHECKS, fee_bps=20_000)))
    stage.bond(ONE.address, AUDITOR, 400)
    stage.fund(CLIENT.address, "Escrow", 2**127)
    stage.call(CLIENT.address, "Escrow", "deposit", checksummed(CLIENT.address), 2**127)
    stage.run_epoch((2**127,))
    settle_round(stage, round_after(stage))
    dear = max(range(2), key=lambda index: leaf_of(stage, index).price)
    leaf = leaf_of(stage, dear)
    signed = attestation(stage, ONE, subject=leaf.receipt_digest)
    place = (checksummed(stage.lane), commitment_tuple(stage.epochs[0].commitment))
    call = ("WorkPool", "attest", *place, abi_argument(leaf), *signed)
    assert "SafeCastOverflowedUintDowncast" in str(refuse(stage, ONE.address, *call))


def test_whoever_topped_up_after_a_lie_is_brought_before_the_arbiter_all_the_same(stage):
    assert attest(stage, ONE) is None
    assert attest(stage, TWO, BAD) is None
    stage.bond(TWO.address, AUDITOR, 1)
    assert attest(stage, THREE) == "NoPlace"
    stage.call(WATCHER, "Arbiter", "open", *attestation(stage, ONE), *attestation(stage, TWO, BAD))


def test_attestations_on_nothing_are_refused(stage):
    call = (
        checksummed(stage.lane),
        commitment_tuple(stage.epochs[0].commitment),
        abi_argument(leaf_of(stage)),
    )
    unsigned = (attestation(stage, ONE)[0], bytes(65))
    assert refuse(stage, ONE.address, "WorkPool", "attest", *call, *unsigned) == "BadSignature"
    assert attest(stage, ONE, subject=keccak256(b"another")) == "WrongSubject"
    assert attest(stage, ONE, round=round_after(stage) - 1) == "WrongRound"
    assert attest(stage, ONE, role=CONTRIBUTOR) == "NotDrawn"
    assert attest(stage, ONE, attester=checksummed(TWO.address)) == "NotAttester"
    given, signature = attestation(stage, ONE)
    other = commitment_tuple(replace(stage.epochs[0].commitment, data_hash=bytes(32)))
    call = (checksummed(stage.lane), other, abi_argument(leaf_of(stage)), given, signature)
    assert refuse(stage, ONE.address, "WorkPool", "attest", *call) == "UnknownCommitment"
    leaf = abi_argument(replace(leaf_of(stage), price=1))
    call = (checksummed(stage.lane), commitment_tuple(stage.epochs[0].commitment), leaf, given, signature)
    assert refuse(stage, ONE.address, "WorkPool", "attest", *call) == "BadProof"


# ---- the arbiter


@pytest.fixture
def case(stage):
    """One says good, two says bad; the case is open, both bonds are frozen."""
    assert attest(stage, ONE) is None
    assert attest(stage, TWO, BAD) is None
    stage.network.wait(CHECKS.contest)
    subject = leaf_of(stage).receipt_digest
    assert refuse(stage, WATCHER, "WorkPool", "collect", subject, AUDITOR, 0) == "NotGood"
    return stage.call(WATCHER, "Arbiter", "open", *attestation(stage, ONE), *attestation(stage, TWO, BAD))


def bonds(stage):
    return [stage.network.read("Bonds", "bondOf", checksummed(k.address), AUDITOR)[0] for k in (ONE, TWO)]


def test_a_ruling_costs_the_loser_no_more_than_the_cap(stage, case):
    one, two = (checksummed(key.address) for key in (ONE, TWO))
    assert stage.network.read("Bonds", "frozen", one, AUDITOR)
    assert refuse(stage, WATCHER, "Arbiter", "rule", case, two) == "NotJudge"
    assert refuse(stage, PLATFORM, "Arbiter", "rule", case, checksummed(WATCHER)) == "NotParty"
    assert refuse(stage, WATCHER, "Arbiter", "execute", case) == "TooEarly"
    stage.call(PLATFORM, "Arbiter", "rule", case, two)
    assert refuse(stage, PLATFORM, "Arbiter", "rule", case, one) == "WrongPhase"
    assert refuse(stage, WATCHER, "Arbiter", "execute", case) == "TooEarly"
    stage.network.wait(CHECKS.appeal)
    stage.fund(TWO.address, "Arbiter", 40)
    assert refuse(stage, TWO.address, "Arbiter", "appeal", case) == "TooLate"
    stage.call(WATCHER, "Arbiter", "execute", case)
    assert bonds(stage) == [400, 300]
    assert stage.network.tokens(ONE.address) == 50
    assert not any(stage.network.read("Bonds", "frozen", who, AUDITOR) for who in (one, two))
    subject = leaf_of(stage).receipt_digest
    assert refuse(stage, ONE.address, "WorkPool", "collect", subject, AUDITOR, 0) is None
    assert refuse(stage, WATCHER, "WorkPool", "collect", subject, AUDITOR, 1) == "NotGood"
    assert refuse(stage, WATCHER, "Arbiter", "execute", case) == "WrongPhase"


@pytest.mark.parametrize(("final", "kept"), [(TWO, [400, 300]), (ONE, [300, 400]), (None, [400, 400])])
def test_an_appeal_is_decided_by_another_word(stage, case, final, kept):
    stage.call(PLATFORM, "Arbiter", "rule", case, checksummed(TWO.address))
    stage.fund(TWO.address, "Arbiter", 40)
    stage.fund(ONE.address, "Arbiter", 40)
    assert refuse(stage, ONE.address, "Arbiter", "appeal", case) == "NotLoser"
    stage.call(TWO.address, "Arbiter", "appeal", case)
    assert refuse(stage, WATCHER, "Arbiter", "execute", case) == "TooEarly"
    named = checksummed(final.address if final else bytes(20))
    assert refuse(stage, WATCHER, "Arbiter", "ruleFinally", case, named) == "NotJudge"
    stage.call(PLATFORM, "Arbiter", "ruleFinally", case, named)
    stage.call(WATCHER, "Arbiter", "execute", case)
    assert bonds(stage) == kept
    reward = 50 if final is ONE else 0
    assert stage.network.tokens(TWO.address) == (0 if final is TWO else 40) + reward


@pytest.mark.parametrize("appealed", [False, True])
def test_without_a_word_in_time_nobody_loses(stage, case, appealed):
    if appealed:
        stage.call(PLATFORM, "Arbiter", "rule", case, checksummed(TWO.address))
        stage.fund(TWO.address, "Arbiter", 40)
        stage.call(TWO.address, "Arbiter", "appeal", case)
    stage.network.wait(CHECKS.ruling)
    last = "ruleFinally" if appealed else "rule"
    assert refuse(stage, PLATFORM, "Arbiter", last, case, checksummed(TWO.address)) == "TooLate"
    stage.call(WATCHER, "Arbiter", "execute", case)
    assert bonds(stage) == [400, 400]
    assert stage.network.tokens(TWO.address) == (40 if appealed else 0)


def test_cases_that_are_none_are_refused(stage, case):
    pairs = {
        "AlreadyOpened": (attestation(stage, ONE), attestation(stage, TWO, BAD)),
        "NotConflicting": (attestation(stage, ONE), attestation(stage, TWO)),
        "NotDrawn": (attestation(stage, ONE), attestation(stage, key_of("nobody"), BAD)),
        "BadSignature": (attestation(stage, ONE), (attestation(stage, TWO, BAD)[0], bytes(65))),
    }
    for name, (first, second) in pairs.items():
        assert refuse(stage, WATCHER, "Arbiter", "open", *first, *second) == name
    same = attestation(stage, ONE), attestation(stage, ONE, BAD)
    assert refuse(stage, WATCHER, "Arbiter", "open", *same[0], *same[1]) == "NotConflicting"
