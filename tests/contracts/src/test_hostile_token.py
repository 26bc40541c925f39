"""Tokens that misbehave: a fee kept in transit, a call back in the middle of a transfer."""

import pytest

from commonlore.contracts.artefacts import HERE, decode_revert, read_artefact
from commonlore.contracts.calling.endpoint import Rejected
from commonlore.contracts.calling.transactions import Transactor
from commonlore.contracts.calling.tuples import commitment_tuple
from commonlore.contracts.deploying.deploy import deploy
from commonlore.contracts.embedded.devchain import FAUCET_SECRET, devchain_accounts
from commonlore.protocol.ids import checksummed

HOSTILE = read_artefact(HERE / "test" / "HostileToken.json")


class HostileToken:
    """A token whose every call is sent by its deployer."""

    def __init__(self, endpoint):
        self.deployer = Transactor(endpoint, FAUCET_SECRET)
        factory = endpoint.web3.eth.contract(abi=HOSTILE.abi, bytecode=HOSTILE.bytecode)
        self.address = self.deployer.send("deploy", factory.constructor()).created
        self.contract = endpoint.web3.eth.contract(address=checksummed(self.address), abi=HOSTILE.abi)

    def send(self, name, *arguments):
        self.deployer.send(name, self.contract.get_function_by_name(name)(*arguments))

    def answer(self):
        """What the call in the middle of the last transfer came to."""
        return decode_revert(self.contract.functions.answer().call()).name


@pytest.fixture
def token(network, tools):
    """The network's contracts once more, over a hostile token."""
    endpoint = network.devchain.endpoint
    token = HostileToken(endpoint)
    honest = network.deployment
    network.deployment = deploy(endpoint, token.deployer, devchain_accounts(), tools.TERMS, token.address)
    network.domain = network.deployment.domain
    yield token
    network.deployment, network.domain = honest, honest.domain


@pytest.fixture
def alice(network, token):
    """A client with 600 in the escrow."""
    alice = network.party("alice")
    token.send("mint", checksummed(alice.owner.address), 1_000)
    alice.chain.deposit(600)
    return alice


@pytest.fixture
def bob(network, alice, tools):
    """A worker with 50 earned by its client, ready to be claimed under epoch 9."""
    bob = network.party("bob")
    bob.chain.redeem([alice.voucher(bob.key, 50)])
    network.end_epoch(9)
    bob.chain.post_epoch(bob.key, tools.commitment(8, 50))
    bob.chain.post_epoch(bob.key, final_commitment(alice, tools))
    network.clock.now += tools.TERMS.window
    return bob


def earned_by(alice, tools):
    return tools.Earnings({alice.owner.address: 50})


def final_commitment(alice, tools):
    return tools.commitment(9, 0, earned_by(alice, tools))


def test_a_fee_on_deposit_is_refused(token, alice, tools):
    token.send("setFee", 1)
    with tools.refused("TransferFellShort"):
        alice.chain.deposit(400)
    assert alice.chain.owner_balance(alice.owner.address).amount == 600


def test_a_fee_on_redemption_is_refused(network, token, alice, bob):
    token.send("setFee", 1)
    with pytest.raises(Rejected, match="TransferFellShort"):
        bob.chain.redeem([alice.voucher(bob.key, 300)])
    assert bob.chain.lane_state(bob.key).pot == 50
    token.send("setFee", 0)
    assert bob.chain.redeem([alice.voucher(bob.key, 300)]).amount == 250
    network.check_conservation(bob.key)


@pytest.mark.parametrize("step", ["deposit", "withdraw", "redeem"])
def test_the_escrow_cannot_be_entered_again_during_a_transfer(network, token, alice, bob, tools, step):
    alice.chain.thaw(100)
    network.clock.now += tools.TERMS.thaw_period
    inner = alice.chain.function("Escrow", "withdraw").build_transaction({"gas": 1, "gasPrice": 1})["data"]
    token.send("setCall", checksummed(network.deployment.escrow), inner)
    {
        "deposit": lambda: alice.chain.deposit(1),
        "withdraw": alice.chain.withdraw,
        "redeem": lambda: bob.chain.redeem([alice.voucher(bob.key, 60)]),
    }[step]()
    assert token.answer() == "ReentrancyGuardReentrantCall"
    network.check_conservation(bob.key)


def test_claims_cannot_be_entered_again_during_a_transfer(network, token, alice, bob, tools):
    commitment, claims = final_commitment(alice, tools), earned_by(alice, tools).claims()
    arguments = (checksummed(bob.key), commitment_tuple(commitment), [])
    inner = alice.chain.function("Settlement", "claimMany", *arguments)
    data = inner.build_transaction({"gas": 1, "gasPrice": 1})["data"]
    token.send("setCall", checksummed(network.deployment.settlement), data)
    assert bob.chain.claim(bob.key, commitment, claims).amount == 50
    assert token.answer() == "ReentrancyGuardReentrantCall"
    network.check_conservation(bob.key)
