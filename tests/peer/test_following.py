"""What others announce is taken in, also what came before anybody listened."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import trio

from commonlore.peer.catalog import Catalog
from commonlore.peer.following import follow
from commonlore.peer.wire.gossip import Gossip
from commonlore.protocol.gossip.adverts import DatanetRecord
from commonlore.protocol.gossip.rules import Verdict
from commonlore.protocol.ids import Address, Cid, cid_of
from commonlore.protocol.signing.eip712 import Domain
from commonlore.protocol.signing.envelope import Sealed, seal
from commonlore.protocol.signing.keys import PeerKey

OWN, OTHER = PeerKey.generate(bytes([1]) * 32), PeerKey.generate(bytes([2]) * 32)
NOW_MS = 1_900_000_000_000


class Kept:
    """A node's store and what follows its withdrawals, as lists."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.followed: list[Cid] = []

    async def put(self, sealed: Sealed[Any]) -> None:
        """A record to be remembered."""
        self.names.append(sealed.record.name)

    async def keep_following(self, datanet: Cid) -> None:
        """A version whose withdrawals are to be carried out."""
        self.followed.append(datanet)


async def nothing(_cid: object, _most: int) -> bytes:
    raise AssertionError("nothing is fetched here")


def announced(name: str) -> bytes:
    return seal(OTHER, DatanetRecord(name, 1, cid_of(name.encode()), 1, NOW_MS))


async def test_what_came_while_the_node_started_is_taken_in() -> None:
    pubsub: Any = None  # nothing is said here
    gossip = Gossip(pubsub, OWN, Domain(0, Address(bytes(20))), lambda: NOW_MS)
    kept, catalog = Kept(), Catalog(nothing)
    assert gossip.take(announced("early")) is Verdict.ACCEPT
    async with trio.open_nursery() as nursery:
        node: Any = SimpleNamespace(
            gossip=gossip, clock=SimpleNamespace(now_ms=lambda: NOW_MS), catalog=catalog, nursery=nursery,
            store=SimpleNamespace(records=kept), withdrawals=kept,
        )  # fmt: skip
        await nursery.start(follow, node)
        assert gossip.take(announced("late")) is Verdict.ACCEPT
        assert gossip.take(announced("early")) is Verdict.IGNORE, "nobody tells it again"
        with trio.fail_after(60):
            while len(kept.followed) < 2:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert kept.names == ["early", "late"]
    assert {record.name for record in catalog.datanets()} == {"early", "late"}
