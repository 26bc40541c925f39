"""How a level 3 audit is carried out: by which base, where what it makes is kept, how much it trains.

Rules of this file: what is made depends on the adapter and not on the receipt, so a folder is an adapter's; a
step of a real base takes seconds, so each is kept, and a stopped audit loses one at most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...protocol.content.manifests import AdapterManifest

if TYPE_CHECKING:
    from ...worker.factory.job import TrainConfig

Progress = Callable[[str, int, int], None]
"""Told what is being made, how much of it is, and all of it: steps, or passes over a row."""


def _silent(_what: str, _done: int, _total: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Audit:
    """`work_dir` is where what was made is kept and a stopped audit goes on; each retraining has `steps` of
    the recipe's at most."""

    base_dir: Path
    work_dir: Path
    steps: int
    progress: Progress = _silent

    def recipe_of(self, manifest: AdapterManifest) -> TrainConfig:
        """By what an adapter is trained again. Raises ConfigError."""
        from ...worker.factory.manifests import config_of

        return replace(config_of(manifest.recipe), checkpoint_every=1)
