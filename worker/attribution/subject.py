"""What is scored, and what a score is. No torch: the node speaks of these too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...protocol.attribution.indexing import projection_seed
from ...protocol.content.manifests import AdapterManifest
from ...protocol.encoding.codec import record_cid
from ...protocol.ids import Cid
from ...protocol.receipts.records import Weight
from .sketch import METHOD, PLAIN_METHOD, WIDTH


@dataclass(frozen=True, slots=True)
class Subject:
    """An adapter whose answers are scored: its id, its early checkpoint's file, its shape, the projection,
    and the file of its curvature factors, if it has published any.
    """

    adapter: Cid
    early: Path
    rank: int
    alpha: int
    targets: tuple[str, ...]
    seed: bytes
    width: int = WIDTH
    curvature: Path | None = None
    beacon: bytes = b""
    base: Cid | None = None
    """Its manifest's; None where the caller answers for it."""

    @property
    def method(self) -> str:
        """As statements name it."""
        return METHOD if self.curvature is not None else PLAIN_METHOD


def subject_of(
    manifest: AdapterManifest, early: Path, curvature: Path | None = None, beacon: bytes = b""
) -> Subject:
    """An adapter under the projection that its id and a later beacon fix.

    `early` and `curvature` are the files of its early checkpoint and of its factors.
    """
    adapter = record_cid(manifest)
    seed = projection_seed(adapter, beacon)
    shape = manifest.rank, manifest.alpha, manifest.targets
    return Subject(adapter, early, *shape, seed, curvature=curvature, beacon=beacon, base=manifest.base)


@dataclass(frozen=True, slots=True)
class Score:
    """An answer's int8 vector, and its contributors' weights in ppm; None where no influence was found."""

    query: bytes
    weights: tuple[Weight, ...] | None
