"""A whole network on this machine: a development chain and any number of peers, each a process with its own
home.

Rules of this file:

- The first peer of a plan is where the others start from; they find each other by libp2p, not by this
  program.
- Everything is under one folder and written before a process starts: keys, `config.toml`,
  `deployment.json`, and the chain's state. So a second start goes on where the first one ended, and so does
  any single peer.
- Leaving the block ends every process: peers first, together, then the chain.
"""

from __future__ import annotations

import os
import selectors
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ...contracts.deploying.deployment import Deployment, Terms
from ...protocol.errors import CommonloreError, ConfigError, NotFound
from ...protocol.ids import checksummed
from ...protocol.signing.keys import AccountKey
from ..home import Home
from ..identity.keystore import Keys, Keystore
from ..settling.crediting import NetworkAccounts
from .processes import PeerFailed, PeerProcess, stop_all, without_settings, write_settings

if TYPE_CHECKING:
    from ...contracts.client.chain import ChainClient
    from ...contracts.embedded.controls import DevchainProcess

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""Between attempts to start a chain again."""
GAS_WEI = 10 * 10**18
LOW_WEI = 10**18
WORKER_BOND = 100_000_000
"""What a worker of a network on one machine has to lose, in token units."""
POT_PER_BOND = 100
"""How many times its bond a worker's pots may be before they are final."""
WORK_POOL = "work-pool"
"""The identity, in the first peer's home, that the work pool's share goes to."""
_REMARK = "Written by commonlore for a network on one machine; replaced whenever that is started."


@dataclass(frozen=True, slots=True)
class PeerPlan:
    """One peer.

    `settings` are names and values of `Config`; `deposit` token units stand in escrow for its asks, `bond`
    behind what it posts.
    """

    name: str
    settings: Mapping[str, object] = field(default_factory=dict)
    deposit: int = 0
    bond: int = 0


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """What to start under `root`. `settings` hold for every peer, under its own."""

    root: Path
    peers: tuple[PeerPlan, ...]
    settings: Mapping[str, object] = field(default_factory=dict)
    terms: Terms = field(default_factory=Terms)


class LocalNetwork:
    """Running processes: the chain, and peers by name. See `open_network`."""

    def __init__(self, plan: NetworkPlan) -> None:
        self.plan = plan
        self.peers: dict[str, PeerProcess] = {}
        self._plans = {peer.name: peer for peer in plan.peers}
        self._chain: DevchainProcess | None = None

    # ---- what is where

    def home(self, name: str) -> Home:
        """The home of a peer of the plan."""
        return Home(self.plan.root / name)

    def keys(self, name: str) -> Keys:
        """The keys of a peer of the plan, made at first use."""
        return Keystore(self.home(name).create().keys).own()

    @property
    def chain(self) -> DevchainProcess:
        """The chain. Raises NotFound before it was started."""
        if self._chain is None:
            raise NotFound("the chain of this network has not been started")
        return self._chain

    @property
    def deployment(self) -> Deployment:
        """The network's contracts."""
        return self.chain.deployment

    @property
    def first(self) -> PeerPlan:
        """The peer that others start from. Raises ConfigError on a plan without peers."""
        if not self.plan.peers:
            raise ConfigError("a network needs at least one peer")
        return self.plan.peers[0]

    @contextmanager
    def client(self, account: AccountKey | None = None) -> Iterator[ChainClient]:
        """A client of the chain, sending from `account`; without one it only reads."""
        from ...contracts.client.chain import ChainClient

        client = ChainClient(self.chain.url, self.deployment, account.secret if account else None)
        try:
            yield client
        finally:
            client.close()

    # ---- the chain

    def start_chain(self) -> None:
        """Start the chain, at its old address if it had one, with the state it had."""
        from ...contracts.embedded.controls import DevchainProcess
        from ...contracts.embedded.devchain import TERM_OPTIONS

        self.plan.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        terms, treasury = self.plan.terms, self.treasury()
        options: dict[str, object] = {
            "--state": self.plan.root / "chain.state",
            **{f"--{name}": getattr(terms, name.replace("-", "_")) for name in TERM_OPTIONS},
            "--platform": checksummed(treasury.platform),
            "--work-pool": checksummed(treasury.work_pool),
        }
        if self._chain is not None:
            self._chain.close()
            options["--port"] = urlsplit(self._chain.url).port
        self._chain = DevchainProcess([str(word) for option in options.items() for word in option])
        self.deployment.save(self.deployment_file)

    def treasury(self) -> NetworkAccounts:
        """Who gets the platform's and the work pool's shares: the first peer's owner, and an identity of
        its home.
        """
        home = self.home(self.first.name).create()
        keystore = Keystore(home.keys)
        known = {identity.name: identity.payee for identity in keystore.identities()}
        pool = known.get(WORK_POOL) or keystore.create(WORK_POOL).payee.address
        return NetworkAccounts(keystore.own().owner.address, pool)

    @property
    def deployment_file(self) -> Path:
        """Where the network's deployment is written."""
        return self.plan.root / "deployment.json"

    def stop_chain(self) -> None:
        """End the chain's process; `start_chain` brings it back."""
        if self._chain is not None:
            self._chain.close()

    def fund(self, name: str) -> None:
        """Give a peer's owner gas, its planned deposit and its planned bond from the faucet, unless it has
        them. It bonds by itself.
        """
        from ...contracts.embedded.controls import fund

        plan, owner = self._plans[name], self.keys(name).owner
        with self.client(owner) as client:
            deposit = plan.deposit - client.owner_balance(owner.address).amount if plan.deposit else 0
            missing = max(0, deposit) + (_unbonded(client, plan.bond) if plan.bond else 0)
            if missing or client.gas_balance(owner.address) < LOW_WEI:
                fund(client.endpoint, owner.address, missing, GAS_WEI)
            if deposit > 0:
                client.deposit(deposit)

    # ---- peers

    def start_peer(self, name: str) -> PeerProcess:
        """Start a peer of the plan (again); it is ready when its `wait_ready` returns."""
        running = self.peers.get(name)
        if running is not None:
            running.kill()
        home = self.home(name).create()
        settings = self._settings(name)
        write_settings(home.config, settings, _REMARK)
        peer = PeerProcess(name, home, without_settings(os.environ, settings))
        self.peers[name] = peer
        return peer

    def _settings(self, name: str) -> dict[str, object]:
        own: dict[str, object] = {"chain_url": self.chain.url, "deployment": str(self.deployment_file)}
        if name != self.first.name:
            own["bootstrap"] = (self.peers[self.first.name].ready.address,)
        plan = self._plans[name]
        return {"gateway_port": 0, "bond": plan.bond, **own, **self.plan.settings, **plan.settings}

    def start(self) -> None:
        """Start everything: the chain, then the peers."""
        self.start_chain()
        for _ in self.start_peers():
            pass

    def start_peers(self) -> Iterator[str]:
        """Fund everybody, start the first peer, then the others together; gives each name once it is
        ready.
        """
        for peer in self.plan.peers:
            self.fund(peer.name)
        self.start_peer(self.first.name).wait_ready()
        yield self.first.name
        for process in [self.start_peer(peer.name) for peer in self.plan.peers[1:]]:
            process.wait_ready()
            yield process.name

    def watch(self, tell: Callable[[str], None]) -> None:
        """Wait until a peer ends by itself, and raise PeerFailed, saying which. Peers go on without the
        chain: when that ends, it is started again, and `tell` hears of it."""
        pause_s = 0.0
        while True:
            self._await_end(None if self.chain.alive else pause_s)
            if self.chain.alive:
                continue
            if pause_s == 0.0:
                tell("the chain ended; the peers go on, and it is started again")
            try:
                self.start_chain()
                tell("the chain runs again")
                pause_s = 0.0
            except CommonloreError as error:
                pause_s = min(LONGEST_PAUSE_S, 2 * pause_s or FIRST_PAUSE_S)
                tell(f"the chain does not start: {error}; trying again in {pause_s:.0f} s")

    def _await_end(self, patience_s: float | None) -> None:
        """Until the chain ends, or `patience_s` is over where it has. Raises PeerFailed."""
        with selectors.DefaultSelector() as waiting, ExitStack() as descriptors:
            for name, process in self._processes().items():
                descriptor = os.pidfd_open(process.pid)
                descriptors.callback(os.close, descriptor)
                waiting.register(descriptor, selectors.EVENT_READ, name)
            ended = [key.data for key, _ in waiting.select(patience_s) if key.data in self.peers]
        if ended:
            raise PeerFailed(f"{ended[0]} ended: {self.peers[ended[0]].last_words()}")

    def _processes(self) -> dict[str, subprocess.Popen[bytes]]:
        """Those that are to be watched: all peers, and the chain while it runs."""
        peers = {name: peer.process for name, peer in self.peers.items()}
        return {"the chain": self.chain.process, **peers} if self.chain.alive else peers

    def stop_peers(self) -> None:
        """End all peers."""
        stop_all(self.peers.values())


@contextmanager
def hold_network(plan: NetworkPlan) -> Iterator[LocalNetwork]:
    """A network of which nothing runs yet; whatever is started in the block ends with it."""
    network = LocalNetwork(plan)
    try:
        yield network
    finally:
        try:
            network.stop_peers()
        finally:
            network.stop_chain()


@contextmanager
def open_network(plan: NetworkPlan) -> Iterator[LocalNetwork]:
    """A network as planned, running until the block ends.

    Raises ConfigError, ChainError, PeerFailed with a peer's last words, DeadlineExceeded.
    """
    with hold_network(plan) as network:
        network.start()
        yield network


def _unbonded(client: ChainClient, bond: int) -> int:
    """What an account lacks of a bond as a poster, what it holds itself counted."""
    from ...contracts.client.bonding import BondRole

    account = client.address
    return max(0, bond - client.bonds.standing(account, BondRole.POSTER) - client.balance(account))
