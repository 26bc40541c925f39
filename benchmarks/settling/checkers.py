"""Gas of those who check and of those who judge them: beacon, work pool, arbiter, gradient indexes."""

from __future__ import annotations

from dataclasses import replace

from eth_abi.abi import encode

from commonlore.contracts.calling.tuples import commitment_tuple
from commonlore.contracts.client.proving import abi_argument
from commonlore.contracts.deploying.terms import CheckTerms
from commonlore.contracts.staging import cast
from commonlore.contracts.staging.cast import START, key_of
from commonlore.protocol.ids import checksummed, keccak256
from commonlore.protocol.settlement.openings import open_leaf
from commonlore.protocol.signing.keys import AccountKey

from .chain import DEPLOYER
from .indexes import prove_indexes
from .lane import MeasuredStage, open_stage

ROUND = 1_000
CHECKS = CheckTerms(
    round_length=ROUND, beacon_stake=30, odds_ppm=1_000_000, contest=700, ruling=600, appeal=300,
    appeal_stake=40, minimum_bond=100,
)  # fmt: skip
AUDITOR = 3
ONE, TWO = key_of("auditor one"), key_of("auditor two")
JUDGE = key_of("platform").address


def measure_checkers() -> dict[str, list[int]]:
    """The gas of every entry point of the beacon, the work pool, the arbiter and the indexes."""
    stage = open_stage(replace(cast.TERMS, checks=CHECKS))
    for auditor in (ONE, TWO):
        stage.bond(auditor.address, AUDITOR, 400)
    stage.run_epoch()
    posted_at: int = stage.network.read("Settlement", "posted", checksummed(stage.lane), 1)[1]
    number = (posted_at - START) // ROUND + 1
    _draw_seed(stage, number)
    _disagree(stage, number, 0)
    _agree(stage, number, 1)
    prove_indexes(stage)
    return dict(stage.network.gas)


def _draw_seed(stage: MeasuredStage, number: int) -> None:
    """A round in which two take part, and one of them does not reveal."""
    network = stage.network
    network.wait(START + number * ROUND - network.now)
    value = keccak256(b"value")
    for key in (ONE, TWO):
        stage.fund(key.address, "Beacon", CHECKS.beacon_stake)
        given = (checksummed(key.address), number, value, value)
        hidden = keccak256(encode(("address", "uint64", "bytes32", "bytes32"), given))
        stage.call(key.address, "Beacon", "commit", number, hidden)
    network.wait(ROUND // 2)
    stage.call(ONE.address, "Beacon", "reveal", number, value, value)
    network.wait(ROUND // 2)
    stage.call(cast.WATCHER, "Beacon", "close", number)
    for _ in range(2):  # the block that was named, and one more
        network.wait(1)
        stage.call(DEPLOYER.address, "CommonloreToken", "mint", checksummed(cast.WATCHER), 1)
    stage.call(cast.WATCHER, "Beacon", "settle", number)


def _attestation(
    stage: MeasuredStage, number: int, index: int, key: AccountKey, word: bytes
) -> tuple[object, bytes]:
    leaf = open_leaf(stage.domain, stage.epochs[0], index)
    given = (leaf.receipt_digest, keccak256(word), number, AUDITOR, checksummed(key.address))
    return given, key.sign_digest(stage.network.read("Arbiter", "attestationDigest", given))


def _attest(stage: MeasuredStage, number: int, index: int, words: dict[AccountKey, bytes]) -> bytes:
    """Each hands in a word on a receipt, whose digest is returned."""
    place = (checksummed(stage.lane), commitment_tuple(stage.epochs[0].commitment))
    leaf = open_leaf(stage.domain, stage.epochs[0], index)
    for key, word in words.items():
        signed = _attestation(stage, number, index, key, word)
        stage.call(key.address, "WorkPool", "attest", *place, abi_argument(leaf), *signed)
    return leaf.receipt_digest


def _disagree(stage: MeasuredStage, number: int, index: int) -> None:
    """Two contradict each other, the loser appeals and loses again."""
    subject = _attest(stage, number, index, {ONE: b"good", TWO: b"bad"})
    pair = (_attestation(stage, number, index, ONE, b"good"), _attestation(stage, number, index, TWO, b"bad"))
    stage.call(cast.WATCHER, "Arbiter", "open", *pair[0], *pair[1])
    case, loser = stage.network.read("Arbiter", "caseOf", subject, AUDITOR), checksummed(TWO.address)
    stage.call(JUDGE, "Arbiter", "rule", case, loser)
    stage.fund(TWO.address, "Arbiter", CHECKS.appeal_stake)
    stage.call(TWO.address, "Arbiter", "appeal", case)
    stage.call(JUDGE, "Arbiter", "ruleFinally", case, loser)
    stage.call(cast.WATCHER, "Arbiter", "execute", case)


def _agree(stage: MeasuredStage, number: int, index: int) -> None:
    """Two say the same and are paid."""
    stage.fund(cast.WATCHER, "Escrow", 10_000)
    pool = stage.network.address("WorkPool")
    stage.call(cast.WATCHER, "CommonloreToken", "transfer", pool, 10_000)
    subject = _attest(stage, number, index, {ONE: b"good", TWO: b"good"})
    stage.network.wait(CHECKS.contest)
    for place in range(2):
        stage.call(cast.WATCHER, "WorkPool", "collect", subject, AUDITOR, place)
