"""`doctor`: what it finds, and that it says what to do."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from commonlore.peer.config import Config
from commonlore.peer.home import Home
from commonlore.peer.local.doctor import (
    State,
    check_bootstrap,
    check_chain,
    check_engine,
    check_memory,
    check_port,
    settlement_of_node,
)
from commonlore.protocol.errors import CommonloreError
from commonlore.worker.engine.native import library


def test_a_healthy_machine(lore) -> None:
    found = lore("doctor", "--json")
    by_subject = {finding["subject"]: finding for finding in json.loads(found.stdout)}
    assert by_subject["python"]["state"] == "ok"
    assert by_subject["libp2p"]["state"] == "ok"
    assert by_subject["node"]["found"] == "not running"
    assert by_subject["base model"]["remedy"] == "for a worker, run: commonlore base add starter"
    assert found.exit_code == int(any(f["state"] == "wrong" for f in by_subject.values()))


def subjects(lore, *words: str) -> dict[str, dict[str, str]]:
    return {finding["subject"]: finding for finding in json.loads(lore("doctor", "--json", *words).stdout)}


def test_it_agrees_with_the_node_that_runs(lore, running) -> None:
    found = subjects(lore)
    assert found["node"]["found"].startswith("running in ")
    assert (found["chain"]["state"], found["chain"]["found"][:20]) == ("missing", "the running node has")
    running.actions.chain = "http://127.0.0.1:8545"
    assert subjects(lore)["chain"]["found"] == (
        "http://127.0.0.1:8545, in epoch 3, as the running node sees it"
    )


def test_the_port_of_its_own_gateway_is_in_order() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        config = Config(gateway_port=server.getsockname()[1])
        own = check_port(config, {"roles": ["contributor", "gateway"]})
        foreign = check_port(config, {"roles": ["worker"]})
    assert (own.state, foreign.state) == (State.OK, State.MISSING)
    assert "is where the running node's gateway listens" in own.found
    assert "--gateway-port" in foreign.remedy


def test_the_network_that_up_keeps_in_a_home_is_looked_at(lore, home: Path) -> None:
    yours = Home(home / "local" / "you").create()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(yours.control_socket))
        listening.listen()
        assert subjects(lore)["home"]["found"] == str(yours.path)


@pytest.mark.parametrize(
    ("place", "complaint"),
    [("file", "is not a folder"), ("file/deeper", "is not a folder"), ("foreign", "holds other things")],
)
def test_what_cannot_be_a_home(lore, tmp_path: Path, place: str, complaint: str) -> None:
    (tmp_path / "file").write_text("root:x:0")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "photo.jpg").write_bytes(b"")
    found = lore("doctor", "--home", str(tmp_path / place))
    assert found.exit_code == 1
    assert f"!!  home             {tmp_path}" in found.stdout
    assert complaint in found.stdout
    assert "→ name a" in found.stdout


def test_a_path_that_is_too_long_for_a_socket(lore, tmp_path: Path) -> None:
    found = lore("doctor", "--home", str(tmp_path / ("x" * 100)))
    assert "too long for a socket" in found.stdout


def test_which_engine_a_worker_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(library.SWITCH, raising=False)
    monkeypatch.setattr(library, "processor_flags", lambda: frozenset(library.NEEDED))
    compiler = tmp_path / "g++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = check_engine(Config())
    assert (found.state, found.remedy) == (State.OK, "")
    assert found.found.endswith(f"built with {compiler}")
    compiler.unlink()
    lacking = check_engine(Config())
    assert lacking.state is State.MISSING
    assert lacking.remedy.endswith("sudo apt-get install -y g++")
    monkeypatch.setattr(library, "processor_flags", frozenset)
    old = check_engine(Config())
    assert old.state is State.OK
    assert "this processor lacks avx512f" in old.found
    assert "not fp32" in check_engine(Config(precision="fp32")).found


def test_it_loads_no_torch() -> None:
    program = (
        "import sys; from commonlore.peer.local.doctor import *; "
        "check_engine(Config()); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_wrong_configuration_is_named(lore, home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("gatewayport = 1\n")
    found = lore("doctor")
    assert found.exit_code == 1
    assert "unknown setting 'gatewayport'" in found.stdout
    assert "did you mean gateway_port" in found.stdout


def test_little_memory(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 8000000 kB\nMemAvailable:  524288 kB\n")
    found = check_memory(meminfo)
    assert (found.state, found.found) == (State.WRONG, "0.5 GiB available")
    assert "2.0 GiB" in found.remedy


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = check_port(Config(gateway_port=port))
    assert found.state is State.MISSING
    assert f"127.0.0.1:{port} cannot be used" in found.found


def test_an_unreachable_bootstrap_peer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        address = f"/ip4/127.0.0.1/tcp/{port}/p2p/12D3KooW"
        (reached,) = check_bootstrap(Config(bootstrap=(address,)))
    (refused, ill_formed) = check_bootstrap(Config(bootstrap=(address, "127.0.0.1:80")))
    assert [reached.state, refused.state, ill_formed.state] == [State.OK, State.WRONG, State.WRONG]
    assert "Connection refused" in refused.found
    assert "/ip4/ADDRESS/tcp/PORT/p2p/PEER-ID" in ill_formed.remedy


def test_a_chain_without_its_deployment() -> None:
    found = check_chain(Config(chain_url="http://127.0.0.1:1"))
    assert found.state is State.WRONG
    assert not issubclass(type(found), CommonloreError)
    assert "deployment" in found.found


@pytest.mark.parametrize(
    ("waiting_for", "failures", "state"),
    [
        ("", 0, State.OK),
        ("payer 0x01 has 5 units too little in escrow", 0, State.MISSING),
        ("post: gas costs 40 gwei, and this node pays 10 at most", 3, State.WRONG),
    ],
)
def test_what_settlement_waits_for(waiting_for: str, failures: int, state: State) -> None:
    found = settlement_of_node({"waiting_for": waiting_for, "failures": failures})
    assert (found.state, found.found) == (state, waiting_for or "up to date")
