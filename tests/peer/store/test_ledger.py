"""Money rules hold in every order of events."""

from dataclasses import replace

import pytest
import trio

from commonlore.peer.store.channel_rows import ChannelConflict
from commonlore.peer.store.ledger_rows import ReceiptState, Role
from commonlore.peer.store.receipt_search import ReceiptName
from commonlore.protocol.errors import LocalProtocolError
from commonlore.protocol.ids import Address, cid_of, receipt_id_of
from commonlore.protocol.receipts.records import (
    SignedVoucher,
)
from commonlore.protocol.requests.records import ChatMessage, Prompt, PromptPart

PAYER, LANE = Address(b"\x01" * 20), Address(b"\x02" * 20)


@pytest.mark.parametrize("role", list(Role))
async def test_receipt_then_voucher(path, role, make):
    new = make.new_receipt(1)
    async with make.opened(path) as store:
        ledger = store.ledger
        assert (await ledger.channel(role, PAYER, LANE)).seq == 0
        await ledger.record_receipt(role, new)
        channel = await ledger.record_voucher(role, make.pays(new, 10))
        assert (channel.seq, channel.cumulative) == (1, 10)
    async with make.opened(path) as store:
        assert await store.ledger.channel(role, PAYER, LANE) == channel
        stored = await store.ledger.receipt(receipt_id_of(PAYER, LANE, 1))
    assert stored is not None
    assert stored.state is ReceiptState.VOUCHERED
    assert stored.role is role
    assert stored.signed == new.signed
    assert stored.prompt == new.prompt
    assert stored.tokens == (7, 70_000)
    assert stored.voucher == make.pays(new, 10)
    assert (stored.credits, stored.commitment, stored.created_ms) == (None, None, 12)


async def test_what_is_remembered_of_a_channel_cannot_mislead(path, make):
    first, second = make.new_receipt(1), make.new_receipt(2)
    async with make.opened(path) as one, make.opened(path) as other:
        assert (await one.ledger.channel(Role.CLIENT, PAYER, LANE)).seq == 0
        channel = await other.ledger.record_voucher(Role.CLIENT, make.pays(first, 10), first)
        assert (await one.ledger.channel(Role.CLIENT, PAYER, LANE)).seq == 0
        with pytest.raises(ChannelConflict):  # as if nothing had been paid before
            await one.ledger.record_voucher(Role.CLIENT, make.pays(second, 10), second)
        assert await one.ledger.channel(Role.CLIENT, PAYER, LANE) == channel
        await one.ledger.record_voucher(Role.CLIENT, make.pays(second, 20), second)


async def test_a_client_records_receipt_and_voucher_in_one_step(path, make):
    async with make.opened(path) as store:
        for seq, cumulative in ((1, 10), (4, 20)):
            new = make.new_receipt(seq)
            channel = await store.ledger.record_voucher(Role.CLIENT, make.pays(new, cumulative), new)
        assert (channel.seq, channel.cumulative) == (4, 20)
        assert await store.ledger.next_seq(Role.CLIENT, PAYER, LANE) == 5


async def test_recording_again_changes_nothing(path, make):
    first, second = make.new_receipt(1), make.new_receipt(2)
    async with make.opened(path) as store:
        ledger = store.ledger
        for _ in range(2):
            await ledger.record_receipt(Role.WORKER, first)
        await ledger.record_voucher(Role.WORKER, make.pays(first, 10))
        await ledger.record_receipt(Role.WORKER, second)
        await ledger.record_voucher(Role.WORKER, make.pays(second, 20))
        channel = await ledger.record_voucher(Role.WORKER, make.pays(first, 10))
        assert channel.cumulative == 20
        assert (await ledger.record_voucher(Role.WORKER, make.pays(second, 20))).cumulative == 20
        await ledger.record_receipt(Role.WORKER, first)
        assert len(await ledger.receipts()) == 2


async def test_roles_and_channels_are_apart(path, make):
    async with make.opened(path) as store:
        for role in Role:
            for lane in (LANE, Address(b"\x03" * 20)):
                new = make.new_receipt(1, lane=lane)
                await store.ledger.record_voucher(role, make.pays(new, 10), new)
        assert len(await store.ledger.channels(Role.CLIENT)) == 2
        assert len(await store.ledger.receipts()) == 4


CONFLICTS = {
    "cumulative skips": lambda paid, new: replace(paid(new, 21).voucher),
    "cumulative falls": lambda paid, new: replace(paid(new, 19).voucher),
    "another price": lambda paid, new: replace(paid(new, 21).voucher, price=11),
    "another epoch": lambda paid, new: replace(paid(new, 20).voucher, epoch=4),
    "another seq": lambda paid, new: replace(paid(new, 20).voucher, seq=3),
    "a passed seq": lambda paid, new: replace(paid(new, 20).voucher, seq=1),
    "an unknown receipt": lambda paid, new: replace(paid(new, 20).voucher, receipt_hash=bytes(32)),
}


@pytest.mark.parametrize("wrong", CONFLICTS.values(), ids=CONFLICTS.keys())
@pytest.mark.parametrize("role", list(Role))
async def test_conflicting_vouchers_change_nothing(path, wrong, role, make):
    first, second = make.new_receipt(1), make.new_receipt(2)
    async with make.opened(path) as store:
        ledger = store.ledger
        before = await ledger.record_voucher(role, make.pays(first, 10), first)
        await ledger.record_receipt(role, second)
        with pytest.raises(ChannelConflict):
            await ledger.record_voucher(role, SignedVoucher(wrong(make.pays, second), bytes(65)))
        assert await ledger.channel(role, PAYER, LANE) == before
        assert [r.state for r in await ledger.receipts()] == [ReceiptState.ISSUED, ReceiptState.VOUCHERED]
        await ledger.record_voucher(role, make.pays(second, 20))


async def test_another_signature_of_a_recorded_voucher_is_a_conflict(path, make):
    new = make.new_receipt(1)
    async with make.opened(path) as store:
        await store.ledger.record_voucher(Role.WORKER, make.pays(new, 10), new)
        with pytest.raises(ChannelConflict, match="was another one"):
            await store.ledger.record_voucher(
                Role.WORKER, SignedVoucher(make.pays(new, 10).voucher, b"\xff" * 65)
            )


async def test_a_number_is_used_once(path, make):
    async with make.opened(path) as store:
        ledger = store.ledger
        await ledger.record_receipt(Role.WORKER, make.new_receipt(1))
        with pytest.raises(ChannelConflict, match="has used this number"):
            await ledger.record_receipt(Role.WORKER, make.new_receipt(1, price=11))
        await ledger.abandon_receipt(Role.WORKER, make.new_receipt(1).receipt_hash)
        with pytest.raises(ChannelConflict):
            await ledger.record_receipt(Role.WORKER, make.new_receipt(1, price=11))
        assert await ledger.next_seq(Role.WORKER, PAYER, LANE) == 2


async def test_a_voucher_in_time_revives_an_abandoned_receipt(path, make):
    first, second = make.new_receipt(1), make.new_receipt(2)
    async with make.opened(path) as store:
        ledger = store.ledger
        await ledger.record_receipt(Role.WORKER, first)
        assert await ledger.unvouchered(PAYER, LANE) == 10
        assert await ledger.abandon_all(Role.WORKER) == 1
        assert await ledger.unvouchered(PAYER, LANE) == 0
        await ledger.record_receipt(Role.WORKER, second)
        await ledger.record_voucher(Role.WORKER, make.pays(first, 10))
        await ledger.record_voucher(Role.WORKER, make.pays(second, 20))
        assert [r.state for r in await ledger.uncommitted(LANE)] == [ReceiptState.VOUCHERED] * 2


async def test_a_receipt_whose_turn_has_passed_cannot_be_paid(path, make):
    first, second = make.new_receipt(1), make.new_receipt(2)
    async with make.opened(path) as store:
        ledger = store.ledger
        await ledger.record_receipt(Role.WORKER, first)
        await ledger.record_receipt(Role.WORKER, second)
        await ledger.record_voucher(Role.WORKER, make.pays(second, 10))
        with pytest.raises(ChannelConflict):
            await ledger.record_voucher(Role.WORKER, make.pays(first, 20))
        await ledger.abandon_receipt(Role.WORKER, second.receipt_hash)
        states = {r.receipt.seq: r.state for r in await ledger.receipts()}
    assert states == {1: ReceiptState.ABANDONED, 2: ReceiptState.VOUCHERED}


async def test_a_client_adopts_its_own_later_voucher(path, make):
    first, lost, after = make.new_receipt(1), make.new_receipt(5, 30), make.new_receipt(6)
    async with make.opened(path) as store:
        ledger = store.ledger
        await ledger.record_voucher(Role.CLIENT, make.pays(first, 10), first)
        for _ in range(2):
            channel = await ledger.adopt_voucher(Role.CLIENT, make.pays(lost, 90))
            assert (channel.seq, channel.cumulative) == (5, 90)
        assert (await ledger.adopt_voucher(Role.CLIENT, make.pays(first, 10))).seq == 5
        assert (await ledger.record_voucher(Role.CLIENT, make.pays(lost, 90))).seq == 5
        with pytest.raises(ChannelConflict, match="after 90 was signed"):
            await ledger.adopt_voucher(Role.CLIENT, make.pays(after, 95))
        await ledger.record_voucher(Role.CLIENT, make.pays(after, 100), after)


async def test_a_worker_adopts_only_what_leaves_no_gap(path, make):
    first, lost = make.new_receipt(1), make.new_receipt(5, 30)
    async with make.opened(path) as store:
        ledger = store.ledger
        await ledger.record_receipt(Role.WORKER, first)
        assert (await ledger.adopt_voucher(Role.WORKER, make.pays(first, 10))).seq == 1
        assert (await ledger.uncommitted(LANE))[0].voucher == make.pays(first, 10)
        for shown in (make.pays(lost, 90), make.pays(lost, 40)):
            with pytest.raises(ChannelConflict):
                await ledger.adopt_voucher(Role.WORKER, shown)
        assert (await ledger.channel(Role.WORKER, PAYER, LANE)).seq == 1


async def test_listing(path, make):
    async with make.opened(path) as store:
        for seq in range(1, 8):
            new = make.new_receipt(seq, request=bytes([seq % 2]) * 32)
            await store.ledger.record_voucher(Role.WORKER, make.pays(new, seq * 10), new)
        newest = await store.ledger.receipts(limit=3)
        assert [r.receipt.seq for r in newest] == [7, 6, 5]
        older = await store.ledger.receipts(before=newest[-1].number, limit=10)
        assert [r.receipt.seq for r in older] == [4, 3, 2, 1]
        mine = await store.ledger.receipts_of_request(Role.WORKER, bytes(32))
        assert [r.receipt.seq for r in mine] == [2, 4, 6]
        by_hash = await store.ledger.receipt(newest[0].receipt_hash)
        assert by_hash == newest[0]
        assert await store.ledger.receipt(bytes(32)) is None


async def test_concurrent_writers_take_turns(path, make):
    async with make.opened(path) as store:

        async def one_lane(lane):
            for seq in range(1, 11):
                new = make.new_receipt(seq, lane=lane)
                await store.ledger.record_voucher(Role.CLIENT, make.pays(new, seq * 10), new)

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(one_lane, Address(bytes([number]) * 20))
        channels = await store.ledger.channels(Role.CLIENT)
    assert [(c.seq, c.cumulative) for c in channels] == [(10, 100)] * 8


async def test_numbers_and_amounts_that_do_not_fit(path, make):
    async with make.opened(path) as store:
        with pytest.raises(LocalProtocolError, match="cannot be stored"):
            await store.ledger.record_receipt(Role.WORKER, make.new_receipt(1 << 63))
        new = make.new_receipt(1, price=(1 << 128) - 1)
        channel = await store.ledger.record_voucher(Role.WORKER, make.pays(new, (1 << 128) - 1), new)
        assert channel.cumulative == (1 << 128) - 1


async def test_receipts_by_number_and_by_a_beginning(path, make):
    async with make.opened(path) as store:
        news = [make.new_receipt(seq) for seq in range(1, 18)]
        for new in news:
            await store.ledger.record_receipt(Role.WORKER, new)
        await store.ledger.record_receipt(Role.CLIENT, news[4])
        ids = [receipt_id_of(PAYER, LANE, seq).hex() for seq in range(1, 18)]
        by_number = await store.ledger.named(ReceiptName.parse("5"))
        assert [stored.number for stored in by_number] == [5]
        for text in (ids[4], "0x" + ids[4], ids[4][:15], ids[4][:16].upper(), news[4].receipt_hash.hex()):
            (stored,) = await store.ledger.named(ReceiptName.parse(text))
            assert (stored.receipt.seq, stored.role) == (5, Role.CLIENT)
        digit = next(one[0] for one in ids if sum(other[0] == one[0] for other in ids) > 1)
        assert len(await store.ledger.named(ReceiptName.parse("0x" + digit))) > 1
        decimal = next(one[0] for one in ids if one[0].isdigit())
        assert decimal != "0"
        assert len(await store.ledger.named(ReceiptName.parse("0x" + decimal))) >= 1
        assert await store.ledger.named(ReceiptName.parse(decimal * 3)) == ()


@pytest.mark.parametrize("text", ["", "0x", "xyz", "-1", "0x" + "a" * 65, "1.5", "٣"])
def test_what_names_no_receipt(text):
    assert ReceiptName.parse(text) is None


@pytest.mark.parametrize("role", list(Role))
async def test_prompts_with_rows_that_were_taken_back_leave_neither_file_nor_log(path, role, make):
    """Long ones, too, which SQLite keeps on pages of their own; the answers and the money stay."""
    shard, other = cid_of(b"shard"), cid_of(b"another shard")

    def asked(seq, source, text):
        part = PromptPart("row", bytes(32), PAYER, source, 0, 0, 8)
        return replace(
            make.new_receipt(seq), prompt=Prompt(bytes(32), (ChatMessage("system", text),), parts=(part,))
        )

    gone, kept = asked(1, shard, "taken back " * 2_000), asked(2, other, "mine to keep")
    async with make.opened(path) as store:
        for number, new in enumerate((gone, kept), 1):
            await store.ledger.record_voucher(role, make.pays(new, 10 * number), new)
        assert b"taken back" in written(path)
        assert [await store.ledger.forget_prompts_with(shard) for _ in range(2)] == [1, 0]
        assert b"taken back" not in written(path)
        found = {one.receipt_hash: one for one in await store.ledger.receipts()}
        assert found[kept.receipt_hash].prompt == kept.prompt
        bare = found[gone.receipt_hash]
        assert (bare.prompt, bare.tokens, bare.voucher) == (None, gone.tokens, make.pays(gone, 10))
        hashes = (gone.receipt_hash, kept.receipt_hash, bytes(32))
        assert [await store.ledger.prompt_was_withdrawn(each) for each in hashes] == [True, False, False]


def written(path):
    """All that stands in a store's file and in what SQLite keeps beside it."""
    return b"".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*"))
