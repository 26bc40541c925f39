"""What a checker's bond that is on its way out still answers for: nothing new."""

from dataclasses import replace

from commonlore.contracts.calling.tuples import commitment_tuple
from commonlore.contracts.client.proving import abi_argument
from commonlore.contracts.deploying.terms import CheckTerms
from commonlore.contracts.staging.cast import START, TERMS, WATCHER, key_of
from commonlore.contracts.staging.stage import Stage
from commonlore.protocol.ids import checksummed
from commonlore.protocol.settlement.openings import open_leaf

AUDITOR = 3
CHECKER = key_of("checker")
ROUND = 1_000
CHECKS = CheckTerms(round_length=ROUND, odds_ppm=1_000_000, contest=700, minimum_bond=100)


def test_a_bond_that_leaves_answers_for_nothing_new():
    """It could be gone before anybody brings a contradiction; of what stays, the least is enough."""
    stage = Stage(replace(TERMS, checks=CHECKS))
    stage.bond(CHECKER.address, AUDITOR, 400)
    stage.run_epoch()
    lane, network = checksummed(stage.lane), stage.network
    number = (network.read("Settlement", "posted", lane, 1)[1] - START) // ROUND + 1
    network.wait(START + (number + 1) * ROUND - network.now)
    stage.call(WATCHER, "Beacon", "close", number)
    for _ in range(2):
        network.wait(1)
    stage.call(WATCHER, "Beacon", "settle", number)
    leaf = open_leaf(stage.domain, stage.epochs[0], 0)
    word = (leaf.receipt_digest, bytes(31) + b"\x01", number, AUDITOR, checksummed(CHECKER.address))
    signature = CHECKER.sign_digest(network.read("Arbiter", "attestationDigest", word))
    call = (lane, commitment_tuple(stage.epochs[0].commitment), abi_argument(leaf), word, signature)
    stage.call(CHECKER.address, "Bonds", "thaw", AUDITOR, 301)
    assert network.refusal(CHECKER.address, "WorkPool", "attest", *call) == "NotDrawn"
    stage.call(CHECKER.address, "Bonds", "thaw", AUDITOR, 300)
    assert network.refusal(CHECKER.address, "WorkPool", "attest", *call) is None
