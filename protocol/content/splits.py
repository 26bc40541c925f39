"""How a price is divided among the roles, in basis points, and what a network allows."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..errors import RemoteProtocolError
from .manifests import Split

BASIS_POINTS = 10_000

DEFAULT_SPLIT = Split(platform=500, worker=3000, author=1500, work_pool=1000, contributors=4000)
OPENLEDGER_SPLIT = Split(platform=1000, worker=0, author=2000, work_pool=2000, contributors=5000)
"""OpenLedger's published division: its model share is the author's, its stakers' share the work pool's."""
BASE_SPLIT = Split(platform=500, worker=8500, author=0, work_pool=1000, contributors=0)
"""For answers without an adapter."""


@dataclass(frozen=True, slots=True)
class SplitBounds:
    """The least and the most of each share, in basis points: chosen at deployment, held by the Registry."""

    lowest: Split
    highest: Split


SPLIT_BOUNDS = SplitBounds(
    Split(platform=0, worker=0, author=0, work_pool=0, contributors=0),
    Split(platform=1_000, worker=9_500, author=5_000, work_pool=2_000, contributors=10_000),
)
"""Those of a network unless its Registry says otherwise: the platform never takes more than a tenth."""


def parts_of(split: Split) -> tuple[int, ...]:
    """In the roles' order: platform, worker, author, work pool, contributors."""
    return (split.platform, split.worker, split.author, split.work_pool, split.contributors)


def check_split(split: Split) -> None:
    """Raises RemoteProtocolError unless the five parts make 10,000 basis points."""
    if (whole := sum(parts_of(split))) != BASIS_POINTS:
        raise RemoteProtocolError(f"a split adds up to {whole} basis points; it must be {BASIS_POINTS}")


def check_split_bounds(split: Split, bounds: SplitBounds = SPLIT_BOUNDS) -> None:
    """Raises RemoteProtocolError unless the parts make a whole and each lies within the bounds."""
    check_split(split)
    for share in fields(Split):
        part, least, most = (getattr(each, share.name) for each in (split, bounds.lowest, bounds.highest))
        if not least <= part <= most:
            raise RemoteProtocolError(
                f"a split gives {part} basis points to {share.name}; this network allows {least} to {most}"
            )
