"""Commitments are whole, and the journal says what was meant and done."""

import pytest

from commonlore.peer.store.epochs import EpochState, Intention, Step, StoredEpoch
from commonlore.peer.store.ledger_rows import Role
from commonlore.protocol.errors import LocalProtocolError
from commonlore.protocol.ids import Address, cid_of
from commonlore.protocol.receipts.records import (
    Credit,
)
from commonlore.protocol.settlement.commitments import Commitment

PAYER, LANE = Address(b"\x01" * 20), Address(b"\x02" * 20)


def credits_of(new):
    return (Credit(LANE, "worker", new.signed.receipt.price - 3), Credit(PAYER, "author", 3))


def entries(*receipts):
    return [(new.receipt_hash, credits_of(new)) for new in receipts]


def stored_epoch(epoch):
    commitment = Commitment(epoch, bytes(32), bytes(32), 0, 0, 0, 0, bytes(32))
    return StoredEpoch(LANE, commitment, cid_of(b"trees"), b"data")


async def paid(make, store, *seqs):
    made = [make.new_receipt(seq) for seq in seqs]
    for number, new in enumerate(made, 1):
        await store.ledger.record_voucher(Role.WORKER, make.pays(new, number * 10), new)
    return made


async def test_a_commitment_fixes_its_receipts(path, make):
    epoch = stored_epoch(3)
    async with make.opened(path) as store:
        first, second, third = await paid(make, store, 1, 2, 3)
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


async def test_a_commitment_is_posted_once_and_may_be_taken_back(path, make):
    async with make.opened(path) as store:
        first, second = await paid(make, store, 1, 2)
        await store.epochs.prepare(stored_epoch(3), entries(first, second))
        with pytest.raises(LocalProtocolError, match="not a posted one"):
            await store.epochs.take_back(LANE, 3)
        await store.epochs.mark_posted(LANE, 3, "0xab")
        for again in (store.epochs.mark_posted, store.epochs.withdraw):
            with pytest.raises(LocalProtocolError, match="not a prepared one"):
                await again(LANE, 3)
        await store.epochs.take_back(LANE, 3)
        assert await store.epochs.all(LANE) == (stored_epoch(3),)
        assert len(await store.ledger.committed(LANE, 3)) == 2
        await store.epochs.mark_posted(LANE, 3, "0xcd")
        await store.epochs.mark_final(LANE, 3)
        with pytest.raises(LocalProtocolError, match="not a posted one"):
            await store.epochs.take_back(LANE, 3)


async def test_only_the_data_still_needed_is_kept(path, make):
    async with make.opened(path) as store:
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


async def test_only_paid_receipts_can_be_committed(path, make):
    async with make.opened(path) as store:
        new = make.new_receipt(1)
        await store.ledger.record_receipt(Role.WORKER, new)
        with pytest.raises(LocalProtocolError):
            await store.epochs.prepare(stored_epoch(3), entries(new))
        assert await store.epochs.last(LANE) is None


async def test_journal(path, make):
    async with make.opened(path) as store:
        intentions = [Intention(Step.REDEEM, LANE, PAYER, 10), Intention(Step.CLAIM, LANE, LANE, 1 << 100)]
        numbers = await store.epochs.intend(intentions, 99)
        await store.epochs.done(numbers[:1], "0xab")
        claim, redeem = await store.epochs.journal()
    assert (redeem.is_done, redeem.tx, redeem.subject, redeem.amount) == (True, "0xab", PAYER, 10)
    assert (claim.is_done, claim.tx, claim.amount, claim.at_ms) == (False, None, 1 << 100, 99)


async def test_what_was_asked_in_settled_epochs_is_deleted_and_the_receipts_stay(path, make):
    """Only of this lane, as its worker: what this node asked itself is its own."""
    async with make.opened(path) as store:
        first, second = await paid(make, store, 1, 2)
        elsewhere = make.new_receipt(1, lane=Address(b"\x0e" * 20))
        await store.ledger.record_voucher(Role.WORKER, make.pays(elsewhere, 10), elsewhere)
        await store.ledger.record_voucher(Role.CLIENT, make.pays(first, 10), first)
        assert await store.ledger.forget_openings(LANE, 3) == 0  # paid, and in no commitment yet
        await store.epochs.prepare(stored_epoch(3), entries(first))
        assert await store.ledger.forget_openings(LANE, 2) == 0
        assert [await store.ledger.forget_openings(LANE, 3) for _ in range(2)] == [1, 0]
        stored = {(one.role, one.receipt_hash): one for one in await store.ledger.receipts()}
    gone = stored.pop((Role.WORKER, first.receipt_hash))
    assert (gone.prompt, gone.tokens, gone.credits) == (None, (), credits_of(first))
    assert gone.voucher is not None
    assert {one.receipt_hash for one in stored.values()} == {
        new.receipt_hash for new in (first, second, elsewhere)
    }
    assert all((one.prompt, one.tokens) == (first.prompt, first.tokens) for one in stored.values())
