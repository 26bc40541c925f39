"""One devchain a module, taken back to its beginning after every test; time stands still until a test moves
it."""

from __future__ import annotations

import platform
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from commonlore.contracts.artefacts import HERE, artefact, decode_revert
from commonlore.contracts.calling.endpoint import Endpoint, Rejected
from commonlore.contracts.calling.transactions import Transactor
from commonlore.contracts.client.chain import ChainClient
from commonlore.contracts.deploying.deploy import Accounts, deploy
from commonlore.contracts.deploying.deployment import Deployment, Terms
from commonlore.contracts.embedded.devchain import Devchain, DevchainConfig
from commonlore.contracts.staging.cast import key_of
from commonlore.contracts.staging.stage import Stage
from commonlore.protocol.encoding.merkle import MerkleSumTree
from commonlore.protocol.ids import Address, checksummed, keccak256
from commonlore.protocol.receipts.records import SignedVoucher, Voucher
from commonlore.protocol.settlement.commitments import Claim, Commitment, earnings_leaf
from commonlore.protocol.signing.bindings import SignedBinding, bind
from commonlore.protocol.signing.eip712 import Domain, sign
from commonlore.protocol.signing.keys import AccountKey, PeerKey

GENESIS = 1_800_000_000
TERMS = Terms(epoch_length=1_000, window=500, grace=100)
YEAR = 365 * 86_400


@dataclass
class Clock:
    """A devchain's clock that only tests move."""

    now: int = GENESIS

    def __call__(self) -> int:
        return self.now


class Party:
    """An owner with a session key, a peer key, and a chain client of its own."""

    def __init__(self, network: Network, name: str) -> None:
        self.owner = AccountKey.from_secret(keccak256(f"owner {name}".encode()))
        self.session = AccountKey.from_secret(keccak256(f"session {name}".encode()))
        self.peer = PeerKey.generate(keccak256(f"peer {name}".encode()))
        self.network = network
        self.chain = network.client(self.owner)

    @property
    def key(self) -> Address:
        """The session key's address: payer of a client, lane of a worker."""
        return self.session.address

    def binding(self, not_after: int = GENESIS + YEAR) -> SignedBinding:
        return bind(self.network.domain, self.owner, self.session, self.peer, GENESIS - 10, not_after)

    def voucher(self, lane: Address, cumulative: int, epoch: int = 0, price: int = 1) -> SignedVoucher:
        fields = Voucher(self.key, lane, cumulative, epoch, cumulative, price, keccak256(bytes([epoch])))
        return SignedVoucher(fields, sign(self.network.domain, self.session, fields))


class Network:
    """The contracts on a devchain."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.devchain = Devchain(DevchainConfig(TERMS, clock=self.clock))
        self.deployment: Deployment = self.devchain.deployment
        self.domain: Domain = self.deployment.domain

    def client(self, key: AccountKey | None = None) -> ChainClient:
        return ChainClient(self.devchain.provider(), self.deployment, None if key is None else key.secret)

    def party(self, name: str, tokens: int = 0, bound: bool = True) -> Party:
        """Someone with ETH, tokens, and (if `bound`) a session key on chain."""
        party = Party(self, name)
        self.devchain.fund(party.owner.address, tokens)
        if bound:
            party.chain.bind(party.binding())
        return party

    def payer(self, name: str, deposit: int) -> Party:
        party = self.party(name, deposit)
        party.chain.deposit(deposit)
        return party

    def end_epoch(self, epoch: int) -> None:
        """Goes to the moment from which `epoch` can be posted."""
        self.clock.now = max(self.clock.now, self.deployment.postable_at(epoch))

    def check_conservation(self, *lanes: Address) -> None:
        """What the contracts hold is what they owe, and no lane paid more than it was paid."""
        reader = self.client()
        states = [reader.lane_state(lane) for lane in lanes]
        assert reader.balance(self.deployment.settlement) == sum(s.pot - s.claimed for s in states)
        assert all(s.claimed <= s.committed <= s.pot for s in states)


class Earnings:
    """An earnings tree over (account, cumulative)s."""

    def __init__(self, earned: Mapping[Address, int]) -> None:
        self.earned = dict(sorted(earned.items()))
        self.tree = MerkleSumTree(earnings_leaf(*item) for item in self.earned.items())

    def claim(self, account: Address) -> Claim:
        index = list(self.earned).index(account)
        return Claim(account, self.earned[account], index, tuple(self.tree.proof(index)))

    def claims(self) -> list[Claim]:
        return [self.claim(account) for account in self.earned]


def make_commitment(epoch: int, receipt_sum: int, earnings: Earnings | None = None) -> Commitment:
    """A well-formed commitment; the receipt tree's root is made up."""
    earnings = earnings or Earnings({})
    return Commitment(
        epoch=epoch,
        receipt_root=keccak256(b"receipts") if receipt_sum else bytes(32),
        earnings_root=earnings.tree.root,
        receipt_sum=receipt_sum,
        cumulative_total=earnings.tree.total,
        receipt_count=1 if receipt_sum else 0,
        line_count=1 if receipt_sum else 0,
        account_count=earnings.tree.count,
        data_hash=keccak256(b"data"),
    )


class Tools:
    """What tests build with, without importing this file."""

    Earnings = Earnings
    commitment = staticmethod(make_commitment)
    artefact = staticmethod(artefact)
    decode_revert = staticmethod(decode_revert)
    GENESIS = GENESIS
    YEAR = YEAR
    TERMS = TERMS

    @staticmethod
    def refused(name: str) -> object:
        """A context in which the contract must refuse with the custom error `name`."""
        return pytest.raises(Rejected, match=rf"refused with {name}\(")


@pytest.fixture(scope="module")
def shared_network() -> Iterator[Network]:
    network = Network()
    yield network
    network.devchain.close()


@pytest.fixture
def network(shared_network: Network) -> Iterator[Network]:
    rpc = shared_network.devchain.rpc
    saved = rpc.handle("evm_snapshot", [])
    shared_network.clock.now = GENESIS + 1
    yield shared_network
    rpc.handle("evm_revert", [saved])


@pytest.fixture(scope="session")
def tools() -> type[Tools]:
    return Tools


# ---- revm


@pytest.fixture(scope="module")
def played() -> Stage:
    """A lane that has done nothing yet; modules that want one with a history make their own."""
    return Stage()


@pytest.fixture
def stage(played: Stage) -> Iterator[Stage]:
    """The module's lane, taken back after each test."""
    with played.undone():
        yield played


# ---- anvil

ANVIL = HERE / "node_modules" / ".bin" / "anvil"
ANVIL_TERMS = Terms(epoch_length=1_000, window=500, minimum_bond=10)
FUNDED = AccountKey.from_secret(
    bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
)
"""The first account that every anvil funds."""


class Anvil:
    """A chain of its own, whose clock moves when it is told to."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"
        command = [str(ANVIL), "--port", str(port), "--hardfork", "prague", "--timestamp", str(GENESIS)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in self.process.stdout:
            if "Listening" in line:
                break
        self.endpoint = Endpoint(self.url)
        self.deployer = Transactor(self.endpoint, FUNDED.secret)
        accounts = Accounts(key_of("platform").address, key_of("pool").address)
        self.clients: list[ChainClient] = []
        self.deployment = deploy(self.endpoint, self.deployer, accounts, ANVIL_TERMS)

    def client(self, key):
        self.deployer.pay("fund", key.address, 10**18)
        self.clients.append(ChainClient(self.url, self.deployment, key.secret))
        return self.clients[-1]

    def mint(self, account, amount):
        token = self.endpoint.contract("CommonloreToken", self.deployment.token)
        self.deployer.send("mint", token.functions.mint(checksummed(account), amount))

    def travel(self, seconds):
        request = self.endpoint.web3.provider.make_request
        request("evm_increaseTime", [seconds])
        request("evm_mine", [])


@pytest.fixture(scope="module")
def anvil():
    """Skipped where npm's tools are not installed."""
    if not ANVIL.exists() or platform.system() != "Linux" or shutil.which("node") is None:
        pytest.skip("anvil is not installed: npm ci --ignore-scripts in contracts/")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    chain = Anvil(port)
    yield chain
    chain.process.terminate()
    chain.process.communicate(timeout=10)
    for client in chain.clients:
        client.close()
    chain.endpoint.close()
