"""The way to the chain: silence, repeated sending, numbering from many threads, wrong chains."""

import dataclasses
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from requests.exceptions import ConnectionError as Disconnected

from commonlore.contracts.calling.endpoint import EscrowTooSmall, NoGas
from commonlore.contracts.client.chain import ChainClient
from commonlore.contracts.embedded.provider import LocalProvider
from commonlore.protocol.errors import ChainError, LocalProtocolError, Unreachable
from commonlore.protocol.ids import checksummed, keccak256
from commonlore.protocol.signing.keys import AccountKey


class Flaky:
    """Answers through a devchain, but drops the answers (`lost`) or the requests (`unheard`) of chosen
    calls."""

    def __init__(self, respond):
        self._respond = respond
        self.lost: list[str] = []
        self.unheard: list[str] = []
        self.calls: list[str] = []

    def __call__(self, request):
        method = request["method"]
        self.calls.append(method)
        if method in self.unheard:
            self.unheard.remove(method)
            raise Disconnected("no answer")
        answer = self._respond(request)
        if method in self.lost:
            self.lost.remove(method)
            raise Disconnected("no answer")
        return answer


@pytest.fixture
def flaky(network):
    return Flaky(network.devchain.respond)


@pytest.fixture
def alice(network, flaky):
    """A client of a flaky endpoint, with 1,000 tokens approved and none deposited."""
    party = network.party("alice", 1_000)
    escrow = checksummed(network.deployment.escrow)
    party.chain.send("approve", party.chain.function("CommonloreToken", "approve", escrow, 1_000))
    party.chain = ChainClient(LocalProvider(flaky), network.deployment, party.owner.secret, patience_s=2.0)
    return party


def test_reads_are_repeated(alice, flaky):
    flaky.lost += ["eth_call"]
    assert alice.chain.balance(alice.owner.address) == 1_000


def test_an_account_without_gas_or_tokens_is_told_where_to_get_some(network):
    poor = network.client(AccountKey.from_secret(keccak256(b"poor")))
    account = re.escape(checksummed(poor.address))
    faucet = "on a development chain: commonlore faucet"
    with pytest.raises(
        NoGas, match=rf"^approve: insufficient funds for gas: {account} has 0 wei; send .*; {faucet}$"
    ):
        poor.deposit(5_000)
    network.devchain.fund(poor.address, 3, 10**18)
    with pytest.raises(EscrowTooSmall, match=rf"has 3 token units: send it some; {faucet}$"):
        poor.deposit(5_000)


@pytest.mark.parametrize("fault", ["lost", "unheard"])
def test_a_transaction_whose_answer_is_lost_is_sent_once(alice, flaky, fault):
    """Lost: the chain has it already when it comes again. Unheard: it comes for the first time."""
    alice.chain.deposit(100)
    getattr(flaky, fault).append("eth_sendRawTransaction")
    alice.chain.deposit(100)
    assert alice.chain.owner_balance(alice.owner.address).amount == 200
    assert alice.chain.deposit(1).block


def test_silence_beyond_patience_is_unreachable_and_the_next_call_goes_on(alice, flaky):
    alice.chain.endpoint.patience_s = 0.0
    flaky.unheard += ["eth_getTransactionCount"]
    with pytest.raises(Unreachable, match="does not answer; is it running"):
        alice.chain.deposit(100)
    alice.chain.deposit(100)
    flaky.lost += ["eth_sendRawTransaction"]
    with pytest.raises(Unreachable):
        alice.chain.deposit(100)
    alice.chain.deposit(100)
    assert alice.chain.owner_balance(alice.owner.address).amount == 300


def test_threads_share_an_account(alice):
    start = threading.Barrier(6)

    def deposit(_):
        start.wait(60)
        return [alice.chain.deposit(1).hash for _ in range(4)]

    with ThreadPoolExecutor(6) as pool:
        hashes = [hash_ for some in pool.map(deposit, range(6)) for hash_ in some]
    assert len(set(hashes)) == 24
    assert alice.chain.owner_balance(alice.owner.address).amount == 24


def test_two_clients_of_one_account_find_their_numbers(network, alice):
    """Another program spends the account's next number: ask again and go on."""
    other = network.client(alice.owner)
    for _ in range(3):
        alice.chain.deposit(1)
        other.deposit(1)
    assert other.owner_balance(alice.owner.address).amount == 6


def test_a_transaction_that_fails_in_its_block_says_why(network, alice, tools, monkeypatch):
    """Its estimate was fine, then the state changed."""
    alice.chain.deposit(100)
    alice.chain.thaw(100)
    network.clock.now += tools.TERMS.thaw_period
    other = network.client(alice.owner)
    submit = alice.chain._account._hand_over

    def overtaken(*arguments):
        other.withdraw()
        return submit(*arguments)

    monkeypatch.setattr(alice.chain._account, "_hand_over", overtaken)
    with tools.refused("NothingThaws"):
        alice.chain.withdraw()


def test_an_endpoint_of_another_chain_is_refused(network):
    elsewhere = dataclasses.replace(network.deployment, chain_id=1)
    with pytest.raises(ChainError, match="this network's is 1"):
        ChainClient(network.devchain.provider(), elsewhere).chain_time()
    empty = dataclasses.replace(network.deployment, settlement=network.deployment.platform)
    with pytest.raises(ChainError, match="wrong deployment"):
        ChainClient(network.devchain.provider(), empty).chain_time()


def test_an_account_without_ether_is_told(network):
    alice = network.party("alice", bound=False)
    poor = network.client(alice.session)
    with pytest.raises(ChainError, match="insufficient funds"):
        poor.bind(alice.binding())


def test_arguments_that_fit_no_contract_never_leave(alice):
    with pytest.raises(LocalProtocolError, match="do not fit"):
        alice.chain.thaw(2**128)


def test_what_is_no_chain_is_said_to_be_none(network):
    client = ChainClient(LocalProvider(lambda _: ["what?"]), network.deployment)
    with pytest.raises(ChainError, match="no Ethereum JSON-RPC endpoint"):
        client.chain_time()
