"""Names and ids: who may say what of an adapter."""

from dataclasses import replace

from commonlore.peer.catalog import Catalog
from commonlore.protocol.gossip.adverts import AdapterRecord
from commonlore.protocol.ids import PeerId, cid_of
from commonlore.protocol.signing.envelope import Sealed

AUTHOR, THIEF = b"a" * 32, b"t" * 32
RECORD = AdapterRecord("alice/icd", cid_of(b"1"), cid_of(b"base"), cid_of(b"index"), None, 0, 0, 1, 1)


def sealed(record: AdapterRecord, key: bytes = AUTHOR) -> Sealed[AdapterRecord]:
    return Sealed(record, key, PeerId(key.hex()), b"")


async def nothing(_cid: object, _most: int) -> bytes:
    raise AssertionError("nothing is fetched here")


def test_nobody_takes_another_key_s_name_nor_speaks_for_its_adapter() -> None:
    catalog = Catalog(nothing)
    assert catalog.learn(sealed(RECORD))
    assert not catalog.learn(sealed(replace(RECORD, adapter=cid_of(b"evil"), seq=9), THIEF))
    other = replace(RECORD, alias="thief/icd", index=cid_of(b"evil index"), seq=9)
    assert catalog.learn(sealed(other, THIEF))
    assert catalog.adapter_id("alice/icd") == RECORD.adapter
    assert catalog.record_of(RECORD.adapter, AUTHOR) == RECORD
    assert catalog.record_of(RECORD.adapter) == RECORD
    assert catalog.record_of(RECORD.adapter, THIEF) == other


def test_an_alias_that_moves_on_leaves_nothing_behind() -> None:
    catalog = Catalog(nothing)
    for number in range(5):
        moved = replace(RECORD, adapter=cid_of(bytes([number])), seq=number)
        assert catalog.learn(sealed(moved))
    assert catalog.record_of(cid_of(bytes([3]))) is None
    assert catalog.record_of(cid_of(bytes([4])), AUTHOR) is not None
    assert len(catalog._adapters) == 1
