"""What people are told of a withdrawal: whose rows, which adapters, what left indexes, what came after."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from commonlore.peer.datanets.shards import record_of
from commonlore.peer.datanets.withdrawing import sign_withdrawal
from commonlore.peer.gateway.takedowns import Takedowns
from commonlore.peer.training.answering_withdrawals import find_retrained, retrained_in
from commonlore.protocol.attribution.differences import IndexDifference, OpenedShard
from commonlore.protocol.content.manifests import AdapterManifest, IndexedContributor, PriorWeight, Recipe
from commonlore.protocol.content.retraining import Retrained
from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.content.withdrawals import WithdrawalList, decode_withdrawals, encode_withdrawals
from commonlore.protocol.encoding.codec import decode, encode, encode_value
from commonlore.protocol.errors import ProtocolError
from commonlore.protocol.gossip.adverts import AdapterRecord
from commonlore.protocol.ids import PeerId, cid_of
from commonlore.protocol.signing.envelope import Sealed, open_sealed, seal
from commonlore.protocol.signing.keys import PeerKey

NOW_MS = 1_900_000_000_000
KEY = PeerKey.generate(b"a" * 32)
RECIPE = Recipe("a trainer", 40, 8, 1, 8, 16, 0, 1, "bf16", "user: {question}")


class Scene:
    """A Datanet of a and b, of which a's shard was withdrawn; an adapter of before."""

    def __init__(self, shelf: Any) -> None:
        self.shelf = shelf
        self.takedowns = Takedowns(shelf.catalog, shelf, NOW_MS)
        keys = SimpleNamespace(peer=KEY)
        self.node: Any = SimpleNamespace(catalog=shelf.catalog, keys=keys)

    async def set(self) -> None:
        shelf = self.shelf
        self.a, self.b = await shelf.contribute("a"), await shelf.contribute("b")
        self.first = await shelf.publish([self.a, self.b])
        self.old = await self.announce("ann/codes", self.first[0], 1)
        sealed = sign_withdrawal(KEY, "codes", self.a[0], "a mistake", NOW_MS)
        payee = self.a[1].header.payee
        difference = IndexDifference(
            self.old, cid_of(b"index"), (OpenedShard(self.a[0], cid_of(b"hashes")),), cid_of(b"gone"), None,
            cid_of(b"sums"), (IndexedContributor(payee, 1),), NOW_MS,
        )  # fmt: skip
        self.difference = await shelf.put(seal(KEY, difference, 1 << 18))
        listed = await shelf.put(encode_withdrawals(WithdrawalList({self.a[0]: sealed}, (self.difference,))))
        made = replace((await shelf.publish([self.b], self.first))[1], withdrawn=listed)
        self.second = (await shelf.put(encode(made)), made)
        shelf.catalog.learn(Sealed(record_of(*self.second, 2, 2), b"c" * 32, PeerId("c"), b""))
        shelf.catalog.withdrawn.add(self.a[0])

    async def announce(self, alias: str, datanet: Any, seq: int, retrained: Any = None) -> Any:
        payee = self.b[1].header.payee
        manifest = AdapterManifest(
            "codes", cid_of(b"base"), cid_of(b"weights"), 9, 8, 16, ("q_proj",), bytes(32), (datanet,),
            RECIPE, None, None, DEFAULT_SPLIT, (PriorWeight(payee, 1_000_000),), "CC0-1.0", KEY.public, payee,
            retrained=retrained,
        )  # fmt: skip
        adapter = await self.shelf.put(encode(manifest))
        record = AdapterRecord(alias, adapter, manifest.base, None, None, 0, 0, seq, seq)
        self.shelf.catalog.learn(Sealed(record, KEY.public, PeerId("ann"), b""))
        return adapter


@pytest.fixture
def scene(shelf: Any) -> Scene:
    return Scene(shelf)


async def test_a_reader_sees_what_became_of_an_adapter(scene: Scene) -> None:
    await scene.set()
    told = await scene.takedowns.of_datanet("codes")
    assert (told["version"], told["rows"], told["contributors"]) == (2, 1, ["b"])
    (withdrawn,), (learnt,) = told["withdrawn"], told["learnt_from_it"]
    assert (withdrawn["contributor"], withdrawn["rows"], withdrawn["reason"]) == ("a", 1, "a mistake")
    assert (learnt["alias"], learnt["adapter"], learnt["difference"]) == (
        "ann/codes", scene.old, scene.difference
    )  # fmt: skip
    assert [(each["contributor"], each["rows"]) for each in learnt["rows_taken"]] == [("a", 1)]
    assert learnt["retrained_as"] == []
    old = decode(AdapterManifest, await scene.shelf.get(scene.old))
    said = await scene.takedowns.of_adapter(scene.old, old)
    assert "1 rows of a in Datanet codes" in said["withdrawn"]
    assert said["withdrawn"].endswith("refused since; not trained again yet")
    assert said["retrained"] is None


async def test_what_strangers_say_of_an_adapter_is_not_told(scene: Scene) -> None:
    """Neither a difference nor an adapter that says to take another's place tells what that learnt from."""
    await scene.set()
    clean = await scene.announce("ann/clean", scene.second[0], 2)
    liar = Retrained((clean,), (scene.a[0],))
    await scene.announce("sly/codes", scene.second[0], 3, liar)
    raw = await scene.shelf.get(scene.difference)
    record = open_sealed(raw, (IndexDifference,), 1 << 18).record
    forged = await scene.shelf.put(seal(KEY, replace(record, adapter=clean), 1 << 18))
    made = scene.second[1]
    listed = decode_withdrawals(await scene.shelf.get(made.withdrawn))
    named = await scene.shelf.put(encode_withdrawals(replace(listed, differences=(forged, scene.difference))))
    third = replace(made, version=3, withdrawn=named)
    record_3 = record_of(await scene.shelf.put(encode(third)), third, 3, 3)
    scene.shelf.catalog.learn(Sealed(record_3, b"c" * 32, PeerId("c"), b""))
    told = await scene.takedowns.of_datanet("codes")
    assert [each["adapter"] for each in told["learnt_from_it"]] == [scene.old]


async def test_what_does_not_come_is_waited_for_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await scene.set()
    monkeypatch.setattr("commonlore.peer.gateway.takedowns.PATIENCE_S", 0.01)
    for number in range(9):
        named = f"sly/a{number}", cid_of(bytes([number])), cid_of(b"base")
        record = AdapterRecord(*named, None, None, 0, 0, 9, 9)
        scene.shelf.catalog.learn(Sealed(record, KEY.public, PeerId("sly"), b""))
    read, waited = scene.shelf.catalog.adapter, list[float]()

    async def adapter(cid: Any) -> Any:
        if not scene.shelf.has(cid):
            waited.append(trio.current_effective_deadline())
            await trio.sleep_forever()
        return await read(cid)

    monkeypatch.setattr(scene.shelf.catalog, "adapter", adapter)
    told = await scene.takedowns.of_datanet("codes")
    assert [each["adapter"] for each in told["learnt_from_it"]] == [scene.old]
    assert len(waited) == 9, "each once"
    assert len(set(waited) - {-math.inf}) == 1, "until one moment, and then for none"


@pytest.mark.parametrize("alias", ["ann/codes", "ann/again"])
async def test_training_without_names_what_it_answers(scene: Scene, alias: str) -> None:
    await scene.set()
    pulled: Any = [SimpleNamespace(manifest=scene.second[1])]
    found = await find_retrained(scene.node, alias, pulled)
    assert found == Retrained((scene.old,), (scene.a[0],))
    new = await scene.announce(alias, scene.second[0], 2, found)
    told = await scene.takedowns.of_datanet("codes")
    (learnt,) = told["learnt_from_it"]
    assert (learnt["adapter"], learnt["retrained_as"]) == (scene.old, [{"alias": alias, "adapter": new}])
    old = decode(AdapterManifest, await scene.shelf.get(scene.old))
    said = await scene.takedowns.of_adapter(scene.old, old)
    assert said["withdrawn"].endswith(f"refused since; retrained without as {alias} ({new})")
    manifest = decode(AdapterManifest, await scene.shelf.get(new))
    said = await scene.takedowns.of_adapter(new, manifest)
    assert said["withdrawn"] is None
    assert said["retrained"].startswith("without 1 rows of a in Datanet codes (shard ")
    assert said["retrained"].endswith(f"taken back on 2030-03-17), in place of {scene.old}")
    lying = replace(manifest, datanets=(scene.first[0],))
    assert "NOT SO" in (await scene.takedowns.of_adapter(new, lying))["retrained"]


async def test_the_same_order_answers_the_same(scene: Scene, tmp_path: Any) -> None:
    await scene.set()
    pulled: Any = [SimpleNamespace(manifest=scene.second[1])]
    found = await retrained_in(tmp_path / "job", scene.node, "ann/codes", pulled)
    await scene.announce("ann/codes", scene.second[0], 2, found)
    assert await find_retrained(scene.node, "ann/codes", pulled) is None, "nothing of before is announced"
    assert await retrained_in(tmp_path / "job", scene.node, "ann/codes", pulled) == found
    assert await retrained_in(tmp_path / "other", scene.node, "ann/codes", pulled) is None


async def test_other_datanets_are_not_answered(scene: Scene) -> None:
    await scene.set()
    other: Any = [SimpleNamespace(manifest=replace(scene.second[1], name="others"))]
    assert await find_retrained(scene.node, "ann/others", other) is None
    scene.node.keys.peer = PeerKey.generate(b"s" * 32)
    own: Any = [SimpleNamespace(manifest=scene.second[1])]
    assert await find_retrained(scene.node, "ann/codes", own) is None, "another's adapter"


async def test_a_manifest_without_it_is_written_as_before(scene: Scene) -> None:
    await scene.set()
    assert b"retrained" not in await scene.shelf.get(scene.old)


def test_a_list_of_withdrawals_is_read_strictly() -> None:
    sealed = sign_withdrawal(KEY, "codes", cid_of(b"shard"), "", NOW_MS)
    named = cid_of(b"difference")
    listed = WithdrawalList({cid_of(b"shard"): sealed}, (named,))
    assert decode_withdrawals(encode_withdrawals(listed)) == listed
    assert decode_withdrawals(encode_value([sealed.raw])).differences == (), "as it was written before"
    for wrong in ([named, sealed.raw], [sealed.raw, 7], {"a": 1}, ["no cid"], [named] * 4_097):
        with pytest.raises(ProtocolError):
            decode_withdrawals(encode_value(wrong))
