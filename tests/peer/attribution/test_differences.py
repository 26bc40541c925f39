"""Withdrawn rows leave the indexes of a home, and what is left still shows every sum exactly."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from commonlore.peer.attribution.difference_evidence import (
    TakenBack,
    does_not_hold,
    read_difference,
    what_is_left,
)
from commonlore.peer.attribution.difference_records import announce_difference
from commonlore.peer.attribution.differences import Differences
from commonlore.peer.attribution.index_evidence import IndexEvidence
from commonlore.peer.catalog import Catalog
from commonlore.peer.datanets.retrieving import Retriever
from commonlore.peer.datanets.withdrawing import Derived, Withdrawals, sign_withdrawal
from commonlore.protocol.attribution.differences import MAX_DIFFERENCE_BYTES, IndexDifference
from commonlore.protocol.attribution.scoring import read_sums, sum_rows, write_sums
from commonlore.protocol.attribution.written_rows import write_row
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
from commonlore.protocol.encoding.merkle import MerkleTree
from commonlore.protocol.errors import NotFound, RemoteProtocolError
from commonlore.protocol.gossip.adverts import AdapterRecord
from commonlore.protocol.ids import cid_of
from commonlore.protocol.signing.envelope import open_sealed, seal
from commonlore.protocol.signing.keys import PeerKey
from commonlore.worker.attribution.index import check_index, leaf_of

WIDTH = 64
NOW_MS = 1_900_000_000_000
AUTHOR, OWN = PeerKey.generate(b"u" * 32), PeerKey.generate(b"o" * 32)
KEYS = {name: PeerKey.generate(name.encode() * 32) for name in "abc"}
SIZE = 1 << 20


class Home:
    """A home with its blobs in memory, and two contributors' rows in an index."""

    def __init__(self, shelf: Any, tmp_path: Any) -> None:
        self.shelf, self.folder = shelf, tmp_path
        self.values: dict[str, bytes] = {}
        self.kept = SimpleNamespace(settings=self, ledger=self)
        clock = SimpleNamespace(now_ms=lambda: NOW_MS)
        self.differences = Differences(self, shelf.catalog, self, OWN, clock)  # type: ignore[arg-type]
        retriever = Retriever(shelf, shelf.catalog, shelf.domain, tmp_path / "retrieval")
        derived = Derived(retriever, self.differences, tmp_path / "jobs")
        self.withdrawals = Withdrawals(self, shelf.catalog, derived, self.kept)  # type: ignore[arg-type]

    async def get(self, name: Any, most: int | None = None) -> Any:
        """A setting, or a blob of at most so many bytes."""
        if most is None:
            return self.values.get(name)
        data = await self.shelf.get(name)
        if len(data) > most:
            raise RemoteProtocolError(f"{len(data)} bytes; at most {most}")
        return data

    async def put(self, name: Any, value: bytes | None = None) -> Any:
        if value is None:
            return await self.shelf.put(name)
        self.values[name] = value
        return None

    async def path(self, cid: Any, max_size: int) -> Any:
        data = await self.get(cid, max_size)
        path = self.folder / str(cid)
        path.write_bytes(data)
        return path

    def has(self, cid: Any) -> bool:
        return self.shelf.has(cid)

    def forget(self, cid: Any) -> None:
        self.shelf.forget(cid)

    def is_pinned(self, cid: Any) -> bool:
        return self.shelf.is_pinned(cid)

    async def starting_with(self, beginning: bytes) -> Any:
        return await self.shelf.starting_with(beginning)

    async def forget_prompts_with(self, _shard: Any) -> int:
        return 0

    async def evidence(self, index: Any) -> IndexEvidence:
        sealed = open_sealed(await self.get(index, SIZE), (IndexManifest,), SIZE)
        return IndexEvidence(sealed, None, await self.get(sealed.record.sums, SIZE), b"")

    async def left(self, index: Any) -> Any:
        names = (await self.differences.known()).by_index.get(index, ())
        taken = TakenBack(self.shelf.catalog.withdrawn)
        return await what_is_left(self, names, (index, await self.evidence(index)), taken, NOW_MS)

    def holds(self, data: bytes) -> bool:
        """Whether these bytes stand in any blob."""
        return any(data in blob for blob in self.shelf.kept.values())


@pytest.fixture
def home(shelf: Any, tmp_path: Any) -> Home:
    return Home(shelf, tmp_path)


async def indexed(shelf: Any, *shards: Any) -> tuple[Any, IndexManifest, dict[Any, list[Any]]]:
    """A sealed index of all rows of these shards: its name, itself, each contributor's written rows."""
    drawn = np.random.default_rng(5)
    by_payee: dict[Any, list[Any]] = {}
    for _, shard in shards:
        rows = decode_rows(await shelf.get(shard.header.rows))
        by_payee.setdefault(shard.header.payee, []).extend(row_hash(row) for row in rows)
    vectors = {
        payee: [
            (drawn.integers(0, 2, WIDTH) * 2 - 1).astype(np.int8) * np.int8(9 + n) for n in range(len(own))
        ]
        for payee, own in by_payee.items()
    }
    payees = sorted(by_payee)
    hashes = tuple(digest for payee in payees for digest in by_payee[payee])
    written = [write_row(vector) for payee in payees for vector in vectors[payee]]
    sums = write_sums(sum_rows(np.stack(vectors[payee])) for payee in payees)
    leaves = [leaf_of(digest, row) for digest, row in zip(hashes, written, strict=True)]
    index = IndexManifest(
        cid_of(b"adapter"), "m", WIDTH, bytes(32), len(hashes), await shelf.put(b"".join(written)),
        MerkleTree(leaves).root, hashes,
        tuple(IndexedContributor(payee, len(by_payee[payee])) for payee in payees), await shelf.put(sums),
    )  # fmt: skip
    check_index(index, b"".join(written), sums)
    rows = {payee: [write_row(vector) for vector in vectors[payee]] for payee in payees}
    return await shelf.put(seal(AUTHOR, index, SIZE)), index, rows


def pairs(name: str, count: int) -> list[tuple[str, str]]:
    return [(f"question {n} of {name}", f"answer {n} of {name}") for n in range(count)]


def signed(name: str, shard: Any) -> Any:
    return sign_withdrawal(KEYS[name], "codes", shard, "a mistake", NOW_MS)


async def test_the_sum_before_less_the_difference_is_the_sum_of_the_rows_that_stay(home: Home) -> None:
    shelf = home.shelf
    a, b = await shelf.contribute("a", *pairs("a", 3)), await shelf.contribute("b", *pairs("b", 2))
    name, index, rows = await indexed(shelf, a, b)
    mine, other = a[1].header.payee, b[1].header.payee
    before = dict(zip(index.payees, read_sums(index, await home.get(index.sums, SIZE)), strict=True))
    await home.withdrawals.take(signed("a", a[0]))

    assert not shelf.has(index.rows)
    assert not any(home.holds(row) for row in rows[mine]), "no vector of a withdrawn row is in any blob"
    assert all(home.holds(row) for row in rows[other])
    left = await home.left(name)
    difference = left.sealed.record
    assert left.sealed.public_key == OWN.public
    assert difference.contributors == (IndexedContributor(mine, 3),)
    assert [opened.shard for opened in difference.shards] == [a[0]]
    assert does_not_hold(await home.evidence(name), left) == ""
    assert (left.taken[mine] == before[mine]).all(), "nothing of this contributor's is left"
    assert bytes(left.remainder.kept) == b"".join(rows[other])
    assert [index.owners[position] for position in left.remainder.gone] == [mine] * 3


async def test_who_keeps_some_of_its_rows_keeps_their_sum(home: Home) -> None:
    shelf = home.shelf
    one, two = (
        await shelf.contribute("a", *pairs("a", 2)),
        await shelf.contribute("a", *pairs("more of a", 3)),
    )
    name, index, rows = await indexed(shelf, one, two)
    payee = one[1].header.payee
    (before,) = read_sums(index, await home.get(index.sums, SIZE))
    await home.withdrawals.take(signed("a", two[0]))
    left = await home.left(name)
    stays = np.stack([np.frombuffer(row, np.uint8) for row in rows[payee][:2]])
    signs = 2 * np.unpackbits(stays[:, 1:], axis=1).astype(np.int64) - 1
    assert (before - left.taken[payee] == (signs * stays[:, :1]).sum(0)).all()
    assert left.sealed.record.contributors == (IndexedContributor(payee, 3),)


async def test_a_second_withdrawal_takes_more_out_of_what_the_first_left(home: Home) -> None:
    shelf = home.shelf
    a, b = await shelf.contribute("a", *pairs("a", 2)), await shelf.contribute("b", *pairs("b", 2))
    c = await shelf.contribute("c", *pairs("c", 1))
    name, index, rows = await indexed(shelf, a, b, c)
    await home.withdrawals.take(signed("a", a[0]))
    first = (await home.left(name)).sealed.record
    await home.withdrawals.take(signed("b", b[0]))
    left = await home.left(name)
    assert does_not_hold(await home.evidence(name), left) == ""
    assert {opened.shard for opened in left.sealed.record.shards} == {a[0], b[0]}
    assert not any(home.holds(row) for who in (a, b) for row in rows[who[1].header.payee])
    assert not shelf.has(first.kept)
    assert (await home.differences.latest(name))[1].row_count == 4  # type: ignore[index]
    await home.withdrawals.take(signed("c", c[0]))
    left = await home.left(name)
    assert (left.sealed.record.kept, left.sealed.record.row_count) == (None, index.row_count)
    assert does_not_hold(await home.evidence(name), left) == ""
    before = len(shelf.kept)
    await home.differences.subtract()
    assert len(shelf.kept) == before, "done again it changes nothing"


async def test_an_index_of_other_rows_stays_whole(home: Home) -> None:
    shelf = home.shelf
    a, b = await shelf.contribute("a"), await shelf.contribute("b")
    name, index, _ = await indexed(shelf, b)
    await home.withdrawals.take(signed("a", a[0]))
    assert shelf.has(index.rows)
    assert await home.differences.latest(name) is None


async def test_who_never_had_the_rows_learns_of_the_difference_by_the_version(
    home: Home, shelf: Any, tmp_path: Any
) -> None:
    a, b = await shelf.contribute("a", *pairs("a", 2)), await shelf.contribute("b")
    name, index, rows = await indexed(shelf, a, b)
    first = await shelf.publish([a, b])
    whole = await shelf.get(index.rows)
    sealed = signed("a", a[0])
    await home.withdrawals.take(sealed)
    made = (await home.differences.latest(name))[0]  # type: ignore[index]
    listed = await home.withdrawals.list_with(first[1], [sealed], ([made], ()))
    version = await shelf.put(encode(replace((await shelf.publish([b], first))[1], withdrawn=listed)))
    shelf.catalog = Catalog(shelf.get)
    other = Home(shelf, tmp_path)
    await shelf.put(whole)  # of this home the rows of the shard are gone, and the index's are not
    assert await other.withdrawals.follow(version)
    assert not shelf.has(index.rows)
    assert not any(other.holds(row) for row in rows[a[1].header.payee])
    left = await other.left(name)
    assert does_not_hold(await other.evidence(name), left) == ""
    later = await other.withdrawals.list_with(
        replace(first[1], withdrawn=listed), [], ([cid_of(b"x")], [made])
    )
    again = await other.withdrawals.of_version(replace(first[1], withdrawn=later))
    assert again.differences == (cid_of(b"x"),), "what a later one outdates is named no more"


async def test_rows_that_cannot_be_told_apart_go_whole(home: Home) -> None:
    shelf = home.shelf
    a, b = await shelf.contribute("a"), await shelf.contribute("b")
    datanet = (await shelf.publish([a, b]))[0]
    recipe = Recipe("a trainer", 40, 8, 1, 8, 16, 0, 1, "bf16", "user: {question}")
    payee = a[1].header.payee
    adapter = await shelf.put(
        encode(
            AdapterManifest(
                "icd",
                cid_of(b"base"),
                cid_of(b"weights"),
                9,
                8,
                16,
                ("q_proj",),
                bytes(32),
                (datanet,),
                recipe,
                None,
                None,
                DEFAULT_SPLIT,
                (PriorWeight(payee, 1_000_000),),
                "CC0-1.0",
                bytes(32),
                payee,
            )
        )
    )
    _, index, _ = await indexed(shelf, a, b)
    name = await shelf.put(seal(AUTHOR, replace(index, adapter=adapter), SIZE))
    shelf.forget(a[1].header.rows)
    await home.withdrawals.take(signed("a", a[0]))
    assert not shelf.has(index.rows)
    assert await home.left(name) is None


FORGERIES: dict[str, dict[str, Any]] = {
    "another index": {"index": cid_of(b"another")},
    "another adapter": {"adapter": cid_of(b"another")},
    "other counts": {"contributors": (IndexedContributor(b"\x00" * 20, 3),)},  # type: ignore[arg-type]
    "rows that stay": {"kept": None},
    "a moment to come": {"issued_ms": NOW_MS + 60_000},
}


@pytest.mark.parametrize("lie", FORGERIES)
async def test_a_difference_that_lies_is_refused(home: Home, lie: str) -> None:
    name, index, honest = await withdrawn_once(home)
    forged = await home.put(seal(KEYS["c"], replace(honest, **FORGERIES[lie]), MAX_DIFFERENCE_BYTES))
    with pytest.raises((RemoteProtocolError, NotFound)):
        await read_difference(home, forged, (name, index), NOW_MS)


async def withdrawn_once(home: Home) -> tuple[Any, IndexManifest, IndexDifference]:
    shelf = home.shelf
    a, b = await shelf.contribute("a", *pairs("a", 3)), await shelf.contribute("b", *pairs("b", 2))
    name, index, _ = await indexed(shelf, a, b)
    await home.withdrawals.take(signed("a", a[0]))
    return name, index, (await home.left(name)).sealed.record


async def test_a_false_difference_stands_behind_the_one_that_holds(home: Home) -> None:
    name, index, honest = await withdrawn_once(home)
    sums = bytearray(await home.get(honest.sums, SIZE))
    sums[0] ^= 1
    kept = bytearray(await home.get(honest.kept, SIZE))
    kept[-1] ^= 1
    assert honest.kept is not None
    taken = TakenBack(home.shelf.catalog.withdrawn)
    for change in ({"sums": await home.put(bytes(sums))}, {"kept": await home.put(bytes(kept))}):
        forged = await home.put(seal(KEYS["c"], replace(honest, **change), MAX_DIFFERENCE_BYTES))
        evidence = await home.evidence(name)
        found = await what_is_left(home, [forged], (name, evidence), taken, NOW_MS)
        assert found is not None
        assert does_not_hold(evidence, found)
        made = (await home.differences.latest(name))[0]  # type: ignore[index]
        found = await what_is_left(home, [forged, made], (name, evidence), taken, NOW_MS)
        assert found is not None
        assert found.sealed.record == honest
        assert await what_is_left(home, [made], (name, evidence), TakenBack(), NOW_MS) is None, "kept shards"
        known = {digest: owner for owner, digest in zip(index.owners, index.row_hashes, strict=True)}
        assert await what_is_left(home, [made], (name, evidence), replace(taken, rows=known), NOW_MS) is None
        await home.differences.hear([forged], [])
        assert forged not in (await home.differences.known()).by_index[name], "of no shard of that version"
    gone = await home.get(honest.gone, SIZE)
    for data in (gone[36:], gone + gone[:36], gone[::-1], b""):
        forged = await home.put(
            seal(KEYS["c"], replace(honest, gone=await home.put(data)), MAX_DIFFERENCE_BYTES)
        )
        assert await what_is_left(home, [forged], (name, await home.evidence(name)), taken, NOW_MS) is None


async def test_an_author_tells_of_what_left_its_index_and_others_remember(home: Home) -> None:
    told: list[Any] = []

    async def made(index: Any, difference: Any) -> None:
        told.append((index, difference))

    home.differences.made = made
    shelf = home.shelf
    a, b = await shelf.contribute("a", *pairs("a", 3)), await shelf.contribute("b", *pairs("b", 2))
    name = await home.put(seal(OWN, (await indexed(shelf, a, b))[1], SIZE))
    await home.withdrawals.take(signed("a", a[0]))
    difference = dict(told)[name]
    honest = open_sealed(await home.get(difference, SIZE), (IndexDifference,), SIZE).record
    other = Home(home.shelf, home.folder)
    for author, known in ((KEYS["c"].public, {}), (OWN.public, {name: (difference,)})):
        await other.differences.hear_author(name, difference, author)
        assert (await other.differences.known()).by_index == known, "the announcer's own alone"
    await other.differences.hear_author(name, cid_of(b"nowhere"), OWN.public)
    found = await other.differences.known()
    assert found.by_index == {name: (difference,)}
    assert found.opened == {opened.shard: opened.rows for opened in honest.shards}


async def test_the_record_of_an_adapter_names_it(home: Home) -> None:
    mine = AdapterRecord("ann/a", cid_of(b"adapter"), cid_of(b"base"), cid_of(b"index"), None, 0, 0, 1, 1)
    other = replace(mine, alias="ann/b", index=cid_of(b"another index"))
    announced: list[Any] = []

    async def announce(record: Any) -> None:
        announced.append(record)

    async def next_seq() -> int:
        return 7

    node: Any = SimpleNamespace(
        catalog=SimpleNamespace(announced_by=lambda _key: (mine, other)),
        keys=SimpleNamespace(peer=OWN),
        clock=SimpleNamespace(now_ms=lambda: NOW_MS),
        next_seq=next_seq,
        announce=announce,
    )
    await announce_difference(node, cid_of(b"index"), cid_of(b"difference"))
    assert announced == [replace(mine, difference=cid_of(b"difference"), seq=7, issued_ms=NOW_MS)]


@pytest.mark.parametrize("damage", ["rows", "sums"])
async def test_an_index_that_cannot_be_divided_keeps_no_vector(home: Home, damage: str) -> None:
    shelf = home.shelf
    a, b = await shelf.contribute("a", *pairs("a", 2)), await shelf.contribute("b")
    name, index, _ = await indexed(shelf, a, b)
    shelf.forget(name)
    rows = index.rows
    if damage == "rows":
        rows = await shelf.put((await shelf.get(index.rows))[:-1])
    else:
        shelf.forget(index.sums)
    await shelf.put(seal(OWN, replace(index, rows=rows), SIZE))
    await home.withdrawals.take(signed("a", a[0]))
    assert not shelf.has(rows)
    assert (await home.differences.known()).by_index == {}
