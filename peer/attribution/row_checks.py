"""Rows of an index, computed again by who is about to score by it.

Rules of this file: which rows follows from a secret that this home drew once and keeps, so that no author
knows them and a node that was started anew draws the same. What was found of an index is kept as well, and
looked for once. Before any row the integers are looked at: that the index's sums are those of its rows.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import trio

from ...protocol.attribution.challenges import draw_rows
from ...protocol.content.manifests import IndexManifest, Row
from ...protocol.errors import RemoteProtocolError
from ...protocol.ids import Cid
from ...worker.attribution.process import AttributionProcess
from ..datanets.shards import PulledDatanet
from ..node import Node
from .index_evidence import rows_path
from .index_rows import committed_rows

log = logging.getLogger("commonlore.peer.attribution.row_checks")
SECRET = "attribution/checked rows"
FOUND = "attribution/checked index/"
"""Of an index, by its id: empty where no row that was computed differs, else the place of one, 4 bytes."""


@dataclass(frozen=True, slots=True)
class NamedIndex:
    """An index that a scoring process uses, by its id, and the Datanets that its rows are of."""

    name: Cid
    index: IndexManifest
    datanets: Sequence[PulledDatanet]


class RowChecks:
    """What one attributor found of the rows of indexes."""

    def __init__(self, node: Node, scorer: AttributionProcess) -> None:
        self._node = node
        self._scorer = scorer

    async def challenged(self, found: NamedIndex) -> int | None:
        """The place of a row that is not its row's gradient, out of those that this attributor draws or was
        told of; None where there is none. Computes them where it has not yet.

        Raises RemoteProtocolError where the index's integers are wrong, NotFound, Unreachable,
        AttributionFailed.
        """
        kept = await self._node.store.settings.get(FOUND + found.name)
        if kept is not None:
            return int.from_bytes(kept, "big") if kept else None
        path = await rows_path(self._node.content, found.index)
        await self._scorer.check_index(found.index.adapter, path)
        rows = await _rows_of(found.datanets)
        drawn = draw_rows(await self._secret(), found.name, found.index)
        for position in drawn:
            if await self._differs(found, rows, position):
                return await self._keep(found, position)
        await self._node.store.settings.put(FOUND + found.name, b"")
        log.info("%d of %d rows of index %s are what they say", len(drawn), found.index.row_count, found.name)
        return None

    async def is_challenged(self, found: NamedIndex, position: int) -> bool:
        """Whether a row that somebody named is not its row's gradient, which is then kept.

        Raises RemoteProtocolError where the index has no such row, NotFound, Unreachable, AttributionFailed.
        """
        if position >= found.index.row_count:
            raise RemoteProtocolError(f"index {found.name} has {found.index.row_count} rows, none {position}")
        if not await self._differs(found, await _rows_of(found.datanets), position):
            return False
        await self._keep(found, position)
        return True

    async def _differs(self, found: NamedIndex, rows: Mapping[bytes, Row], position: int) -> bool:
        """Nobody can compute a row that is nowhere to be had: it differs from nothing."""
        row = rows.get(found.index.row_hashes[position])
        if row is None:
            return False
        path = await rows_path(self._node.content, found.index)
        return not await self._scorer.recheck_row(found.index.adapter, path, position, row)

    async def _keep(self, found: NamedIndex, position: int) -> int:
        log.warning(
            "row %d of index %s of adapter %s is not its row's gradient: nothing is scored by that index",
            *(position, found.name, found.index.adapter),
        )
        await self._node.store.settings.put(FOUND + found.name, position.to_bytes(4, "big"))
        return position

    async def _secret(self) -> bytes:
        kept = await self._node.store.settings.get(SECRET)
        if kept is None:
            kept = secrets.token_bytes(32)
            await self._node.store.settings.put(SECRET, kept)
        return kept


async def _rows_of(datanets: Sequence[PulledDatanet]) -> dict[bytes, Row]:
    known = await trio.to_thread.run_sync(committed_rows, datanets)
    return {digest: row for digest, (_, row) in known.items()}
