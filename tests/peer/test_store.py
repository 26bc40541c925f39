"""The store: money rules hold in every order of events, and what was acknowledged survives SIGKILL."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from commonlore.peer.aio import open_aio
from commonlore.peer.database import StoreFailed, open_database
from commonlore.peer.epochs import EpochState, Intention, Step, StoredEpoch
from commonlore.peer.ledger import ChannelConflict
from commonlore.peer.ledger_rows import NewReceipt, ReceiptState, Role
from commonlore.peer.records import RequestState
from commonlore.peer.store import open_store
from commonlore.protocol.adverts import AdapterRecord, DatanetRecord
from commonlore.protocol.codec import record_hash
from commonlore.protocol.envelope import open_sealed, seal
from commonlore.protocol.errors import ConfigError, LocalProtocolError, RemoteProtocolError
from commonlore.protocol.ids import Address, RequestId, cid_of, receipt_id_of
from commonlore.protocol.keys import PeerKey
from commonlore.protocol.receipts import (
    AttributionStatement,
    Credit,
    Receipt,
    ReceiptDetails,
    Shares,
    SignedReceipt,
    SignedVoucher,
    Voucher,
    Weight,
)
from commonlore.protocol.requests import ChatMessage, PeerBinding, Prompt, Sampling, SignedBinding
from commonlore.protocol.settlement import Commitment

PAYER, LANE = Address(b"\x01" * 20), Address(b"\x02" * 20)
ADAPTER = cid_of(b"adapter")


def new_receipt(seq, price=10, *, payer=PAYER, lane=LANE, epoch=3, request=b"\x07" * 32):
    receipt = Receipt(
        request_hash=request,
        payer=payer,
        lane=lane,
        seq=seq,
        epoch=epoch,
        step=0,
        artefact=cid_of(b"artefact"),
        adapters=(),
        prompt_tokens=5,
        output_tokens=2,
        output_root=bytes(32),
        price=price,
        shares=Shares(0, price, 0, 0, 0),
        details=bytes(32),
    )
    details = ReceiptDetails(bytes(32), bytes(32), Sampling(seed=1, max_tokens=2), "stop")
    prompt = Prompt(bytes(32), (ChatMessage("user", "which code?"),))
    return NewReceipt(
        record_hash(receipt), SignedReceipt(receipt, bytes(65), details), (7, 70_000), prompt, 12
    )


def pays(new, cumulative):
    receipt = new.signed.receipt
    voucher = Voucher(
        receipt.payer, receipt.lane, receipt.seq, receipt.epoch, cumulative, receipt.price, new.receipt_hash
    )
    return SignedVoucher(voucher, bytes([receipt.seq % 256]) * 65)


@asynccontextmanager
async def opened(path):
    async with open_aio() as aio, open_store(path, aio) as store:
        yield store


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.sqlite3"


@pytest.mark.parametrize("role", list(Role))
async def test_receipt_then_voucher(path, role):
    new = new_receipt(1)
    async with opened(path) as store:
        ledger = store.ledger
        assert (await ledger.channel(role, PAYER, LANE)).seq == 0
        await ledger.record_receipt(role, new)
        channel = await ledger.record_voucher(role, pays(new, 10))
        assert (channel.seq, channel.cumulative) == (1, 10)
    async with opened(path) as store:
        assert await store.ledger.channel(role, PAYER, LANE) == channel
        stored = await store.ledger.receipt(receipt_id_of(PAYER, LANE, 1))
    assert stored is not None
    assert stored.state is ReceiptState.VOUCHERED
    assert stored.role is role
    assert stored.signed == new.signed
    assert stored.prompt == new.prompt
    assert stored.tokens == (7, 70_000)
    assert stored.voucher == pays(new, 10)
    assert (stored.credits, stored.commitment, stored.created_ms) == (None, None, 12)


async def test_a_client_records_receipt_and_voucher_in_one_step(path):
    async with opened(path) as store:
        for seq, cumulative in ((1, 10), (4, 20)):
            new = new_receipt(seq)
            channel = await store.ledger.record_voucher(Role.CLIENT, pays(new, cumulative), new)
        assert (channel.seq, channel.cumulative) == (4, 20)
        assert await store.ledger.next_seq(Role.CLIENT, PAYER, LANE) == 5


async def test_recording_again_changes_nothing(path):
    first, second = new_receipt(1), new_receipt(2)
    async with opened(path) as store:
        ledger = store.ledger
        for _ in range(2):
            await ledger.record_receipt(Role.WORKER, first)
        await ledger.record_voucher(Role.WORKER, pays(first, 10))
        await ledger.record_receipt(Role.WORKER, second)
        await ledger.record_voucher(Role.WORKER, pays(second, 20))
        channel = await ledger.record_voucher(Role.WORKER, pays(first, 10))
        assert channel.cumulative == 20
        assert (await ledger.record_voucher(Role.WORKER, pays(second, 20))).cumulative == 20
        await ledger.record_receipt(Role.WORKER, first)
        assert len(await ledger.receipts()) == 2


async def test_roles_and_channels_are_apart(path):
    async with opened(path) as store:
        for role in Role:
            for lane in (LANE, Address(b"\x03" * 20)):
                new = new_receipt(1, lane=lane)
                await store.ledger.record_voucher(role, pays(new, 10), new)
        assert len(await store.ledger.channels(Role.CLIENT)) == 2
        assert len(await store.ledger.receipts()) == 4


CONFLICTS = {
    "cumulative skips": lambda new: replace(pays(new, 21).voucher),
    "cumulative falls": lambda new: replace(pays(new, 19).voucher),
    "another price": lambda new: replace(pays(new, 21).voucher, price=11),
    "another epoch": lambda new: replace(pays(new, 20).voucher, epoch=4),
    "another seq": lambda new: replace(pays(new, 20).voucher, seq=3),
    "a passed seq": lambda new: replace(pays(new, 20).voucher, seq=1),
    "an unknown receipt": lambda new: replace(pays(new, 20).voucher, receipt_hash=bytes(32)),
}


@pytest.mark.parametrize("wrong", CONFLICTS.values(), ids=CONFLICTS.keys())
@pytest.mark.parametrize("role", list(Role))
async def test_conflicting_vouchers_change_nothing(path, wrong, role):
    first, second = new_receipt(1), new_receipt(2)
    async with opened(path) as store:
        ledger = store.ledger
        before = await ledger.record_voucher(role, pays(first, 10), first)
        await ledger.record_receipt(role, second)
        with pytest.raises(ChannelConflict):
            await ledger.record_voucher(role, SignedVoucher(wrong(second), bytes(65)))
        assert await ledger.channel(role, PAYER, LANE) == before
        assert [r.state for r in await ledger.receipts()] == [ReceiptState.ISSUED, ReceiptState.VOUCHERED]
        await ledger.record_voucher(role, pays(second, 20))


async def test_another_signature_of_a_recorded_voucher_is_a_conflict(path):
    new = new_receipt(1)
    async with opened(path) as store:
        await store.ledger.record_voucher(Role.WORKER, pays(new, 10), new)
        with pytest.raises(ChannelConflict, match="was another one"):
            await store.ledger.record_voucher(Role.WORKER, SignedVoucher(pays(new, 10).voucher, b"\xff" * 65))


async def test_a_number_is_used_once(path):
    async with opened(path) as store:
        ledger = store.ledger
        await ledger.record_receipt(Role.WORKER, new_receipt(1))
        with pytest.raises(ChannelConflict, match="has used this number"):
            await ledger.record_receipt(Role.WORKER, new_receipt(1, price=11))
        await ledger.abandon_receipt(Role.WORKER, new_receipt(1).receipt_hash)
        with pytest.raises(ChannelConflict):
            await ledger.record_receipt(Role.WORKER, new_receipt(1, price=11))
        assert await ledger.next_seq(Role.WORKER, PAYER, LANE) == 2


async def test_a_voucher_in_time_revives_an_abandoned_receipt(path):
    first, second = new_receipt(1), new_receipt(2)
    async with opened(path) as store:
        ledger = store.ledger
        await ledger.record_receipt(Role.WORKER, first)
        assert await ledger.unvouchered(PAYER, LANE) == 10
        assert await ledger.abandon_all(Role.WORKER) == 1
        assert await ledger.unvouchered(PAYER, LANE) == 0
        await ledger.record_receipt(Role.WORKER, second)
        await ledger.record_voucher(Role.WORKER, pays(first, 10))
        await ledger.record_voucher(Role.WORKER, pays(second, 20))
        assert [r.state for r in await ledger.uncommitted(LANE)] == [ReceiptState.VOUCHERED] * 2


async def test_a_receipt_whose_turn_has_passed_cannot_be_paid(path):
    first, second = new_receipt(1), new_receipt(2)
    async with opened(path) as store:
        ledger = store.ledger
        await ledger.record_receipt(Role.WORKER, first)
        await ledger.record_receipt(Role.WORKER, second)
        await ledger.record_voucher(Role.WORKER, pays(second, 10))
        with pytest.raises(ChannelConflict):
            await ledger.record_voucher(Role.WORKER, pays(first, 20))
        await ledger.abandon_receipt(Role.WORKER, second.receipt_hash)
        states = {r.receipt.seq: r.state for r in await ledger.receipts()}
    assert states == {1: ReceiptState.ABANDONED, 2: ReceiptState.VOUCHERED}


async def test_a_client_adopts_its_own_later_voucher(path):
    first, lost, after = new_receipt(1), new_receipt(5, 30), new_receipt(6)
    async with opened(path) as store:
        ledger = store.ledger
        await ledger.record_voucher(Role.CLIENT, pays(first, 10), first)
        for _ in range(2):
            channel = await ledger.adopt_voucher(Role.CLIENT, pays(lost, 90))
            assert (channel.seq, channel.cumulative) == (5, 90)
        assert (await ledger.adopt_voucher(Role.CLIENT, pays(first, 10))).seq == 5
        assert (await ledger.record_voucher(Role.CLIENT, pays(lost, 90))).seq == 5
        with pytest.raises(ChannelConflict, match="after 90 was signed"):
            await ledger.adopt_voucher(Role.CLIENT, pays(after, 95))
        await ledger.record_voucher(Role.CLIENT, pays(after, 100), after)


async def test_a_worker_adopts_only_what_leaves_no_gap(path):
    first, lost = new_receipt(1), new_receipt(5, 30)
    async with opened(path) as store:
        ledger = store.ledger
        await ledger.record_receipt(Role.WORKER, first)
        assert (await ledger.adopt_voucher(Role.WORKER, pays(first, 10))).seq == 1
        assert (await ledger.uncommitted(LANE))[0].voucher == pays(first, 10)
        for shown in (pays(lost, 90), pays(lost, 40)):
            with pytest.raises(ChannelConflict):
                await ledger.adopt_voucher(Role.WORKER, shown)
        assert (await ledger.channel(Role.WORKER, PAYER, LANE)).seq == 1


async def test_listing(path):
    async with opened(path) as store:
        for seq in range(1, 8):
            new = new_receipt(seq, request=bytes([seq % 2]) * 32)
            await store.ledger.record_voucher(Role.WORKER, pays(new, seq * 10), new)
        newest = await store.ledger.receipts(limit=3)
        assert [r.receipt.seq for r in newest] == [7, 6, 5]
        older = await store.ledger.receipts(before=newest[-1].number, limit=10)
        assert [r.receipt.seq for r in older] == [4, 3, 2, 1]
        mine = await store.ledger.receipts_of_request(Role.WORKER, bytes(32))
        assert [r.receipt.seq for r in mine] == [2, 4, 6]
        by_hash = await store.ledger.receipt(newest[0].receipt_hash)
        assert by_hash == newest[0]
        assert await store.ledger.receipt(bytes(32)) is None


async def test_concurrent_writers_take_turns(path):
    async with opened(path) as store:

        async def one_lane(lane):
            for seq in range(1, 11):
                new = new_receipt(seq, lane=lane)
                await store.ledger.record_voucher(Role.CLIENT, pays(new, seq * 10), new)

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(one_lane, Address(bytes([number]) * 20))
        channels = await store.ledger.channels(Role.CLIENT)
    assert [(c.seq, c.cumulative) for c in channels] == [(10, 100)] * 8


async def test_two_processes_may_open_one_store(path):
    first, second = new_receipt(1), new_receipt(1, lane=Address(b"\x05" * 20))
    async with opened(path) as one, opened(path) as other:
        await one.ledger.record_voucher(Role.WORKER, pays(first, 10), first)
        assert (await other.ledger.channel(Role.WORKER, PAYER, LANE)).seq == 1
        await other.ledger.record_voucher(Role.WORKER, pays(second, 10), second)
        assert len(await one.ledger.receipts()) == 2


async def test_a_cancelled_write_is_whole(path):
    new = new_receipt(1)
    async with opened(path) as store:
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.ledger.record_voucher(Role.WORKER, pays(new, 10), new)
            await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert (await store.ledger.channel(Role.WORKER, PAYER, LANE)).seq == 1
        assert [r.state for r in await store.ledger.receipts()] == [ReceiptState.VOUCHERED]


async def test_numbers_and_amounts_that_do_not_fit(path):
    async with opened(path) as store:
        with pytest.raises(LocalProtocolError, match="cannot be stored"):
            await store.ledger.record_receipt(Role.WORKER, new_receipt(1 << 63))
        new = new_receipt(1, price=(1 << 128) - 1)
        channel = await store.ledger.record_voucher(Role.WORKER, pays(new, (1 << 128) - 1), new)
        assert channel.cumulative == (1 << 128) - 1


# ---- epochs and journal


def credits_of(new):
    return (Credit(LANE, "worker", new.signed.receipt.price - 3), Credit(PAYER, "author", 3))


def entries(*receipts):
    return [(new.receipt_hash, credits_of(new)) for new in receipts]


def stored_epoch(epoch):
    commitment = Commitment(epoch, bytes(32), bytes(32), 0, 0, 0, 0, bytes(32))
    return StoredEpoch(LANE, commitment, cid_of(b"trees"), b"data")


async def paid(store, *seqs):
    made = [new_receipt(seq) for seq in seqs]
    for number, new in enumerate(made, 1):
        await store.ledger.record_voucher(Role.WORKER, pays(new, number * 10), new)
    return made


async def test_a_commitment_fixes_its_receipts(path):
    epoch = stored_epoch(3)
    async with opened(path) as store:
        first, second, third = await paid(store, 1, 2, 3)
        await store.epochs.prepare(epoch, entries(first, second))
        assert [r.receipt.seq for r in await store.ledger.uncommitted(LANE)] == [3]
        held = await store.ledger.committed(LANE, 3)
        assert [(r.receipt.seq, r.credits, r.commitment) for r in held] == [
            (1, credits_of(first), 3),
            (2, credits_of(second), 3),
        ]
        with pytest.raises(LocalProtocolError, match="cannot be settled"):
            await store.epochs.prepare(stored_epoch(4), entries(third, first))
        assert [r.receipt.seq for r in await store.ledger.uncommitted(LANE)] == [3]
        assert await store.epochs.all(LANE) == (epoch,)
        await store.epochs.withdraw(LANE, 3)
        assert len(await store.ledger.uncommitted(LANE)) == 3
        assert await store.epochs.earnings(LANE) == {}


async def test_a_posted_commitment_adds_to_the_earnings_once(path):
    async with opened(path) as store:
        first, second, third = await paid(store, 1, 2, 3)
        await store.epochs.prepare(stored_epoch(3), entries(first, second))
        assert await store.epochs.earnings(LANE) == {}
        await store.epochs.mark_posted(LANE, 3, "0xab")
        for again in (store.epochs.mark_posted, store.epochs.withdraw):
            with pytest.raises(LocalProtocolError, match="not a prepared one"):
                await again(LANE, 3)
        assert await store.epochs.earnings(LANE) == {LANE: 14, PAYER: 6}
        await store.epochs.prepare(stored_epoch(5), entries(third))
        await store.epochs.mark_posted(LANE, 5)
        assert await store.epochs.earnings(LANE) == {LANE: 21, PAYER: 9}
        assert await store.epochs.earnings(PAYER) == {}


async def test_only_the_data_still_needed_is_kept(path):
    async with opened(path) as store:
        for epoch in (3, 4, 6):
            await store.epochs.prepare(stored_epoch(epoch), [])
            await store.epochs.mark_posted(LANE, epoch, f"0x{epoch}")
        await store.epochs.mark_final(LANE, 3)
        await store.epochs.mark_final(LANE, 4)
        kept = {e.epoch: (e.state, e.data, e.tx) for e in await store.epochs.all(LANE)}
        assert kept == {
            3: (EpochState.FINAL, None, "0x3"),
            4: (EpochState.FINAL, b"data", "0x4"),
            6: (EpochState.POSTED, b"data", "0x6"),
        }
        final, last = await store.epochs.last(LANE, EpochState.FINAL), await store.epochs.last(LANE)
        assert (final.epoch, last.epoch) == (4, 6)
        assert await store.epochs.last(PAYER) is None


async def test_only_paid_receipts_can_be_committed(path):
    async with opened(path) as store:
        new = new_receipt(1)
        await store.ledger.record_receipt(Role.WORKER, new)
        with pytest.raises(LocalProtocolError):
            await store.epochs.prepare(stored_epoch(3), entries(new))
        assert await store.epochs.last(LANE) is None


async def test_journal(path):
    async with opened(path) as store:
        intentions = [Intention(Step.REDEEM, LANE, PAYER, 10), Intention(Step.CLAIM, LANE, LANE, 1 << 100)]
        numbers = await store.epochs.intend(intentions, 99)
        await store.epochs.done(numbers[:1], "0xab")
        claim, redeem = await store.epochs.journal()
    assert (redeem.is_done, redeem.tx, redeem.subject, redeem.amount) == (True, "0xab", PAYER, 10)
    assert (claim.is_done, claim.tx, claim.amount, claim.at_ms) == (False, None, 1 << 100, 99)


# ---- records, statements, requests, settings


def adapter_record(key, alias="ada/icd", seq=1):
    record = AdapterRecord(alias, ADAPTER, cid_of(b"base"), None, None, 2, 1, seq, 5)
    return open_sealed(seal(key, record), (AdapterRecord,))


async def test_a_name_is_its_first_keys_and_the_highest_seq_counts(path):
    ada, bob = PeerKey.generate(b"a" * 32), PeerKey.generate(b"b" * 32)
    async with opened(path) as store:
        records = store.records
        assert await records.put(adapter_record(ada, seq=2))
        assert not await records.put(adapter_record(ada, seq=2))
        assert not await records.put(adapter_record(ada, seq=1))
        assert not await records.put(adapter_record(bob, seq=9))
        assert await records.put(adapter_record(ada, seq=3))
        assert await records.put(adapter_record(bob, alias="bob/cwe"))
        datanet = DatanetRecord("ada/icd", 1, cid_of(b"datanet"), 1, 5)
        assert await records.put(open_sealed(seal(bob, datanet), (DatanetRecord,)))
        found = await records.named(AdapterRecord, "ada/icd")
        assert found is not None
        assert (found.record.seq, found.public_key) == (3, ada.public)
        assert await records.named(DatanetRecord, "bob/cwe") is None
        heads = await records.heads(AdapterRecord)
        assert [(h.name, h.seq) for h in heads] == [("ada/icd", 3), ("bob/cwe", 1)]
        assert [h.name for h in await records.heads(AdapterRecord, after="ada/icd", limit=5)] == ["bob/cwe"]
    async with opened(path) as store:
        assert len(await store.records.all()) == 3


async def test_statements(path):
    def statement(key, ppm):
        weights = (Weight(PAYER, ppm), Weight(LANE, 1_000_000 - ppm))
        record = AttributionStatement(b"\x09" * 32, ADAPTER, None, "gradient", bytes(32), weights)
        return open_sealed(seal(key, record, 1 << 20), (AttributionStatement,), 1 << 20)

    keys = [PeerKey.generate(bytes([i]) * 32) for i in range(20)]
    async with opened(path) as store:
        for key in keys:
            await store.records.put_statement(statement(key, 1))
        await store.records.put_statement(statement(keys[0], 2))
        kept = {s.public_key: s.record for s in await store.records.statements(b"\x09" * 32, ADAPTER)}
        assert len(kept) == 16
        assert kept[keys[0].public].weights[0].ppm == 2
        assert await store.records.statements(bytes(32), ADAPTER) == ()


async def test_the_longest_binding_is_kept(path):
    def binding(not_after):
        return SignedBinding(
            PeerBinding(LANE, PAYER, bytes(32), 0, not_after), bytes(65), bytes(65), bytes(64)
        )

    async with opened(path) as store:
        for not_after in (10, 30, 20):
            await store.records.put_binding(binding(not_after))
        assert await store.records.binding(PAYER) == binding(30)
        assert await store.records.binding(LANE) is None


async def test_a_request_is_served_once_until_its_deadline(path):
    ids = [RequestId(bytes([i]) * 16) for i in range(3)]
    async with opened(path) as store:
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


async def test_a_node_that_starts_finds_nothing_running(path):
    async with opened(path) as store:
        await store.ledger.record_receipt(Role.WORKER, new_receipt(1))
        await store.requests.admit(PAYER, RequestId(bytes(16)), b"h" * 32, 100)
        await store.requests.admit(LANE, RequestId(bytes(16)), b"h" * 32, 100)
        await store.requests.finish(LANE, RequestId(bytes(16)), RequestState.DONE)
    async with opened(path) as store:
        await store.recover()
        assert await store.ledger.unvouchered(PAYER, LANE) == 0
        again = [
            await store.requests.admit(who, RequestId(bytes(16)), b"h" * 32, 100) for who in (PAYER, LANE)
        ]
    assert again == [RequestState.FAILED, RequestState.DONE]


async def test_settings(path):
    async with opened(path) as store:
        assert await store.settings.get("a") is None
        await store.settings.put("a", b"1")
        await store.settings.put("a", b"2")
        assert await store.settings.get("a") == b"2"
        assert [await store.settings.count("n") for _ in range(3)] == [0, 1, 2]
    async with opened(path) as store:
        assert await store.settings.count("n") == 3
        assert await store.settings.count("n", least=50) == 50
        assert await store.settings.count("n", least=7) == 51


# ---- the file


async def test_a_newer_store_is_refused(path):
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ConfigError, match="newer Commonlore"):
        async with opened(path):
            pass


async def test_a_file_that_is_no_store_is_named(path):
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreFailed, match=r"store\.sqlite3"):
        async with opened(path):
            pass


async def test_settings_of_the_connection(path):
    async with open_aio() as aio, open_database(path, aio) as database:

        async def pragmas(sql):
            names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            return [(await sql.one(f"PRAGMA {name}"))[0] for name in names]

        assert await database.write(pragmas) == ["wal", 2, 1, 10_000]
        assert (await database.write(pragmas, durable=False))[1] == 1
        assert (await database.write(pragmas))[1] == 2


async def test_a_failed_transaction_leaves_nothing(path):
    async with open_aio() as aio, open_database(path, aio) as database:

        async def fails(sql):
            await sql.insert("settings", name="a", value=b"1")
            raise KeyError("no")

        with pytest.raises(KeyError):
            await database.write(fails)
        assert await database.read("SELECT * FROM settings") == []
        with pytest.raises(StoreFailed, match="readonly"):
            await database.read("DELETE FROM settings")


# ---- SIGKILL


async def write_until_killed(path, lane):
    """Record receipts and vouchers for ever; a line on stdout for each that was acknowledged."""
    async with opened(path) as store:
        channel = await store.ledger.channel(Role.WORKER, PAYER, lane)
        while True:
            new = new_receipt(await store.ledger.next_seq(Role.WORKER, PAYER, lane), lane=lane)
            await store.ledger.record_receipt(Role.WORKER, new)
            os.write(1, f"receipt {new.signed.receipt.seq}\n".encode())
            channel = await store.ledger.record_voucher(Role.WORKER, pays(new, channel.cumulative + 10))
            os.write(1, f"voucher {channel.seq} {channel.cumulative}\n".encode())


def kill_in_the_middle(path, lane, lines):
    """What the writer acknowledged, when it is killed after so many lines."""
    command = [sys.executable, __file__, str(path), lane.hex()]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    heard = [writer.stdout.readline() for _ in range(lines)]
    writer.send_signal(signal.SIGKILL)
    heard += writer.stdout.readlines()
    writer.stdout.close()
    writer.wait()
    return [line.decode().split() for line in heard if line.endswith(b"\n")]


async def test_no_acknowledged_write_is_lost_to_sigkill(path):
    for round_number in range(8):
        said = await trio.to_thread.run_sync(kill_in_the_middle, path, LANE, 1 + 7 * round_number)
        async with opened(path) as store:
            receipts = {r.receipt.seq: r for r in await store.ledger.receipts(limit=10_000)}
            channel = await store.ledger.channel(Role.WORKER, PAYER, LANE)
            await store.ledger.abandon_all(Role.WORKER)
        for what, seq, *cumulative in said:
            assert int(seq) in receipts
            if what == "voucher":
                assert receipts[int(seq)].state is ReceiptState.VOUCHERED
                assert int(cumulative[0]) <= channel.cumulative
        paid = [r for r in receipts.values() if r.state is ReceiptState.VOUCHERED]
        assert sum(r.receipt.price for r in paid) == channel.cumulative
        assert max((r.receipt.seq for r in paid), default=0) == channel.seq


if __name__ == "__main__":
    from pathlib import Path

    trio.run(write_until_killed, Path(sys.argv[1]), Address(bytes.fromhex(sys.argv[2])))
