"""The workers that this peer has heard of: each one's newest advert, while it is believed alive."""

from __future__ import annotations

from ...protocol.errors import NotFound
from ...protocol.gossip.adverts import WorkerAd
from ...protocol.gossip.rules import advert_hash
from ...protocol.ids import Cid, PeerId
from ...protocol.signing.envelope import Sealed
from ...scheduler.core import Scheduler
from .attempt_parts import Offer


class KnownWorkers:
    """By peer. Who is believed alive, the scheduler's view says."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._offers: dict[PeerId, Offer] = {}

    def see(self, sealed: Sealed[WorkerAd]) -> None:
        """Take an advert that passed its checks."""
        ad = sealed.record
        known = self._offers.get(sealed.peer_id)
        if known is None or known.ad.seq < ad.seq:
            self._offers[sealed.peer_id] = Offer(sealed.peer_id, ad, advert_hash(ad))

    def forget_silent(self) -> None:
        """Offers go when the scheduler's view has let their workers go."""
        if len(self._offers) > 2 * len(self._scheduler.view) + 64:
            self._offers = {peer: offer for peer, offer in self._offers.items() if self._is_alive(peer)}

    def get(self, peer: PeerId) -> Offer | None:
        """A worker's newest advert."""
        return self._offers.get(peer)

    def alive(self) -> tuple[Offer, ...]:
        """The adverts of workers believed alive."""
        return tuple(offer for offer in self._offers.values() if self._is_alive(offer.peer))

    def is_served(self, base: Cid) -> bool:
        """Whether any was heard of for this base."""
        return any(offer.ad.base == base for offer in self._offers.values())

    def most_served(self) -> Cid:
        """The base that most workers serve. Raises NotFound."""
        bases = [offer.ad.base for offer in self.alive()]
        if not bases:
            raise NotFound("no worker is known: check the bootstrap address, and that a worker is running")
        return max(sorted(set(bases)), key=bases.count)

    def _is_alive(self, peer: PeerId) -> bool:
        return self._scheduler.view.get(peer) is not None
