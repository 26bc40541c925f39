"""Reaching a node for a moment: the one that runs in a home, or one that is started for this visit only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from ...protocol.errors import ConfigError, DeadlineExceeded
from ..config import Config, load_config
from ..gateway.control_client import ControlClient, is_running
from ..home import Home
from .one_machine import running_home
from .processes import PeerProcess

POLL_S = 0.1
ACQUAINTANCE_S, ANNOUNCEMENT_S = 20.0, 5.0
"""How long a node may take to hear of the first worker, and of an adapter after that."""


@contextmanager
def visit(home: Home, flags: Mapping[str, object]) -> Iterator[ControlClient]:
    """The node that runs in `home` (or in the network that `up` keeps there), else one of one's own, with
    these settings, while the block lasts.

    Raises ConfigError when there is nobody to join, and what starting a peer raises.
    """
    running = running_home(home)
    if is_running(running) and not flags.get("bootstrap"):
        with ControlClient(running) as client:
            yield client
        return
    config = load_config(home.config, flags=flags)
    if not config.bootstrap:
        raise ConfigError(
            f"no node runs in {home.path}; start a network with `commonlore up`, or join one with --bootstrap"
        )
    peer = PeerProcess("your peer", home, flags=_as_flags(config))
    try:
        peer.wait_ready()
        with ControlClient(home) as client:
            yield client
    finally:
        peer.stop()


def get_acquainted(client: ControlClient, adapters: Iterable[str] = ()) -> None:
    """Give a node that may have just started time to hear of a worker, and of the adapters by these names.

    An ask afterwards says what is missing, if anything still is.
    """
    with suppress(DeadlineExceeded):
        wait_for("a worker's advert", lambda: bool(client.get("/peers")["workers"]), ACQUAINTANCE_S)
        for adapter in adapters:
            if "/" in adapter:
                wait_for(f"word of {adapter}", lambda: adapter in _aliases(client), ANNOUNCEMENT_S)  # noqa: B023


def wait_for(what: str, holds: Callable[[], bool], patience_s: float) -> None:
    """Return once `holds()`. Raises DeadlineExceeded, naming what did not come."""
    deadline = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > deadline:
            raise DeadlineExceeded(f"waited {patience_s:.0f} s for {what}; is it announced in this network?")
        time.sleep(POLL_S)


def _aliases(client: ControlClient) -> set[str]:
    announced: list[dict[str, Any]] = client.get("/adapters")
    return {adapter["alias"] for adapter in announced}


def _as_flags(config: Config) -> dict[str, str]:
    """The settings that a visit needs, for the command line of its node."""
    given = {"--bootstrap": ",".join(config.bootstrap), "--chain-url": config.chain_url}
    given |= {"--deployment": config.deployment, "--policy": config.policy}
    return {flag: text for flag, text in given.items() if text}
