"""Takedown: what goes, what is refused from then on, and who may order it."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import trio

from commonlore.peer.catalog import Catalog
from commonlore.peer.datanets.leftovers import forget_jobs
from commonlore.peer.datanets.retrieving import Retriever
from commonlore.peer.datanets.shards import pull_datanet
from commonlore.peer.datanets.withdrawing import (
    Derived,
    Tainted,
    Withdrawals,
    known_withdrawn,
    shards_of,
    sign_withdrawal,
)
from commonlore.protocol.content.manifests import AdapterManifest, PriorWeight, Recipe, Row
from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.encoding.codec import encode, encode_value
from commonlore.protocol.errors import (
    InvalidAdapter,
    InvalidShard,
    InvalidSignature,
    NotFound,
    RemoteProtocolError,
)
from commonlore.protocol.gossip.adverts import AdapterRecord
from commonlore.protocol.ids import PeerId, cid_of
from commonlore.protocol.signing.envelope import Sealed
from commonlore.protocol.signing.keys import PeerKey
from commonlore.worker.factory.admission import plan_admission, write_admission
from commonlore.worker.factory.job import Pair, TrainConfig, TrainJob, write_job

KEYS = {name: PeerKey.generate(name.encode() * 32) for name in "ab"}
RECIPE = Recipe("a trainer", 40, 8, 1, 8, 16, 0, 1, "bf16", "user: {question}")


class Memory:
    """Settings in memory."""

    def __init__(self):
        self.values = {}

    async def get(self, name):
        return self.values.get(name)

    async def put(self, name, value):
        self.values[name] = value


class Prompts:
    """Shards of which prompts were to be forgotten."""

    def __init__(self):
        self.shards = []

    async def forget_prompts_with(self, shard):
        self.shards.append(shard)
        return 1


@pytest.fixture
def kept():
    return SimpleNamespace(settings=Memory(), ledger=Prompts())


class NoIndexes:
    """A home without gradient indexes."""

    async def open(self, shard, rows):
        pass

    async def hear(self, listed, withdrawn):
        pass

    async def subtract(self):
        pass


@pytest.fixture
def withdrawals(shelf, kept, tmp_path):
    retriever = Retriever(shelf, shelf.catalog, shelf.domain, tmp_path / "retrieval")
    return Withdrawals(shelf, shelf.catalog, Derived(retriever, NoIndexes(), tmp_path / "jobs"), kept)


async def adapter_of(shelf, datanet, payee, alias="alice/icd"):
    """An announced adapter that was trained on a Datanet version."""
    manifest = AdapterManifest(
        "icd", cid_of(b"base"), cid_of(b"weights"), 9, 8, 16, ("q_proj",), bytes(32), (datanet,), RECIPE,
        None, None, DEFAULT_SPLIT, (PriorWeight(payee, 1_000_000),), "CC0-1.0", bytes(32), payee,
    )  # fmt: skip
    adapter = await shelf.put(encode(manifest))
    record = AdapterRecord(alias, adapter, manifest.base, None, None, 0, 0, 1, 1)
    shelf.catalog.learn(Sealed(record, b"k" * 32, PeerId("alice"), b""))
    return adapter


def signed(name, shard, datanet="codes"):
    return sign_withdrawal(KEYS[name], datanet, shard, "a mistake", 1_900_000_000_000)


async def test_rows_go_and_adapters_that_learnt_from_them_are_refused(shelf, withdrawals, kept):
    a, b = await shelf.contribute("a"), await shelf.contribute("b")
    both, (only_b, _) = (await shelf.publish([a, b]))[0], await shelf.publish([b])
    payee = a[1].header.payee
    tainted, clean = await adapter_of(shelf, both, payee), await adapter_of(shelf, only_b, payee, "bob/icd")
    assert await withdrawals.tainted(a[0]) == (Tainted("alice/icd", tainted),)
    await withdrawals.take(signed("a", a[0]))
    assert not shelf.has(a[1].header.rows)
    assert kept.ledger.shards == [a[0]]
    assert shelf.has(a[0])
    assert shelf.has(b[1].header.rows)
    with pytest.raises(InvalidAdapter, match="withdrawn"):
        await shelf.catalog.payable(tainted)
    assert await shelf.catalog.payable(clean)
    again = Catalog(shelf.get)
    await Withdrawals(shelf, again, None, kept).recall()
    with pytest.raises(InvalidAdapter, match="withdrawn"):
        await again.payable(tainted)


async def test_a_home_remembers_more_withdrawals_than_one_list_holds(kept):
    known = sorted(cid_of(number.to_bytes(4, "big")) for number in range(300))
    entries = encode_value([*known])
    await kept.settings.put("withdrawn", entries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("commonlore.peer.datanets.withdrawing.MAX_LIST_BYTES", len(entries) - 1)
        assert await known_withdrawn(kept.settings) == set(known)


async def test_only_the_contributor_withdraws(shelf, withdrawals):
    a, b = await shelf.contribute("a"), await shelf.contribute("b")
    with pytest.raises(InvalidSignature, match="contributor only"):
        await withdrawals.take(signed("b", a[0]))
    with pytest.raises(RemoteProtocolError, match="another shard"):
        await withdrawals.take(signed("a", a[0], "another"))
    assert shelf.has(a[1].header.rows)
    assert not shelf.catalog.withdrawn
    manifest = (await shelf.publish([a, b]))[1]
    assert await shards_of(shelf, manifest, KEYS["b"].public) == (b[0],)
    with pytest.raises(NotFound, match="no shard"):
        await shards_of(shelf, manifest, b"x" * 32)


async def test_who_hears_of_the_next_version_forgets_too(shelf, withdrawals, tmp_path):
    a, b = await shelf.contribute("a"), await shelf.contribute("b")
    first = await shelf.publish([a, b])
    listed = await withdrawals.list_with(first[1], [signed("a", a[0])])
    made = replace((await shelf.publish([b], first))[1], withdrawn=listed)
    version = await shelf.put(encode(made))
    await withdrawals.follow(version)
    assert not shelf.has(a[1].header.rows)
    assert shelf.catalog.withdrawn == {a[0]}
    third = (await shelf.publish([b], (version, made)))[1]
    assert third.withdrawn == listed  # and the versions after it say so too


async def test_a_version_without_rows_still_tells_what_was_withdrawn(shelf, withdrawals):
    a = await shelf.contribute("a")
    first = await shelf.publish([a])
    listed = await withdrawals.list_with(first[1], [signed("a", a[0])])
    version = await shelf.put(encode(replace((await shelf.publish([], first))[1], withdrawn=listed)))
    await withdrawals.follow(version)
    assert not shelf.has(a[1].header.rows)
    with pytest.raises(InvalidShard, match="version 2 has no rows left"):
        await pull_datanet(shelf, shelf.catalog, shelf.domain, version)


async def test_a_difference_that_is_nowhere_holds_no_withdrawal_up(shelf, withdrawals, monkeypatch):
    a, b = await shelf.contribute("a"), await shelf.contribute("b")
    first = await shelf.publish([a, b])
    listed = await withdrawals.list_with(first[1], [signed("a", a[0])], ([cid_of(b"nowhere")], ()))
    version = await shelf.put(encode(replace((await shelf.publish([b], first))[1], withdrawn=listed)))

    async def hear(_self, differences, withdrawn):
        raise NotFound(f"{differences} of {withdrawn}")

    monkeypatch.setattr(NoIndexes, "hear", hear)
    assert not await withdrawals.follow(version), "it is looked at again"
    assert not shelf.has(a[1].header.rows)
    assert shelf.catalog.withdrawn == {a[0]}


async def test_a_list_that_somebody_else_signed_does_nothing(shelf, withdrawals):
    a = await shelf.contribute("a")
    first = await shelf.publish([a])
    listed = await withdrawals.list_with(first[1], [signed("b", a[0])])
    version = await shelf.put(encode(replace(first[1], withdrawn=listed)))
    await withdrawals.follow(version)
    await withdrawals.follow(cid_of(b"gone"))
    assert shelf.has(a[1].header.rows)
    assert not shelf.catalog.withdrawn


def test_training_runs_that_hold_the_rows_go(tmp_path):
    gone, stays = Pair("what is it?", "amnesia"), Pair("what is it?", "vertigo")
    for name, pairs, heldout in (
        ("one", (gone, stays), ()),
        ("two", (stays,), (gone,)),
        ("three", (stays,), ()),
    ):
        write_job(tmp_path / name, TrainJob(tmp_path, pairs, heldout, TrainConfig()))
    (tmp_path / "attribution").mkdir()
    (tmp_path / "attribution" / "x.rows").write_bytes(b"rows")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "job.json").write_text(json.dumps({"rows": 1}))
    write_job(tmp_path / "older", TrainJob(tmp_path, (gone,), (), TrainConfig()))
    job = json.loads((tmp_path / "older" / "job.json").read_text())
    job["config"]["a setting that there is no more"] = 1
    (tmp_path / "older" / "job.json").write_text(json.dumps(job))
    forget_jobs(tmp_path, [Row(*gone, bytes(32))])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attribution", "three"], (
        "nor what is unreadable"
    )
    assert not list((tmp_path / "attribution").iterdir())


def test_training_runs_within_measurements_and_audits_go_too(tmp_path):
    gone, stays = Pair("what is it?", "amnesia"), Pair("what is it?", "vertigo")
    for name, pairs in (
        ("faithfulness/one", (gone,)),
        ("audit/two/three", (gone, stays)),
        ("audit/four", (stays,)),
    ):
        write_job(tmp_path / name, TrainJob(tmp_path, pairs, (), TrainConfig()))
    forget_jobs(tmp_path, [Row(*gone, bytes(32))])
    assert [path.parent.name for path in tmp_path.rglob("job.json")] == ["four"]


def test_tests_of_admission_that_hold_the_rows_go_too(tmp_path):
    kinds = [
        [Pair(f"what is {name} {n}?", f"it is {name} with the number {n}") for n in range(9)] for name in "ab"
    ]
    for name, rows in (("both", kinds), ("other", kinds[1:])):
        write_admission(tmp_path / f"{name}-admission", plan_admission(tmp_path, rows))
    for own in kinds[0]:
        text = (tmp_path / "both-admission" / "admission.json").read_text()
        assert own.answer in text
    (tmp_path / "attribution").mkdir()
    (tmp_path / "attribution" / "x.measured-rows").write_bytes(b"vectors")
    forget_jobs(tmp_path, [Row(*kinds[0][4], bytes(32))])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attribution", "other-admission"]
    assert not list((tmp_path / "attribution").iterdir())


async def test_a_version_that_cannot_be_read_yet_is_looked_at_again(shelf, withdrawals, monkeypatch):
    a, b = await shelf.contribute("a"), await shelf.contribute("b")
    first = await shelf.publish([a, b])
    listed = await withdrawals.list_with(first[1], [signed("a", a[0])])
    version = await shelf.put(encode(replace((await shelf.publish([b], first))[1], withdrawn=listed)))
    away = shelf.kept.pop(listed)

    async def back(_seconds):
        shelf.kept[listed] = away

    monkeypatch.setattr(trio, "sleep", back)
    await withdrawals.keep_following(version)
    assert shelf.catalog.withdrawn == {a[0]}
    assert not shelf.has(a[1].header.rows)


async def test_a_version_with_a_withdrawn_shard_is_not_fetched_again(shelf, withdrawals):
    a, b = await shelf.contribute("a"), await shelf.contribute("b")
    both, (only_b, _) = (await shelf.publish([a, b]))[0], await shelf.publish([b])
    held = {cid: await shelf.get(cid, 1 << 20) for cid in (a[1].header.rows,)}
    await withdrawals.take(signed("a", a[0]))
    for content in held.values():
        await shelf.put(content)  # another peer has them still
    with pytest.raises(InvalidShard, match="withdrawn"):
        await pull_datanet(shelf, shelf.catalog, shelf.domain, both)
    assert len((await pull_datanet(shelf, shelf.catalog, shelf.domain, only_b)).shards) == 1


async def test_an_index_that_cannot_be_read_is_deleted_with_what_was_never_finished(
    shelf, withdrawals, kept, tmp_path
):
    a, b = await shelf.contribute("a"), await shelf.contribute("b")
    folder = tmp_path / "retrieval"
    folder.mkdir()
    for name in ("damaged.sqlite3", "killed.sqlite3.77.part"):
        (folder / name).write_bytes(b"rows of a" * 999)
    await withdrawals.take(signed("a", a[0]))
    assert not list(folder.iterdir())
    assert shelf.has(b[1].header.rows)


async def test_a_takedown_that_was_cut_short_is_done_when_heard_of_again(
    shelf, withdrawals, kept, monkeypatch
):
    a = await shelf.contribute("a")

    def crash(cid):
        raise OSError(f"the machine died before {cid} was gone")

    monkeypatch.setattr(shelf, "forget", crash)
    with pytest.raises(OSError, match="died"):
        await withdrawals.take(signed("a", a[0]))
    monkeypatch.undo()
    again = Catalog(shelf.get)
    await Withdrawals(shelf, again, None, kept).recall()
    assert not again.withdrawn
    await withdrawals.take(signed("a", a[0]))
    assert not shelf.has(a[1].header.rows)
