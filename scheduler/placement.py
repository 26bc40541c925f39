"""Which adapters a worker should hold, from how much each is asked for: a pure function, for planners, for
tests and for the prefetch hints.

Rules of this file: whoever computes it from the same facts gets the same plan; an adapter stays where it is
as long as it is wanted there, so that a plan that was carried out plans itself again; nobody gets more than
its slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..protocol.ids import Cid, PeerId
from .ring import hash64

EASE = 2
"""A worker is to be busy with one adapter to one part in so many of its batch: the rest is for the others and
for bursts."""


@dataclass(frozen=True, slots=True)
class Site:
    """A worker to plan for: its slots, the asks it answers at once, what it holds."""

    peer: PeerId
    slots: int
    batch: int
    held: tuple[Cid, ...] = ()


def replicas(rate_mhz: int, answer_ms: int, batch: int) -> int:
    """How many workers should hold an adapter that is asked for at this rate (asks in 1,000 seconds), when an
    answer takes so long and a worker answers so many at once: at least one.

    By Little's law rate · time of its asks are under way at once.
    """
    under_way_ppm = rate_mhz * answer_ms
    return max(1, -(-under_way_ppm * EASE // (batch * 1_000_000)))


def place(
    rates_mhz: Mapping[Cid, int], answer_ms: int, sites: Sequence[Site]
) -> dict[PeerId, tuple[Cid, ...]]:
    """What each site should hold, the most wanted first.

    Adapters are served in the order of demand: each first gets one place, then, while slots are left, as
    many as its demand asks for. It goes where it is held already, else where the least demand is planned,
    ties by rendezvous hashing (Thaler and Ravishankar 1998).
    """
    plan = _Plan(sites)
    wanted = sorted((adapter for adapter, rate in rates_mhz.items() if rate > 0), key=str)
    wanted.sort(key=lambda adapter: -rates_mhz[adapter])
    for adapter in wanted:
        plan.add(adapter, rates_mhz[adapter], 1)
    batch = max(1, min((site.batch for site in sites), default=1))
    for adapter in wanted:
        plan.add(adapter, rates_mhz[adapter], replicas(rates_mhz[adapter], answer_ms, batch))
    return {
        site.peer: tuple(sorted(plan.at[site.peer], key=lambda adapter: (-rates_mhz[adapter], adapter)))
        for site in sites
    }


class _Plan:
    """What is planned so far."""

    def __init__(self, sites: Sequence[Site]) -> None:
        self.sites = sites
        self.at: dict[PeerId, dict[Cid, None]] = {site.peer: {} for site in sites}
        self._load: dict[PeerId, int] = {site.peer: 0 for site in sites}
        self._held = {site.peer: frozenset(site.held) for site in sites}

    def add(self, adapter: Cid, rate_mhz: int, count: int) -> None:
        """Plan it at so many sites in all, as far as there are slots."""
        have = sum(adapter in planned for planned in self.at.values())
        while have < count and (site := self._best(adapter, rate_mhz // count)) is not None:
            self.at[site.peer][adapter] = None
            self._load[site.peer] += rate_mhz // count
            have += 1

    def _best(self, adapter: Cid, share: int) -> Site | None:
        open_sites = [
            site
            for site in self.sites
            if len(self.at[site.peer]) < site.slots and adapter not in self.at[site.peer]
        ]
        return min(
            open_sites,
            key=lambda site: (
                adapter not in self._held[site.peer],
                (self._load[site.peer] + share) * 1_000 // max(1, site.batch),
                hash64(f"{adapter}/{site.peer}"),
                site.peer,
            ),
            default=None,
        )
