"""Sets of peers that can be drawn from in O(1), and a consistent-hashing ring.

Their order follows from events, not hashes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from hashlib import blake2b

from ..protocol.ids import PeerId

RING_POINTS = 8


class Pool:
    """A set of peers with a fixed order and O(1) add, discard and indexing."""

    __slots__ = ("_at", "_peers")

    def __init__(self) -> None:
        self._peers: list[PeerId] = []
        self._at: dict[PeerId, int] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def __getitem__(self, index: int) -> PeerId:
        return self._peers[index]

    def __iter__(self) -> Iterator[PeerId]:
        return iter(self._peers)

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self._at

    def add(self, peer: PeerId) -> None:
        if peer not in self._at:
            self._at[peer] = len(self._peers)
            self._peers.append(peer)

    def discard(self, peer: PeerId) -> None:
        """Remove `peer`; the last one takes its place."""
        at = self._at.pop(peer, None)
        if at is None:
            return
        last = self._peers.pop()
        if last != peer:
            self._peers[at] = last
            self._at[last] = at


class Ring:
    """Consistent hashing: `RING_POINTS` points a peer on a circle of 2^64."""

    __slots__ = ("_points",)

    def __init__(self, peers: Pool) -> None:
        self._points = sorted(point for peer in peers for point in _points_of(peer))

    def add(self, peer: PeerId) -> None:
        for point in _points_of(peer):
            insort(self._points, point)

    def discard(self, peer: PeerId) -> None:
        for point in _points_of(peer):
            del self._points[bisect_left(self._points, point)]

    def walk(self, key: str) -> Iterator[PeerId]:
        """Every peer once, in the order in which `key`'s successors meet it."""
        start = bisect_left(self._points, (_hash64(key), PeerId("")))
        met: set[PeerId] = set()
        for step in range(len(self._points)):
            peer = self._points[(start + step) % len(self._points)][1]
            if peer not in met:
                met.add(peer)
                yield peer


def _hash64(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def _points_of(peer: PeerId) -> list[tuple[int, PeerId]]:
    return [(_hash64(f"{peer}/{number}"), peer) for number in range(RING_POINTS)]
