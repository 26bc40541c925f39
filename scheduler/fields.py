"""The workers of one base: all, those with room, and by adapter those that hold it or once did."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..protocol.ids import Cid
from .demand import Count
from .estimates import Estimates
from .members import Member
from .pools import Pool
from .ring import Ring, hash64

LONG_AGO_MS = -(1 << 62)


class Shelf:
    """One adapter: `holders` are believed to hold it, `keepers` hold it or once did, and so have it at hand;
    `demand` is how much it is asked for, `hinted_ms` when somebody was last told to prefetch it."""

    __slots__ = ("_count", "_homes", "_place", "_version", "demand", "hinted_ms", "holders", "keepers")

    def __init__(self, adapter: Cid) -> None:
        self.holders: Pool[Member] = Pool()
        self.keepers: Pool[Member] = Pool()
        self.demand = Count()
        self.hinted_ms = LONG_AGO_MS
        self._place = hash64(adapter)
        self._homes: list[Member] = []
        self._version = self._count = -1

    def homes(self, ring: Ring[Member], count: int) -> list[Member]:
        """The first workers that the adapter belongs to; looked up when somebody came or went."""
        if self._version != ring.version or count > self._count:
            self._version, self._count = ring.version, count
            self._homes = ring.homes_at(self._place, count)
        return self._homes[:count]


@dataclass(slots=True)
class Field:
    """The workers of one base, and what is known of its answers.

    `shelves` are the adapters that somebody has at hand. `cursor` is the round robin's place, `looked_at`
    where the last look for anybody ended, `usual_score` the moving average of the best first draws."""

    base: Cid
    everyone: Pool[Member] = field(default_factory=Pool[Member])
    roomy: Pool[Member] = field(default_factory=Pool[Member])
    shelves: dict[Cid, Shelf] = field(default_factory=dict[Cid, Shelf])
    estimates: Estimates = field(default_factory=Estimates)
    cursor: int = 0
    looked_at: int = 0
    usual_score: int = 0
    _ring: Ring[Member] | None = None

    @property
    def ring(self) -> Ring[Member]:
        """Where keys belong; built when it is first asked for."""
        if self._ring is None:
            self._ring = Ring(self.everyone)
        return self._ring

    def homes(self, adapter: Cid, count: int) -> list[Member]:
        """The first workers that an adapter belongs to."""
        shelf = self.shelves.get(adapter)
        return self.ring.homes(adapter, count) if shelf is None else shelf.homes(self.ring, count)

    def enter(self, member: Member) -> None:
        """A worker appears."""
        self.everyone.add(member)
        for adapter in member.standing.past:
            self.shelf(adapter).keepers.add(member)
        if self._ring is not None:
            self._ring.add(member)

    def leave(self, member: Member) -> None:
        """A worker is forgotten, with what it held."""
        for adapter in member.held:
            self.release(adapter, member)
        for adapter in member.standing.past:
            self._unkeep(adapter, member)
        self.everyone.discard(member)
        self.roomy.discard(member)
        member.is_roomy = False
        if self._ring is not None:
            self._ring.discard(member)

    def hold(self, adapter: Cid, member: Member) -> Shelf:
        """It is believed to hold the adapter."""
        shelf = self.shelf(adapter)
        shelf.holders.add(member)
        shelf.keepers.add(member)
        dropped = member.standing.kept(adapter)
        if dropped is not None:
            self._unkeep(dropped, member)
        return shelf

    def release(self, adapter: Cid, member: Member) -> None:
        """It is no longer believed to."""
        shelf = self.shelves.get(adapter)
        if shelf is not None:
            shelf.holders.discard(member)
            self._clear(adapter, shelf)

    def _unkeep(self, adapter: Cid, member: Member) -> None:
        shelf = self.shelves.get(adapter)
        if shelf is not None:
            shelf.keepers.discard(member)
            self._clear(adapter, shelf)

    def _clear(self, adapter: Cid, shelf: Shelf) -> None:
        if not shelf.keepers.items and not shelf.holders.items:
            del self.shelves[adapter]

    def shelf(self, adapter: Cid) -> Shelf:
        """That of an adapter which somebody has at hand, or is about to."""
        shelf = self.shelves.get(adapter)
        if shelf is None:
            shelf = self.shelves[adapter] = Shelf(adapter)
        return shelf
