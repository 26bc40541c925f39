"""Consistent hashing: each peer has a few points on a circle of 2^64, and a key belongs to the peers that its
successors lead to. Source: Karger et al. 1997.

The circle is kept in arcs of a few hundred points, so that a peer that comes or goes moves little memory
however many there are, and whose home is where is looked up anew, so that nothing has to be forgotten then.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from struct import Struct
from typing import Generic, Protocol, TypeVar

from ..protocol.ids import PeerId

RING_POINTS = 8
"""Points of a peer: what one digest of 64 bytes gives."""
HOMES = 8
"""How many homes a key has."""
_ARC = 512


class Peered(Protocol):
    """Whoever has a place on the ring."""

    @property
    def peer(self) -> PeerId: ...


M = TypeVar("M", bound=Peered)


class Ring(Generic[M]):
    """Who is home to which key. `version` counts who came and went."""

    __slots__ = ("_members", "_points", "_tops", "version")

    def __init__(self, members: Iterable[M] = ()) -> None:
        owners = [member for member in members for _ in range(RING_POINTS)]
        points = [point for member in owners[::RING_POINTS] for point in points_of(member.peer)]
        order = sorted(range(len(points)), key=points.__getitem__)
        arcs = [order[at : at + _ARC // 2] for at in range(0, len(order), _ARC // 2)] or [[]]
        self._points = [[points[at] for at in arc] for arc in arcs]
        self._members = [[owners[at] for at in arc] for arc in arcs]
        self._tops = [arc[-1] if arc else 0 for arc in self._points]
        self.version = 0

    def add(self, member: M) -> None:
        """Take a member in that is not there yet."""
        self.version += 1
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
        self.version += 1
        for point in points_of(member.peer):
            arc = self._arc_of(point)
            points, members = self._points[arc], self._members[arc]
            at = members.index(member, bisect_left(points, point))
            del points[at], members[at]
            if points:
                self._tops[arc] = points[-1]
            elif len(self._points) > 1:
                del self._points[arc], self._members[arc], self._tops[arc]

    def homes(self, key: str, count: int = HOMES) -> list[M]:
        """The first `count` different members that `key` meets, fewer where there are fewer."""
        return self.homes_at(hash64(key), count)

    def homes_at(self, point: int, count: int) -> list[M]:
        """The same for a key's place."""
        met: list[M] = []
        for member in self._from(point):
            if member not in met:
                met.append(member)
                if len(met) == count:
                    break
        return met

    def _from(self, point: int) -> Iterator[M]:
        """Every point's member once round, beginning with the first at or after `point`."""
        first = self._arc_of(point)
        at = bisect_left(self._points[first], point)
        members = self._members[first]
        yield from members[at : at + HOMES]
        yield from members[at + HOMES :]
        for step in range(1, len(self._members)):
            yield from self._members[(first + step) % len(self._members)]
        yield from members[:at]

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


def points_of(peer: PeerId) -> tuple[int, ...]:
    """The places of a peer."""
    return _EIGHT.unpack(blake2b(peer.encode(), digest_size=8 * RING_POINTS).digest())


_EIGHT = Struct(f">{RING_POINTS}Q")
