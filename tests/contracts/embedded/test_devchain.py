"""The embedded chain: its JSON-RPC, its clock, its memory, its process."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from commonlore.contracts.client.chain import ChainClient
from commonlore.contracts.deploying.deployment import Deployment
from commonlore.contracts.embedded.controls import DevchainProcess, advance, fund
from commonlore.contracts.embedded.devchain import Devchain, DevchainConfig
from commonlore.protocol.errors import ChainError, ConfigError, Unreachable
from commonlore.protocol.ids import Address, checksummed, keccak256
from commonlore.protocol.signing.keys import AccountKey

ALICE = AccountKey.from_secret(keccak256(b"alice"))
SOMEONE = checksummed(Address(keccak256(b"someone")[12:]))


def ask(devchain, method, *params):
    return devchain.respond({"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)})


@pytest.fixture
def devchain(network):
    return network.devchain


def test_the_methods_that_clients_and_wallets_need(devchain, network, tools):
    assert ask(devchain, "eth_chainId")["result"] == hex(network.deployment.chain_id)
    assert ask(devchain, "net_version")["result"] == str(network.deployment.chain_id)
    assert ask(devchain, "eth_getBalance", SOMEONE, "latest")["result"] == "0x0"
    assert ask(devchain, "eth_getCode", SOMEONE, "latest")["result"] == "0x"
    head = ask(devchain, "eth_getBlockByNumber", "latest", False)["result"]
    assert ask(devchain, "eth_getBlockByHash", head["hash"], False)["result"] == head
    assert int(head["number"], 16) == int(ask(devchain, "eth_blockNumber")["result"], 16)
    pending = ask(devchain, "eth_getBlockByNumber", "pending", False)["result"]
    assert (pending["hash"], int(pending["timestamp"], 16)) == (None, tools.GENESIS + 1)
    assert ask(devchain, "eth_getBlockByNumber", "0xffffff", False)["result"] is None
    (deployed,) = ask(devchain, "eth_getBlockByNumber", "0x1", False)["result"]["transactions"]
    receipt = ask(devchain, "eth_getTransactionReceipt", deployed)["result"]
    assert receipt["contractAddress"] == checksummed(network.deployment.token)
    assert ask(devchain, "eth_getTransactionByHash", deployed)["result"]["blockNumber"] == "0x1"
    assert ask(devchain, "eth_getTransactionReceipt", "0x" + "00" * 32)["result"] is None


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("eth_nonsense", [], -32601),
        ("eth_getBalance", [], -32602),
        ("eth_getBalance", ["0x12"], -32602),
        ("eth_call", ["text"], -32602),
        ("eth_getBalance", [SOMEONE, "0x1"], -32000),
        ("eth_sendRawTransaction", ["0x02ff"], -32000),
        ("eth_getLogs", [{"fromBlock": "0x0", "toBlock": "0xfffffff"}], -32005),
        ("evm_increaseTime", ["-0x5"], -32602),
        ("commonlore_fund", ["0x12"], -32000),
    ],
)
def test_ill_formed_requests_are_answered_with_an_error(devchain, method, params, code):
    assert ask(devchain, method, *params)["error"]["code"] == code


def test_requests_that_are_none(devchain):
    for request in (None, 7, {}, {"method": 5}, {"method": "eth_chainId", "params": {"a": 1}}):
        assert devchain.respond(request)["error"]["code"] == -32600
    batch = devchain.respond([{"id": 1, "method": "eth_chainId"}, {"id": 2, "method": "eth_blockNumber"}])
    assert [answer["id"] for answer in batch] == [1, 2]


def test_logs_are_filtered_by_address_topics_and_blocks(devchain, network):
    alice, bob = network.payer("alice", 10), network.party("bob")
    bob.chain.redeem([alice.voucher(bob.key, 4)])
    settlement = checksummed(network.deployment.settlement)
    (credited,) = ask(devchain, "eth_getLogs", {"fromBlock": "0x0", "address": settlement})["result"]
    topics = [None, ["0x" + bob.key.rjust(32, b"\0").hex()]]
    query = {"fromBlock": "0x0", "toBlock": "latest", "address": [settlement], "topics": topics}
    assert ask(devchain, "eth_getLogs", query)["result"] == [credited]
    query["topics"] = [None, "0x" + alice.key.rjust(32, b"\0").hex()]
    assert ask(devchain, "eth_getLogs", query)["result"] == []


def test_a_jump_in_time_is_seen_at_once(network, tools):
    client = network.client()
    assert client.chain_time() == tools.GENESIS + 1
    advance(client.endpoint, 5_000)
    assert client.chain_time() == tools.GENESIS + 5_001
    assert client.epoch_at(client.chain_time()) == 5


def test_reverting_a_snapshot_takes_everything_back(network):
    rpc = network.devchain.rpc
    before, saved = rpc.handle("eth_blockNumber", []), rpc.handle("evm_snapshot", [])
    network.devchain.fund(ALICE.address)
    assert network.client().balance(ALICE.address) > 0
    assert rpc.handle("evm_revert", [saved]) is True
    assert network.client().balance(ALICE.address) == 0
    assert rpc.handle("eth_blockNumber", []) == before
    assert rpc.handle("evm_revert", [saved]) is False
    network.devchain.fund(ALICE.address)
    assert network.client().balance(ALICE.address) > 0


# ---- memory


@pytest.fixture
def config(shared_network, tmp_path, tools):
    shared_network.clock.now = tools.GENESIS
    return DevchainConfig(tools.TERMS, clock=shared_network.clock, state=tmp_path / "chain.jsonl")


def test_a_devchain_with_a_state_file_comes_back_as_it_was(config):
    first = Devchain(config)
    first.fund(ALICE.address)
    first.rpc.handle("evm_increaseTime", [hex(900)])
    first.rpc.handle("evm_mine", [])
    ChainClient(first.provider(), first.deployment, ALICE.secret).deposit(500)
    blocks = first.rpc.handle("eth_getBlockByNumber", ["latest"])
    first.close()

    second = Devchain(config)
    assert second.deployment == first.deployment
    assert second.rpc.handle("eth_getBlockByNumber", ["latest"]) == blocks
    client = ChainClient(second.provider(), second.deployment, ALICE.secret)
    assert client.owner_balance(ALICE.address).amount == 500
    assert client.chain_time() == config.clock() + 900
    client.deposit(1)
    second.close()


def test_a_line_cut_short_is_dropped(config):
    first = Devchain(config)
    first.fund(ALICE.address)
    first.close()
    whole = config.state.read_bytes()
    config.state.write_bytes(whole + b'{"raw": "02f8')
    Devchain(config).close()
    assert config.state.read_bytes() == whole


def test_a_state_that_ends_before_the_contracts_starts_over(config):
    Devchain(config).close()
    lines = config.state.read_bytes().splitlines(keepends=True)
    config.state.write_bytes(b"".join(lines[:3]))
    again = Devchain(config)
    assert again.deployment.block == 1
    again.close()


def test_a_state_file_has_one_user(config):
    first = Devchain(config)
    with pytest.raises(ConfigError, match="in use"):
        Devchain(config)
    with pytest.raises(ChainError, match="snapshots"):
        first.rpc.handle("evm_snapshot", [])
    first.close()


@pytest.mark.parametrize(
    "text",
    [b"hello\n", b"no newline", b'{"format": 99}\n', b"[1]\n", b'{"format": 1, "genesis_time": 5}\n7\n'],
)
def test_a_file_that_is_no_state_is_left_alone(config, text):
    config.state.write_bytes(text)
    with pytest.raises(ConfigError, match="not a devchain's state"):
        Devchain(config)
    assert config.state.read_bytes() == text


def test_a_state_that_replays_differently_is_refused(config):
    Devchain(config).close()
    lines = config.state.read_text().splitlines(keepends=True)
    lines[1] = json.dumps(json.loads(lines[1]) | {"block": "00" * 32}) + "\n"
    config.state.write_text("".join(lines))
    with pytest.raises(ConfigError, match="replays differently"):
        Devchain(config)


# ---- deployments


def test_deployments_survive_json(network, tmp_path):
    network.deployment.save(tmp_path / "d.json")
    assert Deployment.load(tmp_path / "d.json") == network.deployment
    plain = network.deployment.to_dict()
    for wrong in ({}, [], plain | {"extra": 1}, plain | {"token": "0x12"}, plain | {"block": -1}):
        with pytest.raises(ConfigError, match="not a deployment"):
            Deployment.from_dict(wrong)
    with pytest.raises(ConfigError, match="no deployment in"):
        Deployment.load(tmp_path / "absent.json")


# ---- process


class Apart:
    """A devchain in a process of its own, with files beside it, that several tests speak to."""

    def __init__(self, folder):
        self.state, self.written = folder / "chain.state", folder / "deployment.json"
        files = ["--state", str(self.state), "--deployment-out", str(self.written)]
        self.process = DevchainProcess(["--epoch-length", "60", "--window", "30", *files])


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    apart = Apart(tmp_path_factory.mktemp("apart"))
    yield apart
    apart.process.close()


def test_a_state_file_in_use_and_a_deployment_for_other_peers(apart, tmp_path):
    assert Deployment.load(apart.written) == apart.process.deployment
    command = [sys.executable, "-m", "commonlore.cli.main", "devchain", "--port", "0"]
    second = subprocess.run(
        [*command, "--state", str(apart.state)], capture_output=True, text=True, check=False
    )
    remedy = "stop that one, or name another file"
    assert second.stderr == f"error: state file {apart.state} is in use by another devchain; {remedy}\n"
    assert second.returncode == 1
    with pytest.raises(ChainError, match=r"the deployment cannot be written to .*; name another file"):
        DevchainProcess(["--deployment-out", str(tmp_path / "absent" / "deployment.json")])


def test_a_port_is_one_devchain_s(apart):
    port = apart.process.url.rsplit(":", 1)[1]
    with pytest.raises(ChainError, match=f"port {port} cannot be used"):
        DevchainProcess(["--port", port])


def test_a_devchain_in_a_process_of_its_own(apart):
    """Real HTTP: fund, deposit, refusal with its reason, a jump in time; gone with its parent's pipe."""
    process = apart.process
    client = ChainClient(process.url, process.deployment, ALICE.secret, patience_s=0.2)
    fund(client.endpoint, ALICE.address, 700, 10**18)
    client.deposit(600)
    assert client.owner_balance(ALICE.address).amount == 600
    client.thaw(5)
    with pytest.raises(ChainError, match="StillThawing"):
        client.withdraw()
    before = client.chain_time()
    advance(client.endpoint, 3_600)
    assert client.chain_time() >= before + 3_600
    assert_only_programs_here_are_answered(process.url)
    process.close()
    assert process.process.returncode == 0
    with pytest.raises(Unreachable, match="is it running"):
        client.chain_time()
    client.close()


def assert_only_programs_here_are_answered(url):
    for headers, status in (
        ({"Origin": "https://example.org"}, 403),
        ({"Host": "example.org"}, 403),
        ({"Content-Length": "99999999"}, 413),
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(urllib.request.Request(url, b"{}", headers), timeout=60)
        assert caught.value.code == status
        caught.value.close()
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(url, b"not json"), timeout=60)
    assert caught.value.code == 400
    caught.value.close()


def test_a_devchain_that_cannot_start_says_why(tmp_path):
    with pytest.raises(ChainError, match="cannot be opened"):
        DevchainProcess(["--state", str(tmp_path / "absent" / "chain.jsonl")])


def test_a_devchain_ends_on_sigterm():
    process = DevchainProcess()
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(60) == 0
    process.close()
