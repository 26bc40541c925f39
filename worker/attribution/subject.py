"""What is scored, and what a score is. No torch: the node speaks of these too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...protocol.codec import record_cid
from ...protocol.ids import Cid
from ...protocol.manifests import AdapterManifest
from ...protocol.receipts import Weight
from .sketch import WIDTH, sketch_seed


@dataclass(frozen=True, slots=True)
class Subject:
    """An adapter whose answers are scored: its id, its early checkpoint's file, its shape, and the
    projection.
    """

    adapter: Cid
    early: Path
    rank: int
    alpha: int
    targets: tuple[str, ...]
    seed: bytes
    width: int = WIDTH


def subject_of(manifest: AdapterManifest, early: Path, beacon: bytes = b"") -> Subject:
    """An adapter under the projection that its id and a later beacon fix.

    `early` is its early checkpoint's file.
    """
    adapter = record_cid(manifest)
    seed = sketch_seed(adapter, beacon)
    return Subject(adapter, early, manifest.rank, manifest.alpha, manifest.targets, seed)


@dataclass(frozen=True, slots=True)
class Score:
    """An answer's int8 vector, and its contributors' weights in ppm; None where no influence was found."""

    query: bytes
    weights: tuple[Weight, ...] | None
