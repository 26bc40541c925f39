"""What became of the rows of an adapter's Datanets before it was trained, as a record that its manifest
names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..encoding.fields import U16, Hash32, Label, Name, Size
from .manifests import MAX_ROWS_PER_SHARD

MAX_SELECTION_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class DroppedRow:
    """A row that was neither trained on nor scored. `row` and `original`, the earlier row that it resembles,
    are row hashes; `likeness` is in thousandths (see `copies`).
    """

    row: Hash32
    kind: Name
    original: Hash32
    likeness: U16


@dataclass(frozen=True, slots=True)
class RowSelection:
    """What became of an adapter's rows under `rule`: whoever holds the Datanets can select again."""

    rule: Label
    dropped: Annotated[tuple[DroppedRow, ...], Size(0, 4_096 * MAX_ROWS_PER_SHARD)]
