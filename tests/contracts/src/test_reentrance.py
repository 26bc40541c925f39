"""A token that calls back in the middle of a transfer, or keeps a fee: every contract that moves money."""

from dataclasses import replace

import pytest

from commonlore.contracts.artefacts import HERE, artefact, read_artefact
from commonlore.contracts.calling.tuples import claim_tuple
from commonlore.contracts.deploying.terms import CheckTerms
from commonlore.contracts.staging.cast import CLIENT, LANE, TERMS, WATCHER
from commonlore.contracts.staging.stage import Stage
from commonlore.protocol.ids import Address, checksummed, keccak256

CHECKS = CheckTerms(round_length=1_000, beacon_stake=300, appeal_stake=300)


@pytest.fixture
def stage():
    """All contracts over the hostile token, with two commitments posted and money everywhere."""
    hostile = read_artefact(HERE / "test" / "HostileToken.json")
    stage = Stage(
        replace(TERMS, demand_stake=400, checks=CHECKS),
        lambda name: hostile if name == "CommonloreToken" else artefact(name),
    )
    stage.run_epoch()
    stage.run_epoch()
    stage.fund(WATCHER, "Demands", 2_000)
    return stage


def place(stage):
    return stage.commitment_call(stage.epochs[-1])


def inner_call(stage, contract, name, *arguments):
    """From now on the token calls this in the middle of each transfer."""
    from eth_abi.abi import encode

    selector, kinds, _ = stage.network._entry(contract, name)
    data = selector + encode(kinds, arguments)
    stage.call(WATCHER, "CommonloreToken", "setCall", stage.network.address(contract), data)


def answer(stage):
    """How the call in the middle ended: the selector of its error."""
    return stage.network.read("CommonloreToken", "answer")[:4]


GUARDED = keccak256(b"ReentrancyGuardReentrantCall()")[:4]


def steps(stage):
    """Each entry that moves tokens: (contract, sender, function, arguments), ready to be sent."""
    lane, commitment = place(stage)
    claims = [claim_tuple(claim) for claim in stage.epochs[-1].claims()]
    stage.call(CLIENT.address, "Escrow", "thaw", 5)
    stage.call(LANE.address, "Bonds", "thaw", 1, 5)
    yield "Demands", WATCHER, "demand", (lane, commitment, 2, 0)
    before = stage.network.snapshot()
    stage.call(WATCHER, "Demands", "demand", lane, commitment, 1, 0)
    stage.network.wait(TERMS.answer_time)
    yield "Demands", WATCHER, "expire", (lane, commitment, 1, 0)
    stage.network.revert(before)
    stage.network.wait(TERMS.window + 2 * TERMS.answer_time)
    yield "Settlement", WATCHER, "claimMany", (lane, commitment, claims)
    stage.network.wait(TERMS.thaw_period)
    yield "Escrow", CLIENT.address, "withdraw", ()
    yield "Bonds", LANE.address, "withdraw", (1,)
    client = checksummed(CLIENT.address)
    yield "Escrow", CLIENT.address, "deposit", (client, 5)


@pytest.mark.parametrize("contract", ["Escrow", "Settlement", "Bonds", "Demands"])
def test_no_contract_is_entered_again_during_a_transfer(stage, contract):
    tried = 0
    for name, sender, function, arguments in steps(stage):
        if name != contract:
            continue
        before = stage.network.snapshot()
        inner_call(stage, contract, function, *arguments)
        stage.network.refusal(sender, contract, function, *arguments)
        assert answer(stage) == GUARDED, function
        stage.network.revert(before)
        tried += 1
    assert tried


def test_the_beacon_is_not_entered_again(stage):
    number = stage.network.read("Beacon", "roundAt", stage.network.now) + 1
    stage.network.wait(stage.network.read("Beacon", "startOf", number) - stage.network.now)
    stage.fund(WATCHER, "Beacon", 900)
    inner_call(stage, "Beacon", "commit", number, keccak256(b"x"))
    stage.call(WATCHER, "Beacon", "commit", number, keccak256(b"x"))
    assert answer(stage) == GUARDED
    stage.network.wait(1_000)
    inner_call(stage, "Beacon", "close", number)
    stage.call(WATCHER, "Beacon", "close", number)
    assert answer(stage) == GUARDED


@pytest.mark.parametrize(
    ("contract", "sender", "name"), [("Bonds", LANE.address, "bond"), ("Demands", WATCHER, "demand"),
                                     ("Beacon", WATCHER, "commit"), ("Escrow", CLIENT.address, "deposit")],
)  # fmt: skip
def test_a_token_that_keeps_a_fee_is_refused(stage, contract, sender, name):
    number = stage.network.read("Beacon", "roundAt", stage.network.now)
    stage.network.wait(0)
    given = {
        "bond": (1, 100),
        "demand": (*place(stage), 1, 0),
        "commit": (number, keccak256(b"x")),
        "deposit": (checksummed(CLIENT.address), 100),
    }
    stage.fund(sender, contract, 5_000)
    if name == "commit":
        start = stage.network.read("Beacon", "startOf", number + 1)
        stage.network.wait(start - stage.network.now)
        given["commit"] = (number + 1, keccak256(b"x"))
    stage.call(WATCHER, "CommonloreToken", "setFee", 1)
    assert stage.network.refusal(Address(sender), contract, name, *given[name]) == "TransferFellShort"
