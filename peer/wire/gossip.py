"""Announcements: sealed and published, judged and passed on, kept and handed to whoever listens.

The rules of this file: few topics, one for each base model's workers and one each for adapters, Datanets,
measurements and peers, all under the deployment's domain, so that networks that meet do not mix. What
arrives is judged once (`gossip.rules`), and kept only when newer than what is known. A key that announces too
often is not passed on. Times are `now_ms`.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import assert_never

import trio

from ...protocol.gossip.adverts import (
    AdapterRecord,
    Advert,
    DatanetRecord,
    MeasurementRecord,
    PeerAd,
    WorkerAd,
)
from ...protocol.gossip.rules import Verdict, judge_advert
from ...protocol.ids import Cid, PeerId
from ...protocol.signing.eip712 import Domain
from ...protocol.signing.envelope import Sealed, open_sealed, seal
from ...protocol.signing.keys import PeerKey
from ..bucket import Bucket
from .heard import Heard
from .host_pubsub import PubSub

log = logging.getLogger(__name__)

QUEUE = 1_024
"""Records a listener may be behind; later ones it misses here and finds in `records`."""
PER_KEY_S = 5.0
PER_KEY_BURST = 512.0
MAX_KEYS = 16_384
TOPIC_MESSAGES_S = 5.0
"""What all workers of a base may announce together."""
MIN_INTERVAL_S = 10.0
MAX_INTERVAL_S = 60.0

ALL: tuple[type[Advert], ...] = (WorkerAd, PeerAd, AdapterRecord, DatanetRecord, MeasurementRecord)


class Gossip:
    """The announcements of one network, as one peer hears them."""

    def __init__(self, pubsub: PubSub, key: PeerKey, domain: Domain, now_ms: Callable[[], int]) -> None:
        self.records = Heard()
        self._pubsub = pubsub
        self._key = key
        self.domain = domain
        self._now_ms = now_ms
        self._prefix = f"/commonlore/{domain.separator[:8].hex()}"
        self._joined: set[str] = set()
        self._listeners: list[tuple[tuple[type[Advert], ...], trio.MemorySendChannel[Sealed[Advert]]]] = []
        self._buckets: OrderedDict[bytes, Bucket] = OrderedDict()

    # ---- hearing

    async def join(self) -> None:
        """Take part in the topics of adapters, Datanets, measurements and peers."""
        for kind, topic in (
            (AdapterRecord, "adapters"),
            (DatanetRecord, "datanets"),
            (MeasurementRecord, "measurements"),
            (PeerAd, "peers"),
        ):
            await self._join(topic, kind)

    async def follow(self, base: Cid) -> None:
        """Take part in the topic of a base model's workers."""
        await self._join(f"workers/{base}", WorkerAd)

    def listen(self, *kinds: type[Advert]) -> trio.MemoryReceiveChannel[Sealed[Advert]]:
        """A channel of every new record of these kinds (none given: of all); close it when done."""
        send, receive = trio.open_memory_channel[Sealed[Advert]](QUEUE)
        self._listeners.append((kinds or ALL, send))
        return receive

    def take(self, raw: bytes, kinds: tuple[type[Advert], ...] = ALL) -> Verdict:
        """Judge an envelope that was asked for; ACCEPT when it was new, and listeners have it."""
        return self._take(raw, kinds, asked=True)

    def _take(self, raw: bytes, kinds: tuple[type[Advert], ...], asked: bool) -> Verdict:
        judged = judge_advert(raw, kinds, self.domain, self._now_ms())
        if judged.sealed is None:
            log.debug("not taken: %s", judged.reason)
            return judged.verdict
        if not (asked or self._may_speak(judged.sealed.public_key)) or not self.records.take(judged.sealed):
            return Verdict.IGNORE
        self._deliver(judged.sealed)
        return Verdict.ACCEPT

    def forget_stale(self) -> None:
        """Drop announcements whose time is over."""
        self.records.expire(self._now_ms())

    def advert_interval_s(self, base: Cid) -> float:
        """How long a worker of `base` should wait between announcements, that they stay few together."""
        workers = sum(ad.record.base == base for ad in self.records.of(WorkerAd, self._now_ms()))
        return min(MAX_INTERVAL_S, max(MIN_INTERVAL_S, workers / TOPIC_MESSAGES_S))

    # ---- speaking

    async def publish(self, record: Advert) -> Sealed[Advert]:
        """Seal and announce a record of this peer. Raises LocalProtocolError when it is too large."""
        sealed = open_sealed(seal(self._key, record), ALL)
        topic = _topic_of(record)
        await self._join(topic, type(record))
        await self._pubsub.publish(f"{self._prefix}/{topic}", sealed.raw)
        return sealed

    def neighbours(self, record: Advert) -> set[PeerId]:
        """Connected peers that would hear this record first."""
        return self._pubsub.neighbours(f"{self._prefix}/{_topic_of(record)}")

    async def _join(self, topic: str, kind: type[Advert]) -> None:
        if topic in self._joined:
            return
        self._joined.add(topic)

        def judge(data: bytes, _forwarder: PeerId) -> Verdict:
            return self._take(data, (kind,), asked=False)

        await self._pubsub.subscribe(f"{self._prefix}/{topic}", judge)

    def _may_speak(self, public_key: bytes) -> bool:
        if public_key == self._key.public:
            return True
        now = trio.current_time()
        bucket = self._buckets.pop(public_key, None) or Bucket(PER_KEY_S, PER_KEY_BURST, now)
        self._buckets[public_key] = bucket
        if len(self._buckets) > MAX_KEYS:
            self._buckets.popitem(last=False)
        return bucket.take(now)

    def _deliver(self, sealed: Sealed[Advert]) -> None:
        for kinds, listener in list(self._listeners):
            if isinstance(sealed.record, kinds):
                try:
                    listener.send_nowait(sealed)
                except trio.WouldBlock:
                    log.warning("a listener is %d records behind and misses one", QUEUE)
                except trio.BrokenResourceError:
                    self._listeners.remove((kinds, listener))


def _topic_of(record: Advert) -> str:
    match record:
        case WorkerAd():
            return f"workers/{record.base}"
        case PeerAd():
            return "peers"
        case AdapterRecord():
            return "adapters"
        case DatanetRecord():
            return "datanets"
        case MeasurementRecord():
            return "measurements"
        case _:
            assert_never(record)
