"""GossipSub on a host, reduced to topics, bytes and verdicts. One of the files that may import libp2p.

The rules of this file: meshsub 1.1 only (1.2's IDONTWANT shares the queues and loses bursts); a heartbeat a
second; every limit explicit. A topic's validator sees each message once and delivers it itself: libp2p's own
subscription channels drop what does not fit. Messages are named by the hash of their data, so that a
repetition is none. Peers that pass on what no honest peer would are dropped.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service

from ...protocol.gossip.rules import Verdict
from ...protocol.ids import PeerId
from . import compat
from .host import Host

log = logging.getLogger(__name__)

Validator = Callable[[bytes, PeerId], Verdict]
"""(data, who passed it on) → what to do with it. Must not wait."""

DEGREE, DEGREE_LOW, DEGREE_HIGH = 6, 4, 12
MESSAGES_PER_TOPIC_PER_S = 500.0
"""From one forwarding peer; beyond it libp2p drops silently."""
MAX_RPC_BYTES = 262_144
MAX_REJECTED = 16
"""Messages no honest peer passes on, from one peer, before it is dropped."""
PACE_S = 0.005
"""Between own publications: a burst fills the peers' queues."""


class PubSub:
    """See `open_pubsub`."""

    def __init__(self, host: Host, pubsub: Pubsub) -> None:
        self._host = host
        self._pubsub = pubsub
        self._router: Any = pubsub.router
        self._rejected: Counter[PeerId] = Counter()
        self._pace = trio.Lock()

    async def subscribe(self, topic: str, validator: Validator) -> None:
        """Take part in a topic; `validator` judges every message, own ones included, and takes what it wants
        of them."""

        def judge(forwarder: ID, message: Any) -> bool:
            peer = PeerId(forwarder.to_base58())
            try:
                verdict = validator(message.data, peer)
            except Exception:  # a validator's bug must not end libp2p's service, which would end the host
                log.exception("judging a message of %s failed", topic)
                return False
            if verdict is Verdict.REJECT and peer != self._host.peer_id:
                self._blame(forwarder, peer)
            return verdict is Verdict.ACCEPT

        self._pubsub.set_topic_validator(topic, judge, is_async_validator=False)
        await self._pubsub.subscribe(topic)

    async def unsubscribe(self, topic: str) -> None:
        """Take no more part in a topic."""
        await self._pubsub.unsubscribe(topic)
        self._pubsub.remove_topic_validator(topic)

    async def publish(self, topic: str, data: bytes) -> None:
        """Send to everybody in a topic this peer takes part in; paced.

        Nobody confirms: gossip loses messages.
        """
        async with self._pace:
            await self._pubsub.publish(topic, data)
            await trio.sleep(PACE_S)

    def neighbours(self, topic: str) -> set[PeerId]:
        """Connected peers that take part in a topic, as far as they said so."""
        return {PeerId(peer.to_base58()) for peer in self._pubsub.peer_topics.get(topic, ())}

    def mesh(self, topic: str) -> set[PeerId]:
        """The neighbours that messages of a topic go to directly."""
        return {PeerId(peer.to_base58()) for peer in self._router.mesh.get(topic, ())}

    def _blame(self, forwarder: ID, peer: PeerId) -> None:
        self._rejected[peer] += 1
        if self._rejected[peer] >= MAX_REJECTED:
            del self._rejected[peer]
            self._pubsub.add_to_blacklist(forwarder)
            self._host.start_soon(self._host.disconnect, peer)


@asynccontextmanager
async def open_pubsub(host: Host) -> AsyncIterator[PubSub]:
    """Gossip on a host until the block ends. Open it before the host connects to anybody."""
    compat.apply_pubsub()
    router = GossipSub(
        [PROTOCOL_ID_V11],
        degree=DEGREE,
        degree_low=DEGREE_LOW,
        degree_high=DEGREE_HIGH,
        heartbeat_interval=1,
        adaptive_gossip_enabled=False,
        eclipse_protection_enabled=False,  # wants three networks in every mesh: impossible on one machine
        max_messages_per_topic_per_second=MESSAGES_PER_TOPIC_PER_S,
    )
    pubsub = Pubsub(
        host.raw,
        router,
        seen_ttl=300,
        msg_id_constructor=_name,
        max_inbound_rpc_size=MAX_RPC_BYTES,
    )
    # libp2p counts messages from the second it starts: a peer that restarts after a burst repeats its
    # numbers, which
    # others take for lies.
    pubsub.counter = time.time_ns() // 1_000
    async with background_trio_service(pubsub), background_trio_service(router):
        await pubsub.wait_until_ready()
        yield PubSub(host, pubsub)


def _name(message: Any) -> bytes:
    return hashlib.sha256(message.data).digest()
