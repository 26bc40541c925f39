"""A chain at its worst: blocks taken back, gas that becomes dear, transactions that wait, silence."""

import pytest

from commonlore.contracts.calling.endpoint import Endpoint, GasTooDear
from commonlore.contracts.calling.events import EventLog, EventReader
from commonlore.contracts.calling.transactions import Sending
from commonlore.contracts.client.chain import ChainClient
from commonlore.contracts.embedded.unsteady import UnsteadyChain
from commonlore.protocol.errors import ChainError, DeadlineExceeded, Unreachable
from commonlore.protocol.ids import checksummed

AT_ONCE = Sending(again_s=0.0, confirm_s=5.0)
GWEI = 10**9


@pytest.fixture
def unsteady(network):
    return UnsteadyChain(network.devchain)


@pytest.fixture
def alice(network, unsteady):
    """Somebody with 1,000 tokens, which the escrow may take."""
    party = network.party("alice", 1_000)
    party.chain = client_of(party, network, unsteady)
    escrow = checksummed(network.deployment.escrow)
    party.chain.send("approve", party.chain.function("CommonloreToken", "approve", escrow, 1_000))
    return party


def client_of(party, network, unsteady, sending=AT_ONCE):
    return ChainClient(unsteady.provider(), network.deployment, party.owner.secret, 0.0, sending)


def deposits(network, unsteady):
    reader = EventReader(
        Endpoint(unsteady.provider(), 0.0), "Escrow", network.deployment.escrow, ("Deposited",)
    )
    return EventLog(reader, network.deployment.block)


def amounts(log):
    return [event.arguments["amount"] for event in log.all()]


def test_three_replaced_blocks_are_read_anew(network, unsteady, alice):
    log = deposits(network, unsteady)
    alice.chain.deposit(5)
    assert amounts(log) == [5]
    for amount in (6, 7, 8):
        alice.chain.deposit(amount)
        assert amounts(log)[-1] == amount
    unsteady.replace_blocks(3)
    assert amounts(log) == [5]
    alice.chain.deposit(9)
    assert (amounts(log), log.replaced) == ([5, 9], 1)


def test_blocks_replaced_below_all_remembered_heads_are_read_from_the_beginning(network, unsteady, alice):
    log = deposits(network, unsteady)
    for amount in (5, 6, 7):
        alice.chain.deposit(amount)
    assert amounts(log) == [5, 6, 7]
    unsteady.replace_blocks(3)
    alice.chain.deposit(9)
    assert amounts(log) == [9]


def test_a_head_replaced_while_its_events_are_read_is_read_again(network, unsteady, alice, monkeypatch):
    alice.chain.deposit(5)
    log = deposits(network, unsteady)
    assert amounts(log) == [5]
    alice.chain.deposit(6)
    reader, read = log._reader, log._reader.read

    def overtaken(first, last):
        found = read(first, last)
        monkeypatch.setattr(reader, "read", read)
        unsteady.replace_blocks(1)
        return found

    monkeypatch.setattr(reader, "read", overtaken)
    assert amounts(log) == [5]


def test_a_range_that_an_endpoint_refuses_is_halved(network, unsteady, alice, monkeypatch):
    for amount in (5, 6, 7):
        alice.chain.deposit(amount)
    respond = unsteady.respond

    def narrow(request):
        query = request["params"][0] if request["method"] == "eth_getLogs" else {}
        if query and int(query["toBlock"], 16) - int(query["fromBlock"], 16) > 1:
            error = {"code": -32005, "message": "query returned more than 10000 results"}
            return {"jsonrpc": "2.0", "id": request["id"], "error": error}
        return respond(request)

    monkeypatch.setattr(unsteady, "respond", narrow)
    assert amounts(deposits(network, unsteady)) == [5, 6, 7]


def test_an_account_whose_blocks_were_taken_back_sends_on(unsteady, alice):
    for amount in (6, 7, 8):
        alice.chain.deposit(amount)
    unsteady.replace_blocks(3)
    assert alice.chain.owner_balance(alice.owner.address).amount == 0
    alice.chain.deposit(9)
    assert alice.chain.owner_balance(alice.owner.address).amount == 9


def test_a_transaction_that_offers_too_little_is_offered_more(unsteady, alice, monkeypatch):
    """Gas becomes dear between its fees and its block: the same number goes out again with a higher fee."""
    submit, seen = alice.chain._account._submit, []

    def dearer(what, raw, hash_):
        seen.append(hash_)
        unsteady.base_fee_wei = 50 * GWEI
        return submit(what, raw, hash_)

    monkeypatch.setattr(alice.chain._account, "_submit", dearer)
    sent = alice.chain.deposit(5)
    assert (len(seen), sent.hash) == (2, seen[1])
    assert alice.chain.owner_balance(alice.owner.address).amount == 5


def test_gas_above_the_limit_waits_and_says_so(network, unsteady, alice):
    careful = client_of(alice, network, unsteady, Sending(max_fee_wei=10 * GWEI))
    unsteady.base_fee_wei = 40 * GWEI
    with pytest.raises(GasTooDear, match=r"gas costs 40\.5 gwei, and this node pays 10 at most"):
        careful.deposit(5)
    unsteady.base_fee_wei = 0
    careful.deposit(5)
    assert careful.owner_balance(alice.owner.address).amount == 5


def test_what_is_not_mined_in_time_is_said_and_does_not_block_the_next(network, unsteady, alice):
    hasty = client_of(alice, network, unsteady, Sending(again_s=9.0, confirm_s=0.0))
    unsteady.holds = True
    with pytest.raises(DeadlineExceeded, match="it may be mined later"):
        hasty.deposit(5)
    unsteady.holds = False
    unsteady.mine_waiting()
    hasty.deposit(6)
    assert hasty.owner_balance(alice.owner.address).amount == 11


def test_silence_is_told_apart_from_refusal(unsteady, alice):
    unsteady.is_down = True
    with pytest.raises(Unreachable):
        alice.chain.deposit(5)
    unsteady.is_down = False
    with pytest.raises(ChainError):
        alice.chain.deposit(2_000)
