"""The network that `commonlore up` keeps on one machine: a bootstrap peer, workers, and the peer that is
yours.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...contracts.deploying.deployment import Terms
from ...protocol.errors import ConfigError
from ..config import Config
from ..home import PRIVATE_FILE, PRIVATE_FOLDER, Home
from .local_network import POT_PER_BOND, WORKER_BOND, NetworkPlan, PeerPlan

FOLDER = "local"
YOURS = "you"
BOOTSTRAP = "bootstrap"
DEPOSIT = 10**12
"""Token units put into escrow for your asks: an answer of 200 tokens costs about 1,000."""
TERMS = Terms(epoch_length=600, window=300, minimum_bond=WORKER_BOND, pot_per_bond=POT_PER_BOND)
"""Short epochs, so that what was earned can be claimed within half an hour."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person may choose."""

    workers: int = 1
    gateway_port: int = 8080


def root_of(home: Home) -> Path:
    """Where the network of this home lives."""
    return home.path / FOLDER


def plan_one_machine(home: Home, config: Config, wanted: Wanted) -> NetworkPlan:
    """The network of `home`; `config` gives the base, its precision and the cache."""
    shared = {"base": config.base, "precision": config.precision, "cache_dir": config.cache_dir}
    threads = config.threads or max(1, (os.cpu_count() or 1) // max(1, wanted.workers))
    workers = (
        PeerPlan(f"worker-{number}", {"roles": ("worker", "settler"), "threads": threads}, bond=WORKER_BOND)
        for number in range(1, wanted.workers + 1)
    )
    yours = PeerPlan(
        YOURS, {"roles": ("contributor", "gateway"), "gateway_port": wanted.gateway_port}, deposit=DEPOSIT
    )
    peers = (PeerPlan(BOOTSTRAP, {"roles": ("bootstrap",)}), *workers, yours)
    return NetworkPlan(root_of(home), peers, shared | {"log_level": config.log_level}, TERMS)


@contextmanager
def alone(home: Home) -> Iterator[None]:
    """One network at a time in a home: the kernel drops the hold with the process.

    Raises ConfigError, naming the process that has it.
    """
    root = root_of(home)
    root.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
    descriptor = os.open(root / "network.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        _take(descriptor, home)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, home: Home) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        raise ConfigError(
            f"a network runs in {home.path} already (process {holder}): ask it with `commonlore ask`, end it "
            "with Ctrl-C where it was started, or start this one with its own --home"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def why_no_port(host: str, port: int) -> str | None:
    """Why nobody can listen there now; None where it is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            return getattr(error, "strerror", None) or str(error)
    return None


def require_gateway_port(port: int) -> None:
    """Before anything is started for it. Raises ConfigError."""
    host = Config().gateway_host
    if (reason := why_no_port(host, port)) is not None:
        raise ConfigError(
            f"the gateway cannot listen on {host}:{port}: {reason}; choose another port with --gateway-port "
            "(0 takes a free one)"
        )


def running_home(home: Home) -> Home:
    """The home whose node answers here: this one, else yours of the network that `up` keeps in it."""
    yours = Home(root_of(home) / YOURS)
    return yours if not _has_socket(home) and _has_socket(yours) else home


def remembering_home(home: Home) -> Home:
    """The home whose node answers here, else one in which a node has run, be it yours of its network."""
    found, yours = running_home(home), Home(root_of(home) / YOURS)
    return yours if not found.store.exists() and yours.store.exists() else found


def _has_socket(home: Home) -> bool:
    try:
        return home.control_socket.exists()
    except ConfigError:  # too long a path for one: no node can run there
        return False
