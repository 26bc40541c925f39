"""Names and ids: who may say what of an adapter."""

from dataclasses import replace

from commonlore.peer.catalog import MAX_MEASURERS, Catalog, content_of
from commonlore.protocol.gossip.adverts import AdapterRecord, DatanetRecord, MeasurementRecord
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


def test_what_others_measured_is_kept_by_who_says_it() -> None:
    catalog = Catalog(nothing)

    def said(number: int, seq: int = 1, what: bytes = b"found") -> Sealed[MeasurementRecord]:
        key = bytes([number]) * 32
        record = MeasurementRecord(key, RECORD.adapter, cid_of(what), seq, 1)
        return Sealed(record, key, PeerId(key.hex()), b"")

    assert all(catalog.learn(said(number)) for number in range(MAX_MEASURERS))
    assert not catalog.learn(said(MAX_MEASURERS)), "an adapter's list is bounded"
    assert not catalog.learn(said(0)), "nothing new"
    assert catalog.learn(said(0, seq=2, what=b"found again"))
    found = catalog.measurements_of(RECORD.adapter)
    assert len(found) == MAX_MEASURERS
    assert found[0].measurement == cid_of(b"found again")
    assert catalog.measurements_of(cid_of(b"other")) == ()
    assert catalog.adapters() == ()
    datanet = DatanetRecord("icd", 1, cid_of(b"d"), 1, 1)
    assert [content_of(each) for each in (RECORD, datanet, found[0])] == [
        RECORD.adapter, datanet.datanet, cid_of(b"found again")
    ]  # fmt: skip


def test_who_announced_something_is_known_as_long_as_its_name_leads_there() -> None:
    catalog = Catalog(nothing)
    catalog.learn(sealed(RECORD))
    catalog.learn(sealed(replace(RECORD, alias="alice/again", index=None)))
    catalog.learn(sealed(replace(RECORD, alias="thief/icd"), THIEF))
    author, thief = PeerId(AUTHOR.hex()), PeerId(THIEF.hex())
    assert catalog.announcers(RECORD.adapter) == catalog.announcers(cid_of(b"index")) == (author, thief)
    catalog.learn(sealed(replace(RECORD, adapter=cid_of(b"2"), index=None, seq=2)))
    assert catalog.announcers(RECORD.adapter) == (author, thief)
    assert catalog.announcers(cid_of(b"index")) == (thief,)
    catalog.learn(sealed(replace(RECORD, alias="alice/again", adapter=cid_of(b"2"), index=None, seq=2)))
    assert catalog.announcers(RECORD.adapter) == (thief,)
    assert catalog.announcers(cid_of(b"2")) == (author,)
    for number in range(9):
        catalog.learn(sealed(replace(RECORD, alias=f"t/{number}"), bytes([number]) * 32))
    assert len(catalog.announcers(RECORD.adapter)) == 3
