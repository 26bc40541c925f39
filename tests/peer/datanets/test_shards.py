"""Datanets: pulled whole, with every shard in the order in which it joined."""

import pytest

from commonlore.peer.catalog import Catalog
from commonlore.peer.datanets.shards import pull_datanet
from commonlore.protocol.errors import InvalidShard, NotFound


async def pull(shelf, datanet):
    return await pull_datanet(shelf, Catalog(shelf.get), shelf.domain, datanet)


async def test_shards_come_in_the_order_in_which_they_joined(shelf):
    a, b, c = [await shelf.contribute(name) for name in "abc"]
    first = await shelf.publish([b, a])
    second, _ = await shelf.publish([b, a, c], first)
    pulled = await pull(shelf, second)
    assert [shard.cid for shard in pulled.shards] == [b[0], a[0], c[0]]


async def test_a_version_that_lets_somebody_cut_in_is_refused(shelf):
    a, b, c = [await shelf.contribute(name) for name in "abc"]
    first = await shelf.publish([a, b])
    second, _ = await shelf.publish([c, a, b], first)
    with pytest.raises(InvalidShard, match="version 2 moves shards"):
        await pull(shelf, second)


async def test_an_earlier_version_that_vanished_leaves_the_order_of_this_one(shelf):
    a, b = [await shelf.contribute(name) for name in "ab"]
    cid, manifest = await shelf.publish([a])
    second, _ = await shelf.publish([b, a], (cid, manifest))
    del shelf.kept[cid]
    assert [shard.cid for shard in (await pull(shelf, second)).shards] == [b[0], a[0]]


async def test_rows_that_vanished_are_not_found(shelf):
    a = await shelf.contribute("a")
    datanet, _ = await shelf.publish([a])
    del shelf.kept[a[1].header.rows]
    with pytest.raises(NotFound):
        await pull(shelf, datanet)
