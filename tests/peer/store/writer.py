"""A program that records receipts and vouchers for ever, saying a line for each that was acknowledged."""

import os
import sys
from pathlib import Path

import trio
from conftest import PAYER, new_receipt, opened, pays

from commonlore.peer.store.ledger_rows import Role
from commonlore.protocol.ids import Address


async def write_for_ever(path: Path, lane: Address) -> None:
    async with opened(path) as store:
        channel = await store.ledger.channel(Role.WORKER, PAYER, lane)
        while True:
            new = new_receipt(await store.ledger.next_seq(Role.WORKER, PAYER, lane), lane=lane)
            await store.ledger.record_receipt(Role.WORKER, new)
            os.write(1, f"receipt {new.signed.receipt.seq}\n".encode())
            channel = await store.ledger.record_voucher(Role.WORKER, pays(new, channel.cumulative + 10))
            os.write(1, f"voucher {channel.seq} {channel.cumulative}\n".encode())


trio.run(write_for_ever, Path(sys.argv[1]), Address(bytes.fromhex(sys.argv[2])))
