"""What others said, who they are, what was asked; and this node's own settings."""

import pytest

from commonlore.peer.store.ledger_rows import Role
from commonlore.peer.store.records import RequestState
from commonlore.protocol.errors import RemoteProtocolError
from commonlore.protocol.gossip.adverts import AdapterRecord, DatanetRecord, MeasurementRecord
from commonlore.protocol.ids import Address, RequestId, cid_of
from commonlore.protocol.receipts.records import (
    AttributionStatement,
    Weight,
)
from commonlore.protocol.signing.bindings import PeerBinding, SignedBinding
from commonlore.protocol.signing.envelope import open_sealed, seal
from commonlore.protocol.signing.keys import PeerKey

PAYER, LANE = Address(b"\x01" * 20), Address(b"\x02" * 20)
ADAPTER = cid_of(b"adapter")


def adapter_record(key, alias="ada/icd", seq=1):
    record = AdapterRecord(alias, ADAPTER, cid_of(b"base"), None, None, 2, 1, seq, 5)
    return open_sealed(seal(key, record), (AdapterRecord,))


async def test_a_name_is_its_first_keys_and_the_highest_seq_counts(path, make):
    ada, bob = PeerKey.generate(b"a" * 32), PeerKey.generate(b"b" * 32)
    async with make.opened(path) as store:
        records = store.records
        assert await records.put(adapter_record(ada, seq=2))
        assert not await records.put(adapter_record(ada, seq=2))
        assert not await records.put(adapter_record(ada, seq=1))
        assert not await records.put(adapter_record(bob, seq=9))
        assert await records.put(adapter_record(ada, seq=3))
        assert await records.put(adapter_record(bob, alias="bob/cwe"))
        datanet = DatanetRecord("ada/icd", 1, cid_of(b"datanet"), 1, 5)
        assert await records.put(open_sealed(seal(bob, datanet), (DatanetRecord,)))
        for key in (ada, bob):
            measured = MeasurementRecord(key.public, ADAPTER, cid_of(b"found"), 1, 5)
            assert await records.put(open_sealed(seal(key, measured), (MeasurementRecord,)))
        found = await records.named(AdapterRecord, "ada/icd")
        assert found is not None
        assert (found.record.seq, found.public_key) == (3, ada.public)
        assert await records.named(DatanetRecord, "bob/cwe") is None
        heads = await records.heads(AdapterRecord)
        assert [(h.name, h.seq) for h in heads] == [("ada/icd", 3), ("bob/cwe", 1)]
        assert [h.name for h in await records.heads(AdapterRecord, after="ada/icd", limit=5)] == ["bob/cwe"]
    async with make.opened(path) as store:
        assert len(await store.records.all()) == 5


async def test_statements(path, make):
    def statement(key, ppm):
        weights = (Weight(PAYER, ppm), Weight(LANE, 1_000_000 - ppm))
        record = AttributionStatement(b"\x09" * 32, ADAPTER, None, "gradient", bytes(32), weights)
        return open_sealed(seal(key, record, 1 << 20), (AttributionStatement,), 1 << 20)

    keys = [PeerKey.generate(bytes([i]) * 32) for i in range(20)]
    async with make.opened(path) as store:
        for key in keys:
            await store.records.put_statement(statement(key, 1))
        await store.records.put_statement(statement(keys[0], 2))
        kept = {s.public_key: s.record for s in await store.records.statements(b"\x09" * 32, ADAPTER)}
        assert len(kept) == 16
        assert kept[keys[0].public].weights[0].ppm == 2
        assert await store.records.statements(bytes(32), ADAPTER) == ()


async def test_the_longest_binding_is_kept(path, make):
    def binding(not_after):
        return SignedBinding(
            PeerBinding(LANE, PAYER, bytes(32), 0, not_after), bytes(65), bytes(65), bytes(64)
        )

    async with make.opened(path) as store:
        for not_after in (10, 30, 20):
            await store.records.put_binding(binding(not_after))
        assert await store.records.binding(PAYER) == binding(30)
        assert await store.records.binding(LANE) is None
        assert await store.records.owners() == {PAYER: LANE}


async def test_a_request_is_served_once_until_its_deadline(path, make):
    ids = [RequestId(bytes([i]) * 16) for i in range(3)]
    async with make.opened(path) as store:
        requests = store.requests
        assert await requests.admit(PAYER, ids[0], b"h" * 32, 100) is None
        assert await requests.admit(PAYER, ids[0], b"h" * 32, 100) is RequestState.RUNNING
        assert await requests.admit(LANE, ids[0], b"h" * 32, 100) is None
        with pytest.raises(RemoteProtocolError, match="with another request"):
            await requests.admit(PAYER, ids[0], b"x" * 32, 100)
        await requests.finish(PAYER, ids[0], RequestState.FAILED)
        assert await requests.admit(PAYER, ids[0], b"h" * 32, 100) is RequestState.FAILED
        assert await requests.admit(PAYER, ids[0], b"h" * 32, 100) is RequestState.RUNNING
        await requests.finish(PAYER, ids[0], RequestState.DONE)
        assert await requests.admit(PAYER, ids[1], b"h" * 32, 200) is None
        assert await requests.forget(100) == 0
        assert await requests.forget(101) == 2
        assert await requests.admit(PAYER, ids[1], b"h" * 32, 200) is RequestState.RUNNING
        assert await requests.admit(PAYER, ids[0], b"h" * 32, 100) is None


async def test_a_node_that_starts_finds_nothing_running(path, make):
    async with make.opened(path) as store:
        await store.ledger.record_receipt(Role.WORKER, make.new_receipt(1))
        await store.requests.admit(PAYER, RequestId(bytes(16)), b"h" * 32, 100)
        await store.requests.admit(LANE, RequestId(bytes(16)), b"h" * 32, 100)
        await store.requests.finish(LANE, RequestId(bytes(16)), RequestState.DONE)
    async with make.opened(path) as store:
        await store.recover()
        assert await store.ledger.unvouchered(PAYER, LANE) == 0
        again = [
            await store.requests.admit(who, RequestId(bytes(16)), b"h" * 32, 100) for who in (PAYER, LANE)
        ]
    assert again == [RequestState.FAILED, RequestState.DONE]


async def test_settings(path, make):
    async with make.opened(path) as store:
        assert await store.settings.get("a") is None
        await store.settings.put("a", b"1")
        await store.settings.put("a", b"2")
        assert await store.settings.get("a") == b"2"
        assert [await store.settings.count("n") for _ in range(3)] == [0, 1, 2]
    async with make.opened(path) as store:
        assert await store.settings.count("n") == 3
        assert await store.settings.count("n", least=50) == 50
        assert await store.settings.count("n", least=7) == 51
