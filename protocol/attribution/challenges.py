"""Which rows of an index an attributor computes again before it scores by it, and what it says where one is
not its row's gradient.

Rules of this file:

- Nobody but the attributor knows which rows it draws: its lot is of a secret of its own and of the index, so
  an author cannot forge around it, another index is another lot, and the same is drawn again after a restart.
  Rows are taken from the contributors in turn, as what is paid is each one's sum.
- A row that differs beyond the tolerance of `receipt verify --level 2` is named by its place in a statement
  whose method is `prior-challenged` and whose weights are the priors. Such a statement is the challenge: it
  is sealed, it names the index, and it is published where the receipt is paid. It is right exactly where that
  one row, computed again, differs.
- Of two attributors who drew different rows one may challenge and the other not. The priors then divide the
  receipt, whatever the other's scores (`pools.judge`). Who is told of a row computes it, and from then on
  challenges, too, or finds that the challenge is false.
- Where the priors divide anyhow, as scores are unmeasured or not above chance, no row is drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from ..content.manifests import IndexManifest, IndexPlan
from ..ids import Cid, digest_of
from ..receipts.records import AttributionStatement
from .faithfulness import CHALLENGED_METHOD
from .indexing import plan_rows

CHECKED_ROWS = 8
"""Rows that each attributor computes again, once an index (docs/attribution.md: what they cost and show)."""


def draw_rows(secret: bytes, name: Cid, index: IndexManifest, count: int = CHECKED_ROWS) -> list[int]:
    """The places of the rows of an index, of this name, that whoever has this secret computes again. Of an
    index whose integers were checked."""
    seed = hashlib.sha256(b"commonlore/checked/1" + secret + digest_of(name)).digest()
    rows = list(zip(index.owners, index.row_hashes, strict=False))
    places = {digest: at for at, digest in enumerate(index.row_hashes)}
    return [places[digest] for _, digest in plan_rows(rows, IndexPlan(0, count), seed)]


def is_well_put(statement: AttributionStatement) -> bool:
    """Whether a statement names a challenged row just where its method says so, of an index that it names."""
    if statement.method != CHALLENGED_METHOD:
        return statement.challenged is None
    return statement.challenged is not None and statement.index is not None


def count_challenges(statements: Iterable[AttributionStatement]) -> int:
    """How many of them challenge their index."""
    return sum(statement.challenged is not None for statement in statements)
