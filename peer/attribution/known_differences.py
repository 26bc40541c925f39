"""What a home remembers of index differences: their names by index, and where withdrawn shards' row hashes
are.

Rules of this file: strangers name differences, so how many are remembered is bounded. Where there are too
many those of indexes that are not here give way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ...protocol.attribution.differences import OpenedShard
from ...protocol.encoding.codec import decode_value, encode_value
from ...protocol.ids import Cid, to_cid
from ..store.node_store import Settings

_OPENED, _KNOWN = "withdrawn rows", "index differences"
MAX_KNOWN = 8
"""Differences remembered of an index: more than one where several peers made it, or in their turn."""
MAX_INDEXES = 4_096
"""Indexes of which differences are remembered."""


@dataclass(frozen=True, slots=True)
class KnownDifferences:
    """What a home remembers: names of differences by index, the latest first; by shard, those of the row
    hashes of what was withdrawn."""

    by_index: Mapping[Cid, tuple[Cid, ...]] = field(default_factory=dict[Cid, tuple[Cid, ...]])
    opened: Mapping[Cid, Cid] = field(default_factory=dict[Cid, Cid])


async def known_differences(settings: Settings) -> KnownDifferences:
    """As a home remembers them."""
    by_index, opened = [await _read(settings, name) for name in (_KNOWN, _OPENED)]
    lists = {to_cid(index): cids for index, cids in by_index.items() if isinstance(cids, list)}
    return KnownDifferences(
        {index: tuple(to_cid(cid) for cid in cids if isinstance(cid, str)) for index, cids in lists.items()},
        {to_cid(shard): to_cid(rows) for shard, rows in opened.items() if isinstance(rows, str)},
    )


async def _read(settings: Settings, name: str) -> Mapping[str, object]:
    raw = await settings.get(name)
    found = decode_value(raw, len(raw)) if raw is not None else {}
    return found if isinstance(found, dict) else {}


async def remember_difference(
    settings: Settings, index: Cid, difference: Cid, latest: bool, has: Callable[[Cid], bool]
) -> None:
    """One more of an index; `latest` before the others. Where there are too many indexes one gives way that
    this home does not have."""
    known = dict((await known_differences(settings)).by_index)
    others = tuple(each for each in known.pop(index, ()) if each != difference)
    while len(known) >= MAX_INDEXES:
        del known[next((each for each in known if not has(each)), next(iter(known)))]
    known[index] = ((difference, *others) if latest else (*others, difference))[:MAX_KNOWN]
    await settings.put(_KNOWN, encode_value({key: [*known[key]] for key in sorted(known)}))


async def remember_opened(settings: Settings, opened: OpenedShard) -> None:
    """Where a withdrawn shard's row hashes are."""
    known = dict((await known_differences(settings)).opened) | {opened.shard: opened.rows}
    await settings.put(_OPENED, encode_value({key: known[key] for key in sorted(known)}))
