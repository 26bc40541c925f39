"""The code that decides a result, as one digest."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .scenario import Experiment

PACKAGE = Path(__file__).parent.parent
ROOMS = ("protocol", "scheduler", "simulations")
REAL_ROOMS = ("peer", "worker")
"""What runs beside them where peers are real."""


def code_digest(experiment: Experiment) -> str:
    """The sha-256 over the sources that decide an experiment's results."""
    real = experiment.kind.real
    rooms = (*ROOMS, *REAL_ROOMS) if any(real(arm.written) for arm in experiment.arms) else ROOMS
    return rooms_digest(rooms)


@cache
def rooms_digest(rooms: tuple[str, ...] = ROOMS) -> str:
    """The sha-256 over the sources of these rooms."""
    digest = hashlib.sha256()
    for room in rooms:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            name = path.relative_to(PACKAGE).as_posix()
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
