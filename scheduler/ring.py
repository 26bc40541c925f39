"""Consistent hashing: each peer has a few points on a circle of 2^64, and a key belongs to the peers that its
successors lead to. Source: Karger et al. 1997.

The circle is kept in arcs of a few hundred points, so that a peer that comes or goes moves little memory
however many there are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Generic, Protocol, TypeVar

from ..protocol.ids import PeerId

RING_POINTS = 8
"""Points of a peer: what one digest of 64 bytes gives."""
HOMES = 8
"""How many homes of a key are kept ready."""
_ARC = 512
_MAX_KEPT = 1 << 16


class Peered(Protocol):
    """Whoever has a place on the ring."""

    @property
    def peer(self) -> PeerId: ...


M = TypeVar("M", bound=Peered)


class Ring(Generic[M]):
    """Who is home to which key. What was looked up is kept until somebody comes or goes."""

    __slots__ = ("_homes", "_members", "_points", "_tops")

    def __init__(self, members: Iterable[M] = ()) -> None:
        placed = sorted(
            ((point, member) for member in members for point in points_of(member.peer)),
            key=lambda pair: pair[0],
        )
        arcs = [placed[at : at + _ARC // 2] for at in range(0, len(placed), _ARC // 2)] or [[]]
        self._points = [[point for point, _ in arc] for arc in arcs]
        self._members = [[member for _, member in arc] for arc in arcs]
        self._tops = [arc[-1] if arc else 0 for arc in self._points]
        self._homes: dict[str, list[M]] = {}

    def add(self, member: M) -> None:
        """Take a member in that is not there yet."""
        self._homes.clear()
        for point in points_of(member.peer):
            arc = self._arc_of(point)
            points, members = self._points[arc], self._members[arc]
            at = bisect_left(points, point)
            points.insert(at, point)
            members.insert(at, member)
            self._tops[arc] = points[-1]
            if len(points) > _ARC:
                self._split(arc)

    def discard(self, member: M) -> None:
        """Let a member go that is there."""
        self._homes.clear()
        for point in points_of(member.peer):
            arc = self._arc_of(point)
            points, members = self._points[arc], self._members[arc]
            at = members.index(member, bisect_left(points, point))
            del points[at], members[at]
            if points:
                self._tops[arc] = points[-1]
            elif len(self._points) > 1:
                del self._points[arc], self._members[arc], self._tops[arc]

    def homes(self, key: str) -> list[M]:
        """The first `HOMES` different members that `key` meets, fewer where there are fewer: read it only."""
        homes = self._homes.get(key)
        if homes is None:
            if len(self._homes) >= _MAX_KEPT:
                self._homes.clear()
            homes = self._homes[key] = self._walk(key)
        return homes

    def _walk(self, key: str) -> list[M]:
        met: dict[M, None] = {}
        for member in self._from(hash64(key)):
            met[member] = None
            if len(met) == HOMES:
                break
        return list(met)

    def _from(self, point: int) -> Iterator[M]:
        """Every point's member once round, beginning with the first at or after `point`."""
        first = self._arc_of(point)
        at = bisect_left(self._points[first], point)
        yield from self._members[first][at:]
        for step in range(1, len(self._members)):
            yield from self._members[(first + step) % len(self._members)]
        yield from self._members[first][:at]

    def _arc_of(self, point: int) -> int:
        """The arc that `point` lies in; beyond the last point, the last."""
        return min(bisect_left(self._tops, point), len(self._tops) - 1)

    def _split(self, arc: int) -> None:
        points, members = self._points[arc], self._members[arc]
        half = len(points) // 2
        self._points[arc : arc + 1] = [points[:half], points[half:]]
        self._members[arc : arc + 1] = [members[:half], members[half:]]
        self._tops[arc : arc + 1] = [points[half - 1], points[-1]]


def hash64(text: str) -> int:
    """A place on the circle."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def points_of(peer: PeerId) -> list[int]:
    """The places of a peer."""
    digest = blake2b(peer.encode(), digest_size=8 * RING_POINTS).digest()
    return [int.from_bytes(digest[at : at + 8], "big") for at in range(0, len(digest), 8)]
