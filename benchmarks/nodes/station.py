"""A peer of the network alone as a process: host, gossip, DHT and blobs, no chain and no model.

Run by `content` and `gossip`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from commonlore.peer.blobs.blob_store import BlobStore
from commonlore.peer.network import Network, NetworkConfig, open_network
from commonlore.protocol.content.splits import BASE_SPLIT
from commonlore.protocol.gossip.adverts import Rates, WorkerAd
from commonlore.protocol.ids import ZERO_ADDRESS, Cid, PeerId, cid_of
from commonlore.protocol.signing.bindings import bind
from commonlore.protocol.signing.eip712 import Domain
from commonlore.protocol.signing.keys import AccountKey, PeerKey

from ..child import Message, next_order, say

DOMAIN = Domain(1, ZERO_ADDRESS)
BASE = cid_of(b"a base that nobody runs")
QUOTA = 1 << 34
DAY_S = 86_400


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


class Station:
    """The peer, and what it can be told to do: every method but `ad` answers an order."""

    def __init__(self, network: Network, key: PeerKey) -> None:
        self._network = network
        accounts = [AccountKey.from_secret(os.urandom(32)) for _ in range(2)]
        now = now_ms() // 1000
        self._binding = bind(DOMAIN, accounts[0], accounts[1], key, now - DAY_S, now + DAY_S)
        self._seq = 0
        self._heard: list[tuple[PeerId, int, float]] = []

    async def listen(self) -> None:
        """Note when each worker's advert comes; for ever."""
        with self._network.gossip.listen(WorkerAd) as heard:
            async for sealed in heard:
                self._heard.append((sealed.peer_id, sealed.record.seq, time.monotonic()))

    # ---- content

    async def keep(self, order: Message) -> Message:
        """Take a file into the store: `path` → `cid`."""
        store = self._network.blobs.store
        return {"cid": await trio.to_thread.run_sync(store.put_file, Path(order["path"]))}

    async def fetch(self, order: Message) -> Message:
        """Fetch `cid` (`size` bytes) from `providers` to the disk, and forget it: → `seconds`."""
        providers = []
        for address in order["providers"]:
            providers.append(await self._network.host.connect(address))
        cid = Cid(order["cid"])
        started = time.monotonic()
        await self._network.blobs.fetch(cid, providers, order["size"])
        seconds = time.monotonic() - started
        self._network.blobs.store.remove(cid)
        return {"seconds": seconds}

    # ---- gossip

    async def meet(self, _order: Message) -> Message:
        """Announce once: → who was heard of so far, in `heard`."""
        await self._network.gossip.publish(self.ad())
        return {"heard": len({peer for peer, _, _ in self._heard} - {self._network.host.peer_id})}

    async def gossip(self, order: Message) -> Message:
        """Publish `count` adverts, one every `interval` s from `start` on, and listen until `end` (both
        monotonic times): → `sent` and `heard`."""
        self._heard.clear()
        sent = []
        for number in range(order["count"]):
            await trio.sleep(max(0.0, order["start"] + number * order["interval"] - time.monotonic()))
            ad = self.ad()
            sent.append((ad.seq, time.monotonic()))
            await self._network.gossip.publish(ad)
        await trio.sleep(max(0.0, order["end"] - time.monotonic()))
        return {"peer": self._network.host.peer_id, "sent": sent, "heard": self._heard}

    def ad(self) -> WorkerAd:
        """The next advert of a worker, as large as real ones."""
        self._seq += 1
        return WorkerAd(
            binding=self._binding,
            base=BASE,
            artefact=BASE,
            rates=Rates(1_000, 4_000, 100),
            base_split=BASE_SPLIT,
            max_context=8_192,
            max_batch=8,
            queue_depth=0,
            running=0,
            free_pages=512,
            resident=(),
            resident_count=0,
            max_rank=64,
            addresses=self._network.host.addresses,
            seq=self._seq,
            issued_ms=now_ms(),
        )


async def serve() -> None:
    """Obey the parent until it closes. The first order is where to keep blobs and whom to start from."""
    order = await trio.to_thread.run_sync(next_order)
    if order is None:
        return
    key = PeerKey.generate(os.urandom(32))
    store = BlobStore(Path(order["store"]), QUOTA)
    config = NetworkConfig(key, DOMAIN, now_ms, bootstrap=tuple(order["bootstrap"]))
    async with open_network(config, store) as network, trio.open_nursery() as nursery:
        station = Station(network, key)
        nursery.start_soon(station.listen)
        await network.gossip.follow(BASE)
        await network.discovery.join()
        say({"ready": True, "address": network.host.addresses[0]})
        commands: dict[str, Callable[[Message], Awaitable[Message]]] = {
            "keep": station.keep,
            "fetch": station.fetch,
            "meet": station.meet,
            "gossip": station.gossip,
        }
        while (order := await trio.to_thread.run_sync(next_order)) is not None:
            say(await commands[order["do"]](order))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    sys.exit(trio.run(serve))
