"""The code that decides a result, as one digest."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from .scenario import Experiment

ROOMS = ("protocol", "scheduler", "simulations")
REAL_ROOMS = ("peer", "worker")
"""What runs beside them where peers are real."""


def code_digest(experiment: Experiment) -> str:
    """The sha-256 over the sources that decide an experiment's results."""
    real = experiment.kind.real
    rooms = (*ROOMS, *REAL_ROOMS) if any(real(arm.written) for arm in experiment.arms) else ROOMS
    return _digest(rooms)


@cache
def _digest(rooms: tuple[str, ...]) -> str:
    digest, package = hashlib.sha256(), Path(__file__).parent.parent
    for room in rooms:
        for path in sorted((package / room).rglob("*.py")):
            name = path.relative_to(package).as_posix()
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
