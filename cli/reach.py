"""The node that a command talks to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .options import home_at

if TYPE_CHECKING:
    from ..peer.gateway.control_client import ControlClient


@contextmanager
def node_of(home: Path | None) -> Iterator[ControlClient]:
    """The node that runs in a home, or in the network that `up` keeps there. Raises Unreachable."""
    from ..peer.gateway.control_client import ControlClient
    from ..peer.local.one_machine import running_home

    with ControlClient(running_home(home_at(home))) as client:
        yield client
