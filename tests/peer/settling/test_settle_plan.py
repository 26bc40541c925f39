"""The decisions of settlement, as tables."""

import pytest

from commonlore.contracts.calling.records import LaneState
from commonlore.peer.settling.settle_plan import (
    Owed,
    by_payer,
    check_same_chain,
    committable,
    is_postable_still,
    latest_postable,
    offered,
    paid,
)
from commonlore.peer.store.ledger_rows import ReceiptState, Role, StoredReceipt
from commonlore.protocol.errors import ChainError
from commonlore.protocol.ids import Address, cid_of
from commonlore.protocol.receipts.records import (
    Receipt,
    ReceiptDetails,
    Shares,
    SignedReceipt,
    SignedVoucher,
    Voucher,
)
from commonlore.protocol.requests.records import Sampling
from commonlore.protocol.settlement.commitments import Commitment

ADA, BOB, LANE = (Address(bytes([n]) * 20) for n in (1, 2, 3))


def stored(seq, price, cumulative, *, epoch=0, payer=ADA):
    receipt = Receipt(
        bytes(32),
        payer,
        LANE,
        seq,
        epoch,
        0,
        cid_of(b""),
        (),
        1,
        1,
        bytes(32),
        price,
        Shares(0, price, 0, 0, 0),
        b"",
    )
    voucher = None
    if cumulative is not None:
        voucher = SignedVoucher(Voucher(payer, LANE, seq, epoch, cumulative, price, bytes(32)), bytes(65))
    signed = SignedReceipt(receipt, bytes(65), ReceiptDetails(bytes(32), bytes(32), Sampling(1, 1), "stop"))
    state = ReceiptState.VOUCHERED if voucher else ReceiptState.ISSUED
    return StoredReceipt(seq, Role.WORKER, bytes([seq]), signed, state, (), None, voucher, None, None, 0)


def seqs(receipts):
    return [receipt.receipt.seq for receipt in receipts]


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        ([], []),
        ([(1, 10, 10, 0), (2, 5, 15, 1)], [1, 2]),
        ([(1, 10, 10, 0), (2, 5, 15, 2), (3, 5, 20, 0)], [1]),  # a later epoch
        ([(7, 10, 90, 0), (8, 10, 100, 0)], [7, 8]),  # what came before is committed
        ([(1, 10, 10, 0), (3, 5, 20, 0)], [1]),  # a gap in the amounts
        ([(1, 10, 10, 0), (2, 5, None, 0), (3, 5, 15, 0)], [1]),  # no voucher
        ([(1, 0, 0, 0), (2, 5, 5, 0)], [1, 2]),  # for nothing
    ],
)
def test_committable(channel, expected):
    receipts = [stored(seq, price, cumulative, epoch=epoch) for seq, price, cumulative, epoch in channel]
    assert seqs(committable(receipts, 1)) == expected


def owed(*cumulatives):
    receipts = [stored(seq, 10, cumulative) for seq, cumulative in enumerate(cumulatives, 1)]
    return [Owed(receipt, receipt.voucher, ADA, ()) for receipt in receipts]


@pytest.mark.parametrize(
    ("redeemed", "available", "expected"),
    [
        (0, 100, [10, 20, 30]),
        (0, 29, [10, 20]),
        (0, 9, []),
        (10, 15, [20]),
        (30, 100, []),
        (25, 5, [30]),
    ],
)
def test_offered(redeemed, available, expected):
    vouchers = offered(owed(10, 20, 30), redeemed, available)
    assert [signed.voucher.cumulative for signed in vouchers] == expected


def test_only_the_highest_few_are_offered():
    vouchers = offered(owed(*range(10, 210, 10)), 0, 1_000)
    assert [signed.voucher.cumulative for signed in vouchers] == [170, 180, 190, 200]


def test_paid():
    assert [o.cumulative for o in paid(owed(10, 20, 30), 25)] == [10, 20]


def test_by_payer():
    receipts = [stored(1, 1, 1), stored(2, 1, 2), stored(1, 1, 1, payer=BOB)]
    assert {payer: seqs(channel) for payer, channel in by_payer(receipts).items()} == {ADA: [1, 2], BOB: [1]}


@pytest.mark.parametrize(
    ("now", "expected"),
    [(1_010, -1), (1_099, -1), (1_109, -1), (1_110, 0), (1_209, 0), (1_210, 1), (2_110, 10)],
)
def test_latest_postable(now, expected):
    assert latest_postable(now, 1_000, 100, 10) == expected


def commitment(epoch, receipt_sum, total):
    return Commitment(epoch, bytes(32), bytes(32), receipt_sum, total, 1, 1, bytes(32))


@pytest.mark.parametrize(
    ("committed", "message"), [(29, "is it another chain"), (31, "restore this home's latest store")]
)
def test_the_chain_must_know_what_the_store_knows(committed, message):
    last = commitment(3, 20, 10)
    check_same_chain(LaneState(50, 30, 0, 4, 3), last)
    check_same_chain(LaneState(0, 0, 0, 0, 0), None)
    with pytest.raises(ChainError, match=message):
        check_same_chain(LaneState(50, committed, 0, 4, 3), last)


@pytest.mark.parametrize(
    ("lane", "expected"),
    [
        (LaneState(30, 10, 0, 4, 4), True),
        (LaneState(30, 10, 0, 5, 4), True),
        (LaneState(30, 10, 0, 6, 4), False),  # posted already
        (LaneState(30, 10, 0, 4, 6), False),  # the pot holds a later epoch's money
        (LaneState(31, 10, 0, 4, 4), False),  # the pot has grown
        (LaneState(31, 11, 0, 4, 4), False),  # something else was committed
    ],
)
def test_is_postable_still(lane, expected):
    assert is_postable_still(lane, commitment(5, 20, 10)) is expected
