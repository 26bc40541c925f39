"""Real processes on loopback: a chain, peers with homes of their own, the tiny base in fp32."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from commonlore.peer.local_network import LocalNetwork, NetworkPlan, PeerPlan, open_network
from commonlore.worker.models.cache import set_name
from commonlore.worker.models.tiny import build_tiny

WORKER = {"roles": ("worker",), "step_tokens": 16, "threads": 1}


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the tiny base under the name `tiny`."""
    folder = tmp_path_factory.mktemp("cache")
    set_name(folder, "tiny", build_tiny(folder).id)
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[LocalNetwork]:
    """A bootstrap peer, two workers and a contributor; `client` and `late` are planned but not started."""
    settings = {"base": "tiny", "precision": "fp32", "cache_dir": str(cache), "settle_interval_s": 3600}
    peers = (
        PeerPlan("bootstrap", {"roles": ("bootstrap",)}),
        PeerPlan("worker-1", WORKER),
        PeerPlan("worker-2", WORKER),
        PeerPlan("contributor", {"roles": ("contributor",)}),
    )
    with open_network(NetworkPlan(tmp_path_factory.mktemp("net"), peers, settings)) as running:
        yield running
