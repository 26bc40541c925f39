"""The network that `commonlore up` keeps on one machine: a bootstrap peer, workers, and the peer that is
yours.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..contracts.deployment import Terms
from .config import Config
from .home import Home
from .local_network import NetworkPlan, PeerPlan

FOLDER = "local"
YOURS = "you"
BOOTSTRAP = "bootstrap"
DEPOSIT = 10**12
"""Token units put into escrow for your asks: an answer of 200 tokens costs about 1,000."""
TERMS = Terms(epoch_length=600, window=300)
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
        PeerPlan(f"worker-{number}", {"roles": ("worker", "settler"), "threads": threads})
        for number in range(1, wanted.workers + 1)
    )
    yours = PeerPlan(
        YOURS, {"roles": ("contributor", "gateway"), "gateway_port": wanted.gateway_port}, deposit=DEPOSIT
    )
    peers = (PeerPlan(BOOTSTRAP, {"roles": ("bootstrap",)}), *workers, yours)
    return NetworkPlan(root_of(home), peers, shared | {"log_level": config.log_level}, TERMS)


def running_home(home: Home) -> Home:
    """The home whose node answers here: this one, else yours of the network that `up` keeps in it."""
    yours = Home(root_of(home) / YOURS)
    return yours if not home.control_socket.exists() and yours.control_socket.exists() else home
