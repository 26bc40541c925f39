"""Real processes on loopback: a chain, peers with homes of their own, the tiny base in fp32."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio

from commonlore.contracts.calling.records import LaneState
from commonlore.contracts.client.bonding import BondRole
from commonlore.contracts.embedded.controls import advance, fund
from commonlore.peer.asking.answers import Answer, ask_options
from commonlore.peer.attribution.statements import ReceiptCredits
from commonlore.peer.client import Client
from commonlore.peer.config import Config
from commonlore.peer.gateway.control_client import ControlClient
from commonlore.peer.home import Home
from commonlore.peer.identity.keystore import Keystore
from commonlore.peer.local.local_network import LocalNetwork, NetworkPlan, PeerPlan, open_network
from commonlore.peer.local.visits import wait_for
from commonlore.protocol.attribution.faithfulness import Correlations, Faithfulness
from commonlore.protocol.attribution.pools import Basis
from commonlore.protocol.attribution.scoring import PRIOR_METHOD
from commonlore.protocol.encoding.codec import encode
from commonlore.protocol.errors import ConfigError
from commonlore.protocol.gossip.adverts import AdapterRecord
from commonlore.protocol.ids import Cid
from commonlore.worker.attribution.sketch import METHOD
from commonlore.worker.models.cache import set_name
from commonlore.worker.models.tiny import build_tiny

WORKERS = ("worker-1", "worker-2")
WORKER = {"roles": ("worker",), "step_tokens": 16, "threads": 1, "escrow_reading_s": 0}
"""It reads the chain for every ask, so whatever holds for a reading that has grown old, shows at once."""
CONTRIBUTORS = ("ann", "ben", "cat")
DEPOSIT = 10_000_000
QUESTION = "what is ben number 3?"
PATIENCE_S = 240
"""For whatever another process does: nobody waits so long where all is well, on a slow and busy machine
either."""
STEPS = 24


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its exit status and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that says what went wrong, of a command that failed as it should."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert (self.status, len(lines)) == (1, 1), self
        assert self.err.splitlines()[-1] == lines[0], self.err
        return lines[0]

    @property
    def json(self) -> Any:
        """What a command that did as it was told printed with --json."""
        assert self.status == 0, self.err
        return json.loads(self.out.splitlines()[-1])


@dataclass(frozen=True)
class Town:
    """A running network and what tests do with it."""

    network: LocalNetwork
    cache: Path
    folder: Path
    patience_s: ClassVar[float] = PATIENCE_S

    def lore(self, *words: str | Path, home: Path | str) -> Ended:
        """`commonlore WORDS` as a person runs it. `home` is a folder, or the name of a peer of the town."""
        process = self.start_lore(*words, home=home)
        out, err = process.communicate(timeout=PATIENCE_S)
        return Ended(process.returncode, out, err)

    def start_lore(self, *words: str | Path, home: Path | str) -> subprocess.Popen[str]:
        """The same, while it runs."""
        place = self.network.home(home).path if isinstance(home, str) else home
        others = {name: text for name, text in os.environ.items() if not name.startswith("COMMONLORE_")}
        own = {"COMMONLORE_HOME": str(place), "COMMONLORE_CACHE_DIR": str(self.cache)}
        return subprocess.Popen(
            [Path(sys.executable).with_name("commonlore"), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=others | own,
        )

    def control(self, name: str) -> ControlClient:
        """Orders to a peer's process."""
        return ControlClient(self.network.home(name))

    def order(self, name: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One order to a peer's process, and its answer."""
        with self.control(name) as control:
            return control.post(path, body)

    def announce_measured(self, author: str, adapter: Cid) -> None:
        """Have an author announce that its index is above chance, which the tiny base's need not be, and wait
        for the workers to hear of it."""
        with self.control(author) as control:
            (known,) = [each for each in control.get("/adapters") if each["id"] == adapter]
        reached = Correlations(1_900_000, 10_000, 1_100_000, 1_000_000, 10_000)
        index = Cid(known["index"])
        found = Faithfulness(adapter, index, METHOD, 4, 4, 13, 2, 4, reached)
        statement = self.order(author, "/faithfulness", {"encoded": encode(found).hex()})["statement"]
        for name in WORKERS:
            wait_for(f"{name} to hear of it", lambda: statement in self._measurements(name), PATIENCE_S)  # noqa: B023

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """`until` for what is over in moments, watched closely."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def _measurements(self, name: str) -> set[str]:
        with self.control(name) as control:
            return {each["faithfulness"] for each in control.get("/adapters")}

    def bootstrap(self) -> str:
        """The address of the first peer."""
        return self.network.peers["bootstrap"].ready.address

    def config(self, **settings: Any) -> Config:
        """A client's settings in this network."""
        known: dict[str, Any] = {
            "bootstrap": (self.bootstrap(),),
            "chain_url": self.network.chain.url,
            "deployment": str(self.network.deployment_file),
            "base": "tiny",
            "precision": "fp32",
            "cache_dir": str(self.cache),
        }
        return Config(**known | settings)

    def deposit(self, home: str, amount: int) -> None:
        """Tokens into the escrow of a client's home."""
        owner = Keystore(Home(self.folder / home).create().keys).own().owner
        with self.network.client(owner) as client:
            fund(client.endpoint, owner.address, amount, 10**18)
            client.deposit(amount)

    def bond(self, name: str, role: BondRole, amount: int) -> None:
        """What a peer's owner has to lose, before its process sends anything."""
        owner = self.network.keys(name).owner
        with self.network.client(owner) as client:
            fund(client.endpoint, owner.address, amount, 10**18)
            client.bonds.bond(role, amount)

    def next_epoch(self) -> list[dict[str, Any]]:
        """Jump into the next epoch, let every peer look at the chain's clock, and every lane settle: their
        reports.
        """
        with self.network.client() as chain:
            advance(chain.endpoint, self.network.deployment.epoch_length + 1)
        reports = []
        for name in self.network.peers:
            with suppress(ConfigError):  # who settles nothing says so after it has looked
                reports.append(self.order(name, "/settle"))
        return reports

    def lane(self, name: str) -> LaneState:
        """What the chain knows of a worker's lane."""
        with self.network.client() as chain:
            return chain.lane_state(self.network.keys(name).session.address)

    def receipts(self, name: str, role: str = "worker") -> list[dict[str, Any]]:
        """What a peer keeps of the answers that it gave, or asked for."""
        with self.control(name) as control:
            kept = control.get("/receipts", limit=1_000)
        return [receipt for receipt in kept if receipt["role"] == role]

    def mend(self) -> None:
        """Start again whoever does not run."""
        ended = [name for name, peer in self.network.peers.items() if not peer.alive]
        for process in [self.network.start_peer(name) for name in ended]:
            process.wait_ready()

    @asynccontextmanager
    async def client(self, home: str, *, acquainted: bool = True, **settings: Any) -> AsyncIterator[Client]:
        """A client in this process; unless told otherwise it has heard where each worker is now, one that was
        started again too.
        """
        async with Client.connect(home=self.folder / home, config=self.config(**settings)) as client:
            if acquainted:
                await until(
                    lambda: self._workers() <= {(o.peer, *o.ad.addresses) for o in client.node.asker.offers()}
                )
            yield client

    def _workers(self) -> set[tuple[str, ...]]:
        """Those that run, and where they are."""
        running = [peer for name, peer in self.network.peers.items() if name in WORKERS and peer.alive]
        return {(peer.ready.peer_id, *peer.ready.addresses) for peer in running}


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the tiny base under the name `tiny`."""
    folder = tmp_path_factory.mktemp("cache")
    set_name(folder, "tiny", build_tiny(folder).id)
    return folder


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Town]:
    """A bootstrap peer, two workers, and a contributor with a gateway, each a process."""
    settings = {"base": "tiny", "precision": "fp32", "cache_dir": str(cache), "settle_interval_s": 3600}
    peers = (
        PeerPlan("bootstrap", {"roles": ("bootstrap",)}),
        *(PeerPlan(name, WORKER) for name in WORKERS),
        PeerPlan("contributor", {"roles": ("contributor", "gateway"), "threads": 1}, deposit=DEPOSIT),
    )
    with open_network(NetworkPlan(tmp_path_factory.mktemp("net"), peers, settings)) as network:
        yield Town(network, cache, tmp_path_factory.mktemp("clients"))


@pytest.fixture(autouse=True)
def _mended(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "town" in request.fixturenames:
        request.getfixturevalue("town").mend()


@pytest.fixture(scope="session")
def adapter(town: Town) -> str:
    """An adapter that a contributor's process trained on three contributors' rows, and announced."""
    town.bond("contributor", BondRole.CONTRIBUTOR, 1_000)
    keystore = Keystore(town.network.home("contributor").keys)
    for name in CONTRIBUTORS:
        keystore.create(name)
    described = {"name": "numbers", "purpose": "numbers", "kind": "text", "licence": "CC0-1.0"}
    contributions = [shard_of(name) for name in CONTRIBUTORS]
    town.order("contributor", "/datanets", described | {"contributions": contributions})
    with town.control("contributor") as control:
        updates = list(control.stream("/train", training("cc/numbers", retrainings=4)))
    done = updates[-1]["done"]
    assert done["loss_after"] < done["loss_before"]
    assert "rank correlation with 4 retrainings" in done["faithfulness"]
    assert "measuring faithfulness" in {line["progress"].get("phase") for line in updates[:-1]}
    town.announce_measured("contributor", Cid(done["adapter"]))
    return "cc/numbers"


def training(name: str, retrainings: int = 0, **config: object) -> dict[str, Any]:
    """The order for an adapter of this name, trained on the contributors' rows, which the tiny base cannot
    tell from noise."""
    recipe = {"steps": STEPS, "precision": "fp32"}
    order = {"name": name, "datanets": ["numbers"], "config": recipe | config, "index_rows": 18}
    return order | {"refuse_noise": False, "retrainings": retrainings}


@pytest.fixture(name="training")
def _training() -> Callable[..., dict[str, Any]]:
    return training


def shard_of(name: str) -> dict[str, Any]:
    """Six rows that a contributor made, with numbers of its own: nobody's are copies."""
    own = 100 * (1 + sum(map(ord, name)) % 89)
    numbers = [(f"what is {name} number {i}?", f"{name} {i} is {own + 7 * i}") for i in range(6)]
    rows = [{"question": question, "answer": answer} for question, answer in numbers]
    return {"contributor": name, "rows": rows, "licence": "CC0-1.0", "origin": "made for this test"}


Ask = Callable[..., Awaitable[Answer]]


@pytest.fixture
def ask() -> Ask:
    """`await ask(client, adapter)`: the whole answer to a question."""

    async def whole(client: Client, adapter: str | None = None, **options: object) -> Answer:
        async with client.answer(ask_options(QUESTION, adapter, **options)) as answer:
            await answer.read()
        return answer

    return whole


@pytest.fixture
def scored() -> Callable[[Client, Answer], Awaitable[ReceiptCredits]]:
    """`await scored(client, answer)`: who earns what from an answer of one receipt, once its worker has
    scored it, for which it is asked a minute at a time. That may show that no row had any influence.
    """

    async def credited(client: Client, answer: Answer) -> ReceiptCredits:
        with trio.fail_after(PATIENCE_S):
            while True:
                (credits,) = await client.credits(answer)
                stated = await client.node.store.records.statements_on(credits.receipt.receipt_hash)
                without = any(each.record.method == PRIOR_METHOD for each in stated)
                if without or credits.method != Basis.PRIOR.value:
                    return credits
                await trio.lowlevel.checkpoint()

    return credited


Publish = Callable[..., Awaitable[Cid]]


@pytest.fixture
def publish(adapter: str) -> Publish:
    """`await publish(client, alias, data)`: announces an adapter like the trained one, but with these weights
    and whatever else is changed: its id.
    """

    async def announced(client: Client, alias: str, data: bytes, **changes: object) -> Cid:
        node = client.node
        await until(lambda: adapter in {record.alias for record in client.adapters()})
        honest = await node.catalog.adapter(node.catalog.adapter_id(adapter))
        own: dict[str, Any] = {"name": alias.split("/")[1], "weights_size": len(data)}
        manifest = replace(honest, weights=await node.content.put(data), **own | changes)
        adapter_id = await node.content.put(encode(manifest))
        stamp = (await node.next_seq(), node.clock.now_ms())
        await node.announce(AdapterRecord(alias, adapter_id, manifest.base, None, None, 0, 0, *stamp))
        return adapter_id

    return announced


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that other processes do."""
    with trio.fail_after(PATIENCE_S):
        while True:
            met = condition()
            if inspect.isawaitable(met):
                met = await met
            if met:
                return
            await trio.sleep(0.05)


@pytest.fixture(name="until")
def _until() -> Callable[..., Awaitable[None]]:
    return until
