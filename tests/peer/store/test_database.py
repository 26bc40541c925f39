"""The file: its versions, its settings, its errors, its other users, and SIGKILL."""

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from commonlore.peer.aio import open_aio
from commonlore.peer.store.database import StoreFailed, open_database
from commonlore.peer.store.ledger_rows import ReceiptState, Role
from commonlore.protocol.errors import ConfigError
from commonlore.protocol.ids import Address

PAYER, LANE = Address(b"\x01" * 20), Address(b"\x02" * 20)


async def test_a_newer_store_is_refused(path, make):
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ConfigError, match="newer Commonlore"):
        async with make.opened(path):
            pass


async def test_a_file_that_is_no_store_is_named(path, make):
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreFailed, match=r"store\.sqlite3"):
        async with make.opened(path):
            pass


async def test_settings_of_the_connection(path, make):
    async with open_aio() as aio, open_database(path, aio) as database:

        async def pragmas(sql):
            names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            return [(await sql.one(f"PRAGMA {name}"))[0] for name in names]

        assert await database.write(pragmas) == ["wal", 2, 1, 10_000]
        assert (await database.write(pragmas, durable=False))[1] == 1
        assert (await database.write(pragmas))[1] == 2


async def test_a_failed_transaction_leaves_nothing(path, make):
    async with open_aio() as aio, open_database(path, aio) as database:

        async def fails(sql):
            await sql.insert("settings", name="a", value=b"1")
            raise KeyError("no")

        with pytest.raises(KeyError):
            await database.write(fails)
        assert await database.read("SELECT * FROM settings") == []
        with pytest.raises(StoreFailed, match="readonly"):
            await database.read("DELETE FROM settings")


async def test_two_processes_may_open_one_store(path, make):
    first, second = make.new_receipt(1), make.new_receipt(1, lane=Address(b"\x05" * 20))
    async with make.opened(path) as one, make.opened(path) as other:
        await one.ledger.record_voucher(Role.WORKER, make.pays(first, 10), first)
        assert (await other.ledger.channel(Role.WORKER, PAYER, LANE)).seq == 1
        await other.ledger.record_voucher(Role.WORKER, make.pays(second, 10), second)
        assert len(await one.ledger.receipts()) == 2


async def test_a_cancelled_write_is_whole(path, make):
    new = make.new_receipt(1)
    async with make.opened(path) as store:
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.ledger.record_voucher(Role.WORKER, make.pays(new, 10), new)
            await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert (await store.ledger.channel(Role.WORKER, PAYER, LANE)).seq == 1
        assert [r.state for r in await store.ledger.receipts()] == [ReceiptState.VOUCHERED]


def kill_in_the_middle(path, lane, lines):
    """What the writer acknowledged, when it is killed after so many lines."""
    command = [sys.executable, str(Path(__file__).with_name("writer.py")), str(path), lane.hex()]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    heard = [writer.stdout.readline() for _ in range(lines)]
    writer.send_signal(signal.SIGKILL)
    heard += writer.stdout.readlines()
    writer.stdout.close()
    writer.wait()
    return [line.decode().split() for line in heard if line.endswith(b"\n")]


async def test_no_acknowledged_write_is_lost_to_sigkill(path, make):
    for round_number in range(8):
        said = await trio.to_thread.run_sync(kill_in_the_middle, path, LANE, 1 + 7 * round_number)
        async with make.opened(path) as store:
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
