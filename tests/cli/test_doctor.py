"""`doctor`: what it finds, and that it says what to do."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from commonlore.peer.config import Config
from commonlore.peer.doctor import State, check_bootstrap, check_chain, check_memory, check_port
from commonlore.protocol.errors import CommonloreError


def test_a_healthy_machine(lore) -> None:
    found = lore("doctor", "--json")
    by_subject = {finding["subject"]: finding for finding in json.loads(found.stdout)}
    assert by_subject["python"]["state"] == "ok"
    assert by_subject["libp2p"]["state"] == "ok"
    assert by_subject["node"]["found"] == "not running"
    assert by_subject["base model"]["remedy"] == "for a worker, run: commonlore base add starter"
    assert found.exit_code == int(any(f["state"] == "wrong" for f in by_subject.values()))


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
