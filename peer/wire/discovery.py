"""Finding the others: from a bootstrap address to a place in the network, and keeping it.

The rules of this file: one reachable bootstrap peer is enough, and its loss later is no harm. Peers of one
network meet under one content id that all of them provide; a few of them are kept connected, so that gossip
has more than one way. What others announce of their addresses is learnt. Providing is queued, one root at a
time, below the rate that others accept. Heads are reconciled with somebody every half minute, and with every
newly met peer.
"""

from __future__ import annotations

import logging
import random
from collections import deque

import trio

from ...protocol.errors import CommonloreError, ConfigError, Unreachable
from ...protocol.gossip.adverts import PeerAd, WorkerAd
from ...protocol.ids import Cid, PeerId, cid_of
from ...protocol.signing.eip712 import Domain
from ..bucket import Bucket
from .addresses import parse_address
from .gossip import Gossip
from .host import Host
from .host_dht import Dht
from .reconcile import Reconciler

log = logging.getLogger(__name__)

PEERS_KEPT = 6
"""Connections that this peer keeps up by itself."""
FIRST_RETRY_S, LAST_RETRY_S = 0.5, 30.0
FIRST_LOOK_S, LAST_LOOK_S = 0.25, 20.0
RECONCILE_S = 30.0
PROVIDE_RATE, PROVIDE_BURST = 0.8, 8.0
"""Announcements a second: others accept ten in any ten seconds."""
REPROVIDE_S = 1_800.0
LOOKUP_LIMIT_S = 15.0
NEWCOMER_S, MOMENT_S = 30.0, 3.0
"""For how long a peer has just joined, and what it waits then to meet others."""
ROUNDS_APART_S = 1.0
"""Others are not asked more often, however many ask for names that nobody knows."""
INTRODUCTION_LIMIT_S = 5.0
"""For a bootstrap peer to say which network it is of."""


class Discovery:
    """One peer's place in its network. `bootstrap` are full multiaddrs; ConfigError when one is none."""

    def __init__(
        self, host: Host, dht: Dht, gossip: Gossip, reconciler: Reconciler, bootstrap: tuple[str, ...]
    ) -> None:
        self._host = host
        self._dht = dht
        self._gossip = gossip
        self._reconciler = reconciler
        self._bootstrap = {address: parse_address(address)[0] for address in bootstrap}
        self._provided: dict[Cid, float] = {}
        self._to_provide: deque[Cid] = deque()
        self._has_work = trio.Event()
        self._reconciled: set[PeerId] = set()
        self._asking_around = trio.Lock()
        self._asked_around_at = self._joined_at = trio.current_time() - ROUNDS_APART_S

    async def join(self) -> None:
        """Reach the bootstrap peers, take what they know, and be findable. One that answers is enough; raises
        Unreachable, naming each, when none does, and ConfigError where one that does is of another network.
        A peer without bootstrap addresses is the first of its network."""
        self._joined_at = trio.current_time()
        self.provide(meeting_point(self._gossip.domain))
        failures: list[CommonloreError] = []
        async with trio.open_nursery() as nursery:
            for address in self._bootstrap:
                nursery.start_soon(self._try, address, failures)
        if self._bootstrap and len(failures) == len(self._bootstrap):
            foreign = next((each for each in failures if isinstance(each, ConfigError)), None)
            raise foreign or Unreachable("; ".join(map(str, failures)))
        await self._reconcile_with(self._host.connected())

    async def run(self) -> None:
        """Keep the place: until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._learn_addresses)
            nursery.start_soon(self._provide_queued)
            nursery.start_soon(self._meet, meeting_point(self._gossip.domain))
            nursery.start_soon(self._reconcile)
            for address in self._bootstrap:
                nursery.start_soon(self._stay_connected, address)

    def provide(self, cid: Cid) -> None:
        """Announce, soon and again and again, that this peer has `cid`: for roots (a base, an adapter, a
        Datanet version)."""
        if cid not in self._provided:
            self._provided[cid] = 0.0
            self._to_provide.append(cid)
            self._has_work.set()

    async def providers(self, cid: Cid) -> tuple[PeerId, ...]:
        """Who has `cid`, as the DHT says; they can be dialled. Empty when nobody is found in time."""
        with trio.move_on_after(LOOKUP_LIMIT_S):
            return await self._dht.providers(cid)
        return ()

    async def locate(self, peer: PeerId) -> bool:
        """Whether an address of a peer is known, asking the network if need be."""
        if self._host.known_addresses(peer) or peer in self._host.connected():
            return True
        with trio.move_on_after(LOOKUP_LIMIT_S):
            return await self._dht.find(peer)
        return False

    async def catch_up(self, peer: PeerId) -> None:
        """Take what one peer knows, now."""
        await self._reconcile_with({peer})

    async def ask_around(self) -> None:
        """Take what all connected peers know, now; who has just joined also a moment later."""
        await self._ask_all()
        if trio.current_time() - self._joined_at < NEWCOMER_S:
            await trio.sleep(MOMENT_S)
            await self._ask_all()

    async def _ask_all(self) -> None:
        """However many want that at once, a round that begins after they came is enough."""
        came_at = trio.current_time()
        async with self._asking_around:
            if self._asked_around_at < came_at:
                await trio.sleep(max(0, self._asked_around_at + ROUNDS_APART_S - came_at))
                began_at = trio.current_time()
                await self._reconcile_with(self._host.connected())
                self._asked_around_at = began_at

    # ---- bootstrap

    async def _try(self, address: str, failures: list[CommonloreError]) -> None:
        try:
            peer = await self._host.connect(address)
            with trio.move_on_after(INTRODUCTION_LIMIT_S):
                await self._reconciler.check_network(peer)
        except Unreachable as wrong:
            said = str(wrong).replace("cannot reach peer", "cannot reach bootstrap peer", 1)
            failures.append(Unreachable(said))
        except CommonloreError as wrong:
            failures.append(wrong)

    async def _stay_connected(self, address: str) -> None:
        delay = FIRST_RETRY_S
        while True:
            failures: list[CommonloreError] = []
            if self._bootstrap[address] not in self._host.connected():
                await self._try(address, failures)
            if failures:
                log.warning("%s; trying again in %.0f s", failures[0], delay)
            delay = min(LAST_RETRY_S, delay * 2) if failures else FIRST_RETRY_S
            await trio.sleep(delay if failures else LAST_RETRY_S / 10)

    # ---- meeting others

    async def _learn_addresses(self) -> None:
        with self._gossip.listen(PeerAd, WorkerAd) as heard:
            async for sealed in heard:
                if isinstance(sealed.record, PeerAd | WorkerAd):
                    self._host.learn(sealed.peer_id, sealed.record.addresses, signed=True)

    async def _meet(self, point: Cid) -> None:
        pause = FIRST_LOOK_S
        while True:
            if len(self._host.connected()) < PEERS_KEPT:
                await self._connect_some(await self.providers(point))
            await self._reconcile_with(self._host.connected() - self._reconciled)
            await trio.sleep(pause)
            pause = min(LAST_LOOK_S, pause * 2)

    async def _connect_some(self, found: tuple[PeerId, ...]) -> None:
        strangers = [peer for peer in found if peer not in self._host.connected()]
        random.shuffle(strangers)
        wanted = PEERS_KEPT - len(self._host.connected())
        async with trio.open_nursery() as nursery:
            for peer in strangers[: max(0, wanted)]:
                nursery.start_soon(self._connect_quietly, peer)

    async def _connect_quietly(self, peer: PeerId) -> None:
        try:
            await self._host.connect_to(peer)
        except Unreachable as wrong:
            log.debug("a provider of the meeting point is gone: %s", wrong)

    # ---- providing

    async def _provide_queued(self) -> None:
        bucket = Bucket(PROVIDE_RATE, PROVIDE_BURST, trio.current_time())
        while True:
            self._queue_again()
            if not self._to_provide:
                self._has_work = trio.Event()
                with trio.move_on_after(REPROVIDE_S / 10):
                    await self._has_work.wait()
                continue
            await trio.sleep(bucket.pause(trio.current_time()))
            bucket.take(trio.current_time())
            cid = self._to_provide.popleft()
            with trio.move_on_after(LOOKUP_LIMIT_S):
                if await self._dht.provide(cid):
                    self._provided[cid] = trio.current_time()
                    continue
            self._to_provide.append(cid)
            await trio.sleep(FIRST_RETRY_S)

    def _queue_again(self) -> None:
        now = trio.current_time()
        for cid, told in self._provided.items():
            if now - told > REPROVIDE_S and cid not in self._to_provide:
                self._to_provide.append(cid)

    # ---- reconciling

    async def _reconcile(self) -> None:
        while True:
            await trio.sleep(RECONCILE_S)
            self._gossip.forget_stale()
            connected = sorted(self._host.connected())
            if connected:
                await self._reconcile_with({random.choice(connected)})

    async def _reconcile_with(self, peers: set[PeerId]) -> None:
        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(self._pull, peer)
        self._reconciled = (self._reconciled | peers) & self._host.connected()

    async def _pull(self, peer: PeerId) -> None:
        with trio.move_on_after(LOOKUP_LIMIT_S):
            try:
                log.debug("%d records from %s", await self._reconciler.pull(peer), peer)
            except CommonloreError as wrong:
                log.debug("no records from %s: %s", peer, wrong)


def meeting_point(domain: Domain) -> Cid:
    """The content id that every peer of a network provides: where they find each other."""
    return cid_of(b"commonlore/meet/1" + domain.separator)
