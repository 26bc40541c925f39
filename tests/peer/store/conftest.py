"""Receipts, vouchers and stores to test with."""

from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from commonlore.peer.aio import open_aio
from commonlore.peer.store.ledger_rows import NewReceipt
from commonlore.peer.store.node_store import open_store
from commonlore.protocol.encoding.codec import record_hash
from commonlore.protocol.ids import Address, cid_of
from commonlore.protocol.receipts.records import (
    Receipt,
    ReceiptDetails,
    Shares,
    SignedReceipt,
    SignedVoucher,
    Voucher,
)
from commonlore.protocol.requests.records import ChatMessage, Prompt, Sampling

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
def path(tmp_path: Path) -> Path:
    """Where a test's store is."""
    return tmp_path / "store.sqlite3"


class Samples:
    """What tests build with, without importing this file."""

    new_receipt = staticmethod(new_receipt)
    pays = staticmethod(pays)
    opened = staticmethod(opened)


@pytest.fixture(scope="session")
def make() -> type[Samples]:
    return Samples
