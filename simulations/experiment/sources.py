"""What decides a result beside its scenario: code, as one digest, and the versions of what it runs on."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .scenario import Experiment

PACKAGE = Path(__file__).parents[2]
ROOMS = ("protocol", "scheduler", "simulations")
REAL_ROOMS = ("peer", "worker")
"""What runs beside them where peers are real."""


VERSIONED = ("python", "numpy", "scipy", "trio")
"""What `versions_of` may name."""


def versions_of(experiment: Experiment) -> dict[str, str]:
    """The versions of Python and of the packages that decide an experiment's results."""
    packages = ["numpy", *experiment.kind.packages, *(["trio"] if _is_real(experiment) else [])]
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def code_digest(experiment: Experiment) -> str:
    """The sha-256 over the sources that decide an experiment's results."""
    return rooms_digest((*ROOMS, *REAL_ROOMS) if _is_real(experiment) else ROOMS)


def _is_real(experiment: Experiment) -> bool:
    return any(experiment.kind.real(arm.written) for arm in experiment.arms)


@cache
def rooms_digest(rooms: tuple[str, ...] = ROOMS) -> str:
    """The sha-256 over the sources of these rooms."""
    digest = hashlib.sha256()
    for room in rooms:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            name = path.relative_to(PACKAGE).as_posix()
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
