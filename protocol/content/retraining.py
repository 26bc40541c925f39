"""What an adapter answers that was trained again because rows were taken back.

Rules of this file: the old adapters are the author's own, and each learnt from one of the shards at least;
the new one learnt from none. It is no parent of theirs: nobody earns through it for what was taken back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from ..encoding.fields import Size
from ..ids import Cid


@dataclass(frozen=True, slots=True)
class Retrained:
    """`adapters` learnt from `shards`, which their contributors withdrew; whoever names this did not."""

    adapters: Annotated[tuple[Cid, ...], Size(1, 64)]
    shards: Annotated[tuple[Cid, ...], Size(1, 1024)]


def is_without(retrained: Retrained, learnt_from: Iterable[Cid]) -> bool:
    """Whether an adapter that learnt from these shards is trained without the withdrawn ones, as it says."""
    return set(retrained.shards).isdisjoint(learnt_from)
