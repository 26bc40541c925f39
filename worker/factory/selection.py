"""Which rows of Datanets are trained on and scored: those that are no copies of earlier ones.

Rules of this file:
- The order is that of commitments: Datanets as the order names them; shards as their version lists them,
  which is the order in which they joined it (whoever pulls a version holds it to that); rows as their shard
  commits them. A shard commits its rows by a salted root before anybody can read them.
- What was dropped, why, and for which row, is a record that the adapter's manifest names: whoever holds the
  rows selects again and compares (`select_again`). Which contributors were refused as noise is the author's
  word, and always all of a contributor's rows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ...protocol.content.copies import RULE, Representatives
from ...protocol.content.manifests import Row
from ...protocol.content.rows import row_hash
from ...protocol.content.selections import DroppedRow, RowSelection
from ...protocol.errors import RemoteProtocolError
from ...protocol.ids import Address
from ..attribution.index import OwnedRow

NOISE = "noise"
"""The kind of a row that an admission test refused (see `admission`): it resembles no other."""


@dataclass(frozen=True, slots=True)
class OwnedShard:
    """One contributor's rows, committed together."""

    payee: Address
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Selected:
    """The rows that count, in the order of commitments, and the record of those that do not."""

    rows: tuple[OwnedRow, ...]
    record: RowSelection

    def owners(self) -> tuple[Address, ...]:
        """Whose rows count, in the order of their first."""
        return tuple(dict.fromkeys(owned.payee for owned in self.rows))

    def refuse(self, owners: Collection[Address]) -> Selected:
        """The rest, where some contributors' rows were found to be noise."""
        out = [row_hash(owned.row) for owned in self.rows if owned.payee in owners]
        noise = tuple(DroppedRow(digest, NOISE, digest, 0) for digest in out)
        kept = tuple(owned for owned in self.rows if owned.payee not in owners)
        return Selected(kept, RowSelection(self.record.rule, (*self.record.dropped, *noise)))

    def counted(self) -> list[tuple[Address, bytes]]:
        """The rows that count by their hashes, each behind its contributor's account."""
        return [(owned.payee, row_hash(owned.row)) for owned in self.rows]

    def dropped_by_kind(self) -> dict[str, int]:
        """How many rows were dropped, for each reason."""
        kinds = [row.kind for row in self.record.dropped]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def text_of(row: Row) -> str:
    """What of a row is compared with others."""
    return f"{row.question}\n{row.answer}"


def select_rows(shards: Sequence[OwnedShard]) -> Selected:
    """Judge every row against the earlier ones; shards in the order of their commitments."""
    pool = Representatives()
    kept: list[OwnedRow] = []
    dropped: list[DroppedRow] = []
    for shard in shards:
        verdicts = {found.position: found for found in pool.admit(shard.payee, [*map(text_of, shard.rows)])}
        kept += [OwnedRow(shard.payee, row) for at, row in enumerate(shard.rows) if at not in verdicts]
        for at, found in verdicts.items():
            original = row_hash(kept[found.original].row)
            dropped.append(DroppedRow(row_hash(shard.rows[at]), found.kind.value, original, found.likeness))
    return Selected(tuple(kept), RowSelection(RULE, tuple(dropped)))


def select_again(shards: Sequence[OwnedShard], record: RowSelection) -> Selected:
    """The rows that count by a published record. Raises RemoteProtocolError unless selecting them here gives
    that record."""
    noise = {dropped.row for dropped in record.dropped if dropped.kind == NOISE}
    selected = select_rows(shards)
    refused = {payee for payee, digest in selected.counted() if digest in noise}
    found = selected.refuse(refused) if refused else selected
    if found.record != record:
        raise RemoteProtocolError(
            f"the rows that its author dropped ({len(record.dropped)}) are not those that the rule drops "
            f"({len(found.record.dropped)})"
        )
    return found
