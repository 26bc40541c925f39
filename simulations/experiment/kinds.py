"""What can be simulated: each kind has its configuration, its run, and what is drawn of it.

A kind's module is imported when it is asked for, since some need scipy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from ...protocol.errors import MissingDependency
from .figures import Figures
from .tables import WrongKey

Scalar = int | float | str
Columns = Mapping[str, list[Any]]

KINDS = {
    "service": "service",
    "gossip": "gossip",
    "attack": "attack",
    "attribution": "payouts",
    "audit": "auditing",
    "training": "training",
    "calibration": "calibration",
}
"""The kinds by name, and the modules that hold them as KIND."""
STUDIES = f"{__package__.rpartition('.')[0]}.studies"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One arm with one seed: a row of figures, and tables by name, each a dictionary of columns.

    `events` says how much was computed, in the kind's own measure.
    """

    summary: Mapping[str, Scalar]
    tables: Mapping[str, Columns]
    events: int = 0


def _unchecked(_config: Any) -> None:
    """Every value within its bounds will do."""


def _unlocated(config: Any, _folder: Path) -> Any:
    """It names no files."""
    return config


def _without_files(_config: Any) -> tuple[str, ...]:
    """It reads no files."""
    return ()


def _plain_label(_config: Any) -> str:
    return "as written"


def _modelled(_config: Any) -> bool:
    """No peer of it is real."""
    return False


@dataclass(frozen=True, slots=True)
class Kind:
    """`run(config, seed)` is pure: the same outcome wherever and whenever it runs. `check` raises WrongKey;
    `locate` makes the file names in a configuration absolute, `inputs` lists them; `columns` are what a
    terminal shows; `real` says whether the code of real peers runs, `packages` are those beside numpy that
    decide results."""

    name: str
    config: type
    run: Callable[[Any, int], Outcome]
    figures: Figures
    columns: tuple[str, ...]
    check: Callable[[Any], None] = _unchecked
    locate: Callable[[Any, Path], Any] = _unlocated
    inputs: Callable[[Any], tuple[str, ...]] = _without_files
    label: Callable[[Any], str] = _plain_label
    real: Callable[[Any], bool] = _modelled
    packages: tuple[str, ...] = ()


def kind_of(name: str) -> Kind:
    """The kind of that name. Raises WrongKey; MissingDependency where it needs a package that is missing."""
    if name not in KINDS:
        raise WrongKey("kind", f"unknown kind {name!r}; choose one of: {', '.join(KINDS)}")
    try:
        return cast(Kind, import_module(f"{STUDIES}.{KINDS[name]}").KIND)
    except ImportError as error:
        if error.name and error.name.startswith("commonlore"):
            raise
        raise MissingDependency(
            f"simulations of kind {name} need {error.name}: pip install 'commonlore[simulate]'"
        ) from error
