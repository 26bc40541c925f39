"""What others than its author say of an adapter's scores: told, never taken for true."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from commonlore.peer.attribution.faithfulness import Said, announce
from commonlore.peer.attribution.others_measured import OtherMeasurement, others_of_index, tell_others
from commonlore.protocol.attribution.faithfulness import Correlations, Faithfulness, to_ppm
from commonlore.protocol.content.manifests import AdapterManifest, PriorWeight, Recipe
from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.encoding.codec import record_cid
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import ConfigError, NotFound, RemoteProtocolError
from commonlore.protocol.gossip.adverts import AdapterRecord, MeasurementRecord
from commonlore.protocol.ids import Address, Cid, PeerId, cid_of, peer_id_of
from commonlore.protocol.signing.envelope import seal
from commonlore.protocol.signing.keys import PeerKey

AUTHOR, BEN, CAT, DAN = (PeerKey.generate(name * 32) for name in (b"a", b"b", b"c", b"d"))
INDEX, PAYEE = cid_of(b"index"), Address(b"p" * 20)
MANIFEST = AdapterManifest(
    "icd", cid_of(b"base"), cid_of(b"weights"), 7, 8, 16, ("q_proj",), bytes(32), (cid_of(b"d"),),
    Recipe("test", 1, 1, 1, 8, 16, 0, 1, "fp32", "{question}"), None, None, DEFAULT_SPLIT,
    (PriorWeight(PAYEE, PPM),), "CC0-1.0", AUTHOR.public, PAYEE,
)  # fmt: skip
ADAPTER = record_cid(MANIFEST)


def measured(lds: float, **changes: object) -> Faithfulness:
    reached = Correlations(to_ppm(lds), 100_000, to_ppm(0.3), to_ppm(0.0), 100_000)
    return replace(Faithfulness(ADAPTER, INDEX, "m/1", 6, 10, 24, 12, 4, reached), **changes)


class Shelf:
    """A catalog and its blobs, as far as they matter here."""

    def __init__(self) -> None:
        self.records: list[MeasurementRecord] = []
        self.blobs: dict[Cid, bytes] = {}

    def say(self, key: PeerKey, found: Faithfulness, sealer: PeerKey | None = None) -> None:
        raw = seal(sealer or key, found)
        self.blobs[cid_of(raw)] = raw
        self.records.append(MeasurementRecord(key.public, ADAPTER, cid_of(raw), 1, 1))

    def measurements_of(self, adapter: Cid) -> list[MeasurementRecord]:
        return [each for each in self.records if each.adapter == adapter]

    async def get(self, cid: Cid, max_bytes: int) -> bytes:
        if cid not in self.blobs:
            raise NotFound(f"{cid} is nowhere")
        return self.blobs[cid]


async def test_only_what_a_peer_sealed_of_this_very_index_is_shown() -> None:
    shelf = Shelf()
    shelf.say(BEN, measured(0.1))
    shelf.say(CAT, measured(0.9, index=cid_of(b"an older index")))
    shelf.say(DAN, measured(0.9), sealer=BEN)
    shelf.say(AUTHOR, measured(0.9))
    shelf.records.append(MeasurementRecord(bytes(32), ADAPTER, cid_of(b"lost"), 1, 1))
    found = await others_of_index(shelf, shelf, MANIFEST, INDEX)
    assert found == (OtherMeasurement(peer_id_of(BEN.public), measured(0.1)),)


async def test_a_measurement_of_too_little_is_not_shown() -> None:
    shelf = Shelf()
    shelf.say(BEN, measured(0.9, subsets=3))
    assert await others_of_index(shelf, shelf, MANIFEST, INDEX) == ()


class FakeNode:
    """As much of a node as announcing needs."""

    def __init__(self, key: PeerKey, record: AdapterRecord | None) -> None:
        self.keys = SimpleNamespace(peer=key)
        self.clock = SimpleNamespace(now_ms=lambda: 7)
        self.catalog = SimpleNamespace(adapter=self._manifest, record_of=lambda *_: record)
        self.content = SimpleNamespace(put=self._put)
        self.announced: list[object] = []

    async def _manifest(self, adapter: Cid) -> AdapterManifest:
        return MANIFEST

    async def _put(self, data: bytes) -> Cid:
        return cid_of(data)

    async def next_seq(self) -> int:
        return 3

    async def announce(self, record: object) -> None:
        self.announced.append(record)


RECORD = AdapterRecord("ann/icd", ADAPTER, cid_of(b"base"), INDEX, None, 0, 0, 1, 1)


async def test_an_author_announces_beside_its_index_and_anybody_else_for_himself() -> None:
    found = measured(0.9)
    author, other = FakeNode(AUTHOR, RECORD), FakeNode(BEN, RECORD)
    said = await announce(author, found)
    assert said == Said(cid_of(seal(AUTHOR, found)), by_author=True)
    assert author.announced == [replace(RECORD, faithfulness=said.statement, seq=3, issued_ms=7)]
    said = await announce(other, found)
    assert said == Said(cid_of(seal(BEN, found)), by_author=False)
    assert other.announced == [MeasurementRecord(BEN.public, ADAPTER, said.statement, 3, 7)]


async def test_nothing_is_announced_that_nobody_would_count() -> None:
    late, unknown = FakeNode(BEN, replace(RECORD, index=cid_of(b"a newer index"))), FakeNode(BEN, None)
    for node in (late, unknown):
        with pytest.raises(ConfigError, match="measure it again"):
            await announce(node, measured(0.9))
    little = FakeNode(BEN, RECORD)
    with pytest.raises(RemoteProtocolError, match="measure nothing"):
        await announce(little, measured(0.9, subsets=3))
    assert [node.announced for node in (late, unknown, little)] == [[], [], []]


@pytest.mark.parametrize(
    ("lds", "says"),
    [(0.85, "+0.85 ± 0.20 (above chance), which agrees with the author"),
     (0.10, "+0.10 ± 0.20 (not above chance), which contradicts the author's +0.90")],
)  # fmt: skip
def test_what_was_found_stands_beside_what_the_author_announced(lds: float, says: str) -> None:
    told = tell_others([OtherMeasurement(PeerId("ben"), measured(lds))], measured(0.9))
    assert told == f"1 other measured these scores, unchecked, and no pay changes by it: ben {says}"


def test_nobody_s_word_is_nothing_to_tell() -> None:
    assert tell_others([], measured(0.9)) is None
    twice = [OtherMeasurement(PeerId(name), measured(0.1)) for name in ("ben", "cat")]
    told = tell_others(twice, None)
    assert told is not None
    assert told.startswith("2 others measured")
    assert "author" not in told
