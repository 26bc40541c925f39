"""A network of real processes on this machine: started, found, broken, restarted, ended."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from commonlore.contracts.deploying.deployment import Terms
from commonlore.peer.config import load_config
from commonlore.peer.gateway.control_client import ControlClient
from commonlore.peer.home import Home
from commonlore.peer.local.local_network import LocalNetwork, NetworkPlan, PeerPlan, open_network
from commonlore.peer.local.processes import PeerFailed, PeerProcess, without_settings, write_settings

DEPOSIT = 12_345
PEERS = (PeerPlan("first", {"roles": ("bootstrap",)}), PeerPlan("client", deposit=DEPOSIT))


def wait_until(holds: Callable[[], bool], seconds: float = 120) -> None:
    """Return once `holds()`; fails when it never does."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def runs(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def escrow(network: LocalNetwork) -> int:
    with network.client() as client:
        return client.owner_balance(network.keys("client").owner.address).amount


class Held:
    """A network that several tests use in turn, each leaving it whole: to start one takes seconds."""

    def __init__(self, plan: NetworkPlan) -> None:
        self.plan = plan
        self._stack = ExitStack()
        self.network = self._stack.enter_context(open_network(plan))

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    plan = NetworkPlan(tmp_path_factory.mktemp("network"), PEERS, terms=Terms(epoch_length=60, window=30))
    opened = Held(plan)
    yield opened
    opened.close()


def test_a_network_starts_breaks_and_resumes(held: Held) -> None:
    network = held.network
    client = network.peers["client"].ready
    first = network.peers["first"].ready
    with ControlClient(network.home("client")) as control:
        wait_until(lambda: first.peer_id in control.get("/peers")["connected"])
    assert escrow(network) == DEPOSIT
    assert network.deployment.epoch_length == 60
    assert network.deployment.platform == first.owner

    network.peers["client"].kill()
    assert not network.peers["client"].alive
    assert network.start_peer("client").wait_ready().peer_id == client.peer_id


def test_a_second_node_in_a_home_is_refused(held: Held) -> None:
    one = held.network.peers["client"].process
    two = PeerProcess("two", held.network.home("client"))
    with pytest.raises(PeerFailed, match=rf"two did not start: another node \(process {one.pid}\)"):
        two.wait_ready()
    two.stop()
    assert one.poll() is None


def test_a_chain_that_dies_is_started_again_while_the_peers_go_on(held: Held) -> None:
    network = held.network
    address, first_chain = network.chain.url, network.chain.process
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        if network.chain.alive:
            network.peers["client"].process.kill()

    first_chain.kill()
    with pytest.raises(PeerFailed, match=r"^client ended: "):
        network.watch(tell)
    assert network.peers["first"].alive
    assert (network.chain.url, network.chain.alive) == (address, True)
    assert escrow(network) == DEPOSIT
    assert told == ["the chain ended; the peers go on, and it is started again", "the chain runs again"]
    network.start_peer("client").wait_ready()


def test_a_chain_that_does_not_start_again_is_tried_again(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("commonlore.peer.local.local_network.FIRST_PAUSE_S", 0.01)
    network, folder = held.network, held.plan.root
    state, hidden = folder / "chain.state", folder / "hidden"
    told: list[str] = []
    network.chain.process.kill()
    network.chain.process.wait()
    state.rename(hidden)
    state.write_text("not a chain's\n")

    def tell(text: str) -> None:
        told.append(text)
        if "does not start" in text:
            hidden.replace(state)
        if network.chain.alive:
            network.peers["client"].process.kill()

    with pytest.raises(PeerFailed, match=r"^client ended: "):
        network.watch(tell)
    assert [text.partition(":")[0] for text in told[1:]] == [
        "the chain does not start",
        "the chain runs again",
    ]
    network.start_peer("client").wait_ready()


def test_a_network_ends_whole_and_a_second_start_goes_on_from_there(held: Held) -> None:
    network = held.network
    peers = [peer.process for peer in network.peers.values()]
    pids = [process.pid for process in (*peers, network.chain.process)]
    deployment, peer_id = network.deployment, network.peers["first"].ready.peer_id
    held.close()
    assert not any(runs(pid) for pid in pids)
    assert [process.returncode for process in peers] == [0, 0]

    with open_network(replace(held.plan, peers=PEERS[:1])) as network:
        assert network.deployment == deployment
        assert network.peers["first"].ready.peer_id == peer_id
        assert escrow(network) == DEPOSIT


def test_peers_end_with_the_program_that_started_them(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from commonlore.peer.home import Home
from commonlore.peer.local.processes import PeerProcess
peer = PeerProcess("orphan", Home(Path({str(tmp_path / "home")!r})))
peer.wait_ready()
print(peer.process.pid, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert runs(pid)
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not runs(pid))
    assert not (tmp_path / "home" / "control.sock").exists()


def test_a_peer_that_cannot_start_says_why(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    write_settings(home.config, {"policy": "telepathy"}, "a test")
    peer = PeerProcess("worker-a", home)
    with pytest.raises(
        PeerFailed, match=r"^worker-a did not start: policy in .* is 'telepathy'; expected one of"
    ):
        peer.wait_ready()
    peer.stop()
    assert not peer.alive


def test_a_gateway_port_in_use_is_named(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        write_settings(home.config, {"roles": ("gateway",), "gateway_port": port}, "a test")
        peer = PeerProcess("you", home)
        with pytest.raises(
            PeerFailed, match=rf"^you did not start: .*127\.0\.0\.1:{port}.*choose another port"
        ):
            peer.wait_ready()
    peer.stop()


def test_settings_survive_being_written(tmp_path: Path) -> None:
    settings = {"roles": ("worker", "settler"), "base": 'a "quoted" \\ näme', "gateway_port": 0, "listen": ()}
    write_settings(tmp_path / "config.toml", settings, "a test")
    config = load_config(tmp_path / "config.toml", environment={})
    assert {name: getattr(config, name) for name in settings} == settings


def test_the_environment_does_not_override_what_a_home_says() -> None:
    environment = {
        "COMMONLORE_BASE": "x",
        "COMMONLORE_CACHE": "/c",
        "COMMONLORE_LOG_LEVEL": "debug",
        "PATH": "p",
    }
    kept = without_settings(environment, ["base", "cache_dir"])
    assert kept == {"COMMONLORE_CACHE": "/c", "COMMONLORE_LOG_LEVEL": "debug", "PATH": "p"}
