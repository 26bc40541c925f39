"""Datanets: pulled whole, with every shard in the order in which it joined."""

from dataclasses import replace

import pytest

from commonlore.peer.catalog import Catalog
from commonlore.peer.datanets import Contribution, DatanetPlan, publish_datanet, publish_shard, pull_datanet
from commonlore.peer.keystore import Identity
from commonlore.protocol.codec import encode
from commonlore.protocol.eip712 import Domain
from commonlore.protocol.errors import InvalidShard, NotFound
from commonlore.protocol.ids import cid_of
from commonlore.protocol.keys import AccountKey, PeerKey
from commonlore.protocol.manifests import Row

DOMAIN = Domain(0, bytes(20))
PLAN = DatanetPlan("codes", "", "questions", "CC0-1.0")
CURATOR = PeerKey.generate(b"c" * 32)


class Blobs:
    """Content in memory."""

    def __init__(self):
        self.kept = {}

    async def put(self, data):
        self.kept[cid_of(data)] = data
        return cid_of(data)

    async def get(self, cid, _most):
        if cid not in self.kept:
            raise NotFound(f"no content {cid}")
        return self.kept[cid]


@pytest.fixture
def blobs():
    return Blobs()


async def contribute(blobs, name):
    identity = Identity(
        name, PeerKey.generate(name.encode() * 32), AccountKey.from_secret(name.encode() * 32)
    )
    rows = (Row(f"question of {name}", "answer", name.encode() * 32),)
    return await publish_shard(blobs, DOMAIN, PLAN.name, Contribution(identity, rows, "CC0-1.0", "here"))


async def publish(blobs, shards, previous=None):
    return await publish_datanet(blobs, CURATOR, PLAN, shards, previous)


async def pull(blobs, datanet):
    return await pull_datanet(blobs, Catalog(blobs.get), DOMAIN, datanet)


async def test_shards_come_in_the_order_in_which_they_joined(blobs):
    a, b, c = [await contribute(blobs, name) for name in "abc"]
    first = await publish(blobs, [b, a])
    second, _ = await publish(blobs, [b, a, c], first)
    pulled = await pull(blobs, second)
    assert [shard.cid for shard in pulled.shards] == [b[0], a[0], c[0]]


async def test_a_version_that_lets_somebody_cut_in_is_refused(blobs):
    a, b, c = [await contribute(blobs, name) for name in "abc"]
    first = await publish(blobs, [a, b])
    second, _ = await publish(blobs, [c, a, b], first)
    with pytest.raises(InvalidShard, match="version 2 moves shards"):
        await pull(blobs, second)


async def test_an_earlier_version_that_vanished_leaves_the_order_of_this_one(blobs):
    a, b = [await contribute(blobs, name) for name in "ab"]
    cid, manifest = await publish(blobs, [a])
    second, _ = await publish(blobs, [b, a], (cid, manifest))
    del blobs.kept[cid]
    assert [shard.cid for shard in (await pull(blobs, second)).shards] == [b[0], a[0]]


async def test_a_datanet_that_vanished_is_not_found(blobs):
    a = await contribute(blobs, "a")
    datanet, manifest = await publish(blobs, [a])
    del blobs.kept[a[1].header.rows]
    with pytest.raises(NotFound):
        await pull(blobs, datanet)
    changed = encode(replace(manifest, contributors_root=bytes(32)))
    with pytest.raises(NotFound):
        await pull(blobs, cid_of(changed))
