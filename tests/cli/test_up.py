"""`up` before it starts anything: what stands in its way is said at once."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from commonlore.peer.home import Home
from commonlore.peer.local.one_machine import alone


def test_a_second_network_in_a_home_is_refused_with_what_to_do(lore, home: Path) -> None:
    with alone(Home(home).create()):
        refused = lore("up", "--base", "tiny", "--gateway-port", "0")
    assert refused.exit_code == 1
    assert refused.stderr == (
        f"error: a network runs in {home} already (process {os.getpid()}): ask it with `commonlore ask`, "
        "end it with Ctrl-C where it was started, or start this one with its own --home\n"
    )
    with alone(Home(home)):
        pass  # it ended: the home is free again


def test_a_port_that_is_taken_is_found_before_anything_is_started(lore, home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        refused = lore("up", "--base", "tiny", "--gateway-port", str(port))
    assert refused.exit_code == 1
    assert refused.stderr == (
        f"error: the gateway cannot listen on 127.0.0.1:{port}: Address already in use; "
        "choose another port with --gateway-port (0 takes a free one)\n"
    )
    assert not (home / "local" / "chain.state").exists()
    assert lore("up", "--gateway-port", "65536").exit_code == 2
