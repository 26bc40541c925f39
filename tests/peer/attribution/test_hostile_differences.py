"""Strangers who seal indexes, sign shards and name differences take nothing from others, nor hold it up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import trio

from commonlore.peer.attribution.known_differences import known_differences, remember_difference
from commonlore.peer.datanets.withdrawing import sign_withdrawal
from commonlore.protocol.attribution.differences import (
    MAX_DIFFERENCE_BYTES,
    IndexDifference,
    OpenedShard,
    write_hashes,
)
from commonlore.protocol.content.manifests import (
    AdapterManifest,
    IndexedContributor,
    IndexManifest,
    PriorWeight,
    Recipe,
)
from commonlore.protocol.content.rows import decode_rows, row_hash
from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.encoding.codec import encode
from commonlore.protocol.ids import cid_of
from commonlore.protocol.signing.envelope import open_sealed, seal
from commonlore.protocol.signing.keys import PeerKey

from .test_differences import AUTHOR, KEYS, NOW_MS, OWN, SIZE, Home, indexed, pairs, signed

STRANGER = PeerKey.generate(b"s" * 32)
RECIPE = Recipe("a trainer", 40, 8, 1, 8, 16, 0, 1, "bf16", "user: {question}")


@pytest.fixture
def home(shelf: Any, tmp_path: Any) -> Home:
    return Home(shelf, tmp_path)


async def trained(home: Home, shards: Any, author: Any = AUTHOR) -> tuple[Any, IndexManifest, Any]:
    """An adapter that learnt from a Datanet of these shards: itself, its index, that index's name."""
    shelf = home.shelf
    datanet = (await shelf.publish(shards))[0]
    payee = shards[0][1].header.payee
    manifest = AdapterManifest(
        "icd", cid_of(b"base"), cid_of(b"weights"), 9, 8, 16, ("q_proj",), bytes(32), (datanet,), RECIPE,
        None, None, DEFAULT_SPLIT, (PriorWeight(payee, 1_000_000),), "CC0-1.0", author.public, payee,
    )  # fmt: skip
    adapter = await shelf.put(encode(manifest))
    unnamed, index, _ = await indexed(shelf, *shards)
    shelf.forget(unnamed)
    index = replace(index, adapter=adapter)
    name = await shelf.put(seal(author, index, SIZE))
    return adapter, index, name


async def forged_shard(home: Home, victim: Any, **changes: Any) -> Any:
    """A shard that a stranger signs over the rows of another, who is to lose them; its withdrawal."""
    header = replace(victim.header, contributor="s", ed25519_key=STRANGER.public, **changes)
    shard = await home.shelf.put(encode(replace(victim, header=header)))
    return sign_withdrawal(STRANGER, "codes", shard, "not mine", NOW_MS)


async def test_rows_that_a_stranger_signs_and_withdraws_stay_in_the_indexes_of_others(home: Home) -> None:
    a, b = await home.shelf.contribute("a", *pairs("a", 3)), await home.shelf.contribute("b")
    _, index, name = await trained(home, [a, b])
    await home.withdrawals.take(await forged_shard(home, a[1]))
    assert home.shelf.has(index.rows)
    assert await home.differences.latest(name) is None
    await home.withdrawals.take(signed("a", a[0]))
    assert not home.shelf.has(index.rows), "who gave them takes them back"


async def test_row_hashes_that_are_not_a_shards_hold_no_other_withdrawal_up(home: Home) -> None:
    a, b = await home.shelf.contribute("a", *pairs("a", 3)), await home.shelf.contribute("b")
    _, index, name = await trained(home, [a, b])
    other = await home.shelf.contribute("c")
    await home.withdrawals.take(await forged_shard(home, other[1], rows_root=bytes(32)))
    await home.withdrawals.take(signed("a", a[0]))
    assert not home.shelf.has(index.rows)
    difference = await home.differences.latest(name)
    assert difference is not None
    assert [opened.shard for opened in difference[1].shards] == [a[0]]


async def test_an_index_whose_rows_are_what_this_home_keeps_takes_that_from_nobody(home: Home) -> None:
    """Its author is free to name any content as its rows, and to withdraw a shard that it learnt from."""
    kept, fetched = await home.put(b"\x08" * 900), await home.put(b"\x09" * 900)
    home.shelf.pinned.add(kept)
    a, b = await home.shelf.contribute("a"), await home.shelf.contribute("b")
    _, index, _ = await trained(home, [a, b], STRANGER)
    home.shelf.forget(a[1].header.rows)
    for rows in (kept, fetched):
        await home.put(seal(STRANGER, replace(index, rows=rows), SIZE))
    await home.withdrawals.take(signed("a", a[0]))
    assert home.shelf.has(kept)
    assert not home.shelf.has(fetched), "what was fetched can be fetched again"


async def test_a_copy_of_an_index_under_another_seal_keeps_it_from_no_difference(home: Home) -> None:
    a, b = await home.shelf.contribute("a"), await home.shelf.contribute("b")
    _, index, name = await trained(home, [a, b])
    copies = [await home.put(seal(key, index, SIZE)) for key in (*KEYS.values(), STRANGER)]
    await home.withdrawals.take(signed("a", a[0]))
    assert not home.shelf.has(index.rows)
    for each in (name, *copies):
        assert await home.differences.latest(each) is not None


async def test_the_indexes_of_this_peer_lose_rows_that_it_keeps(home: Home) -> None:
    a, b = await home.shelf.contribute("a"), await home.shelf.contribute("b")
    _, index, _ = await trained(home, [a, b], OWN)
    home.shelf.pinned.add(index.rows)
    await home.withdrawals.take(signed("a", a[0]))
    assert not home.shelf.has(index.rows)


ILL_SHAPED: dict[str, dict[str, Any]] = {
    "rows without number": {"contributors": (IndexedContributor(b"\x01" * 20, 2**32 - 1),) * 2},
    "no width": {"width": 0},
    "fewer hashes": {"row_hashes": ()},
}


@pytest.mark.parametrize("kind", ILL_SHAPED)
async def test_an_index_of_no_shape_stops_nobody(home: Home, kind: str) -> None:
    a, b = await home.shelf.contribute("a"), await home.shelf.contribute("b")
    _, index, _ = await trained(home, [a, b])
    name = await home.put(seal(STRANGER, replace(index, **ILL_SHAPED[kind]), SIZE))
    await home.withdrawals.take(signed("a", a[0]))
    assert not home.shelf.has(index.rows)
    assert not (await home.differences.known()).by_index.get(name)


async def forged_difference(home: Home, name: Any, index: IndexManifest, *shards: Any) -> Any:
    """A difference by which a stranger takes all rows of these shards out of an index."""
    opened = []
    for cid, shard in shards:
        rows = decode_rows(await home.get(shard.header.rows, SIZE))
        opened.append(OpenedShard(cid, await home.put(write_hashes(row_hash(row) for row in rows))))
    everybody = IndexedContributor(b"\x01" * 20, index.row_count)
    record = IndexDifference(
        index.adapter, name, tuple(sorted(opened, key=lambda each: each.shard)), cid_of(b"gone"),
        cid_of(b"kept"), cid_of(b"sums"), (everybody,), NOW_MS,
    )  # fmt: skip
    return await home.put(seal(STRANGER, record, MAX_DIFFERENCE_BYTES))


async def test_a_stranger_who_withdraws_its_own_names_no_difference_of_others_indexes(home: Home) -> None:
    a, b = await home.shelf.contribute("a"), await home.shelf.contribute("b")
    _, index, name = await trained(home, [a, b])
    c = await home.shelf.contribute("c")
    for shards in ((c,), (a, c)):
        forged = await forged_difference(home, name, index, *shards)
        await home.differences.hear([forged], {c[0]})
        assert not (await home.differences.known()).by_index
        assert not home.shelf.has(forged)


async def test_nobody_announces_a_difference_of_anothers_index(home: Home) -> None:
    a, b = await home.shelf.contribute("a"), await home.shelf.contribute("b")
    adapter, index, name = await trained(home, [a, b])
    own = (await trained(home, [a, b], STRANGER))[1]
    forged = await forged_difference(home, name, index, a)
    of_own_adapter = await forged_difference(home, name, own, a)
    for each in (forged, of_own_adapter):
        await home.differences.hear_author(name, each, STRANGER.public)
    home.shelf.forget(name)
    await home.differences.hear_author(name, await forged_difference(home, name, index, a), STRANGER.public)
    assert home.shelf.has(adapter)
    assert not (await home.differences.known()).by_index


async def test_a_difference_that_never_comes_holds_no_withdrawal_up(home: Home, monkeypatch: Any) -> None:
    a, b = await home.shelf.contribute("a"), await home.shelf.contribute("b")
    _, index, name = await trained(home, [a, b])
    slow, read, asked = {cid_of(b"slow")}, home.get, trio.Event()
    heard = await forged_difference(home, cid_of(b"index"), replace(index, adapter=cid_of(b"of nobody")), a)
    slow.add(open_sealed(await home.get(heard, SIZE), (IndexDifference,), SIZE).record.shards[0].rows)

    async def get(name: Any, most: int | None = None) -> Any:
        if name in slow:
            asked.set()
            await trio.sleep_forever()
        return await read(name, most)

    monkeypatch.setattr(home, "get", get)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(home.differences.hear, [heard], {a[0]})
        await asked.wait()
        asked = trio.Event()
        for _ in range(99):
            nursery.start_soon(home.differences.hear_author, name, cid_of(b"slow"), KEYS["c"].public)
        await asked.wait()
        with trio.fail_after(60):
            await home.differences.open(a[0], ())
            await home.differences.subtract()
        nursery.cancel_scope.cancel()


async def test_an_index_whose_sums_never_come_keeps_no_rows(home: Home, monkeypatch: Any) -> None:
    a, b = await home.shelf.contribute("a"), await home.shelf.contribute("b")
    _, index, _ = await trained(home, [a, b])
    read = home.get

    async def get(name: Any, most: int | None = None) -> Any:
        if name == index.sums:
            await trio.sleep_forever()
        return await read(name, most)

    monkeypatch.setattr(home, "get", get)
    monkeypatch.setattr("commonlore.peer.attribution.heard_differences.HEAR_PATIENCE_S", 0.01)
    await home.withdrawals.take(signed("a", a[0]))
    assert not home.shelf.has(index.rows)


async def test_whose_difference_is_told_is_this_peers_own(home: Home) -> None:
    a, b = await home.shelf.contribute("a"), await home.shelf.contribute("b")
    _, index, name = await trained(home, [a, b])
    forged = await forged_difference(home, name, index, a)
    await home.differences.hear([forged], {a[0]})
    await home.withdrawals.take(signed("a", a[0]))
    assert forged in (await home.differences.known()).by_index[name]
    latest = await home.differences.latest(name)
    assert latest is not None
    raw = await home.get(latest[0], SIZE)
    assert open_sealed(raw, (IndexDifference,), SIZE).public_key == OWN.public
    home.shelf.kept[forged] = b"no difference"
    assert await home.differences.latest(name) == latest


async def test_rows_that_a_lie_left_are_no_remainder(home: Home) -> None:
    """Of an index whose rows are not here, a difference that does not hold is not gone on from."""
    a, b = await home.shelf.contribute("a", *pairs("a", 2)), await home.shelf.contribute("b", *pairs("b", 2))
    c = await home.shelf.contribute("c")
    _, _, name = await trained(home, [a, b, c])
    await home.withdrawals.take(signed("a", a[0]))
    honest, record = await home.differences.latest(name)  # type: ignore[misc]
    assert record.kept is not None
    kept = bytearray(await home.get(record.kept, SIZE))
    kept[-1] ^= 1
    forged = await home.put(seal(STRANGER, replace(record, kept=await home.put(bytes(kept))), SIZE))
    home.shelf.forget(record.kept)
    await remember_difference(home, name, forged, True, home.has)  # type: ignore[arg-type]
    await home.withdrawals.take(signed("b", b[0]))
    assert (await home.differences.known()).by_index[name] == (forged, honest), "nothing is made of it"


async def test_an_index_that_came_after_the_withdrawal_is_swept(home: Home) -> None:
    """It was being made, or somebody still had it."""
    a, b = await home.shelf.contribute("a"), await home.shelf.contribute("b")
    _, index, name = await trained(home, [a, b])
    rows = await home.get(index.rows, SIZE)
    home.shelf.forget(index.rows)
    await home.withdrawals.sweep()
    await home.withdrawals.take(signed("a", a[0]))
    await home.put(rows)
    await home.withdrawals.sweep()
    assert not home.shelf.has(index.rows)
    assert await home.differences.latest(name) is not None


async def test_how_many_indexes_have_differences_is_bounded(home: Home, monkeypatch: Any) -> None:
    monkeypatch.setattr("commonlore.peer.attribution.known_differences.MAX_INDEXES", 3)
    held = await home.put(b"an index that is here")
    for name in (held, *(cid_of(bytes([n])) for n in range(9))):
        await remember_difference(home, name, cid_of(b"difference"), False, home.has)  # type: ignore[arg-type]
    known = (await known_differences(home)).by_index  # type: ignore[arg-type]
    assert len(known) == 3
    assert held in known


async def test_one_withdrawal_that_does_not_hold_keeps_no_other_from_it(home: Home) -> None:
    shelf = home.shelf
    a, b, c = [await shelf.contribute(name) for name in "abc"]
    first = await shelf.publish([a, b, c])
    false = sign_withdrawal(STRANGER, "codes", b[0], "not mine", NOW_MS)
    listed = await home.withdrawals.list_with(first[1], [signed("a", a[0]), false, signed("c", c[0])])
    version = await shelf.put(encode(replace(first[1], withdrawn=listed)))
    assert not await home.withdrawals.follow(version)
    assert shelf.catalog.withdrawn == {a[0], c[0]}
    assert shelf.has(b[1].header.rows)


async def test_rows_that_stand_in_another_shard_stay_for_that(home: Home) -> None:
    shelf = home.shelf
    a = await shelf.contribute("a", *pairs("a", 2))
    shelf.pinned.add(a[0])
    await home.withdrawals.take(await forged_shard(home, a[1]))
    assert shelf.has(a[1].header.rows), "this home published them"
    again = await shelf.put(encode(replace(a[1], header=replace(a[1].header, datanet="other"))))
    shelf.pinned.clear()
    await home.withdrawals.take(sign_withdrawal(KEYS["a"], "other", again, "only there", NOW_MS))
    assert shelf.has(a[1].header.rows), "their contributor withdrew them elsewhere"
    await home.withdrawals.take(signed("a", a[0]))
    assert not shelf.has(a[1].header.rows)
