"""What a payer, a worker and a line that fails can do to each other's money."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import trio

from commonlore.contracts.staging.cast import MANIFEST
from commonlore.peer.asking.attempt import Attempt
from commonlore.peer.asking.attempt_parts import Offer
from commonlore.peer.clock import ChainClock
from commonlore.peer.serving.offers import Load
from commonlore.peer.store.ledger_rows import ReceiptState
from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.content.manifests import AdapterManifest, PriorWeight, Split
from commonlore.protocol.content.splits import SPLIT_BOUNDS, SplitBounds
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import CommonloreError, InvalidAdapter, Refused, RemoteProtocolError
from commonlore.protocol.gossip.rules import advert_hash
from commonlore.protocol.ids import Address, cid_of
from commonlore.protocol.receipts.records import SignedVoucher
from commonlore.protocol.requests.records import ChatMessage, Sampling


class Deaf(CommonloreError):
    """A client that leaves when it is shown a receipt."""


@pytest.fixture
def unpaying(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Within the block, clients leave instead of paying."""

    def leave() -> Any:
        context = monkeypatch.context()

        async def never(*_: Any) -> None:
            raise Deaf("left")

        context.__enter__().setattr(Attempt, "_pay", never)
        return lambda: context.__exit__(None, None, None)

    return leave


async def test_an_answer_is_paid_step_by_step(pair: Any) -> None:
    async with pair() as p:
        answer = await p.ask()
        worker, client = await p.channels()
        assert answer.transcript.tokens == [0, 1, 2, 3, 4, 5]
        assert worker.voucher == client.voucher
        assert worker.cumulative == answer.transcript.price
        assert await p.states() == [ReceiptState.VOUCHERED] * 2
        assert not p.attribution.expected


async def test_vouchers_that_a_worker_never_took_are_sent_again(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that was suspended signs two receipts in a row; the worker waited for neither."""
    monkeypatch.setattr("commonlore.peer.serving.step_receipts.VOUCHER_PATIENCE_S", 0.2)
    async with pair() as p:
        real, order = Attempt._pay, iter((0.3, 0.2))

        async def late(*arguments: Any) -> None:
            await trio.sleep(next(order))
            await real(*arguments)

        async def ask() -> None:
            with suppress(CommonloreError):
                await p.ask(sampling=Sampling(seed=1, max_tokens=3))

        monkeypatch.setattr(Attempt, "_pay", late)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
        monkeypatch.setattr(Attempt, "_pay", real)
        monkeypatch.setattr("commonlore.peer.serving.step_receipts.VOUCHER_PATIENCE_S", 60)
        worker, client = await p.channels()
        assert (worker.seq, client.seq) == (0, 2)
        await p.ask()
        worker, client = await p.channels()
        assert worker.voucher == client.voucher
        assert await p.states() == [ReceiptState.VOUCHERED] * 4


async def test_a_stranger_cannot_bring_vouchers_of_another_lane(pair: Any) -> None:
    from commonlore.peer.asking.paying import VOUCHERS
    from commonlore.protocol.encoding.codec import encode_all

    async with pair() as p:
        await p.ask()
        _, client = await p.channels()
        forged = SignedVoucher(client.voucher.voucher, bytes(65))
        for vouchers in ((forged,), (client.voucher, forged)):
            with pytest.raises(Refused):
                await p.parts.rpc.call(p.offer.peer, VOUCHERS, encode_all(vouchers))
        assert (await p.channels())[0].voucher == client.voucher


async def test_who_leaves_without_paying_owes_it_and_leaks_nothing(pair: Any, unpaying: Any) -> None:
    async with pair(credit=600) as p:
        pay_again = unpaying()
        for _ in range(3):
            with pytest.raises(Deaf):
                await p.ask(max_price=200)
            await p.idle()
        with pytest.raises(Refused, match="441 are owed"):
            await p.ask(max_price=200)
        pay_again()
        assert not p.attribution.expected
        assert set(await p.states()) == {ReceiptState.ABANDONED}
        assert await p.worker_store.ledger.unvouchered(p.parts.session.address, p.lane) == 0


async def test_nothing_is_delivered_beyond_the_price(pair: Any) -> None:
    async with pair() as p:
        answer = await p.ask(max_price=100 + 7 + 25)  # fee, prompt and two tokens and a half
        assert answer.transcript.tokens == [0, 1]
        assert (answer.transcript.finish, answer.transcript.price) == ("length", 127)
        with pytest.raises(Refused, match="one token cost"):
            await p.ask(max_price=112)


async def test_a_worker_cannot_charge_a_longer_prompt_than_was_sent(pair: Any) -> None:
    async with pair() as p:
        p.engine.prompt_tokens = 50_000  # the honest service charges no more than the bytes
        answer = await p.ask(max_price=100_000)
        assert answer.transcript.prompt_tokens == 256 + 32 + len("how much is it?")


async def test_a_request_is_remembered_as_done(pair: Any) -> None:
    async with pair() as p:
        await p.ask()
        await p.idle()
        rows = await p.worker_store.requests._database.read("SELECT state FROM requests")
        assert rows == [("done",)]


async def test_a_stranger_without_money_leaves_nothing_on_the_disk(pair: Any) -> None:
    async with pair(credit=0) as p:
        with pytest.raises(Refused, match="escrow covers 0"):
            await p.ask()
        for table in ("requests", "bindings"):
            assert await p.worker_store.requests._database.read(f"SELECT * FROM {table}") == []


SPLIT = Split(platform=500, worker=3000, author=1500, work_pool=1000, contributors=4000)


def manifest(*, split: Split = SPLIT, ppm: int = PPM) -> AdapterManifest:
    priors = (PriorWeight(Address(b"c" * 20), ppm),)
    return replace(MANIFEST, base=cid_of(b"base"), split=split, priors=priors)


@pytest.mark.parametrize(
    "odd",
    [
        {"ppm": PPM - 1},
        {"split": Split(1, 1, 1, 1, 1)},
        {"split": Split(1_001, 3_000, 1_500, 1_000, 3_499)},
        {"split": Split(0, 10_000, 0, 0, 0)},
    ],
)
async def test_an_adapter_that_cannot_be_paid_for_is_not_served(pair: Any, odd: dict[str, Any]) -> None:
    """Its receipts could never be credited, and would hold up all that their payer pays after them."""
    async with pair() as p:
        wanted = (AdapterWeight(p.publish(manifest(**odd)), PPM),)
        with pytest.raises(InvalidAdapter, match="cannot be paid for"):
            await p.ask(adapters=wanted)  # the client sees it by itself
        p.parts.catalog.payable = p.parts.catalog.adapter
        with pytest.raises(Refused, match="cannot be paid for") as refusal:
            await p.ask(adapters=wanted)
        assert (refusal.value.code, refusal.value.retryable) == ("bad_adapter", False)
        good = (AdapterWeight(p.publish(manifest()), PPM),)
        assert (await p.ask(adapters=good)).transcript.finish == "length"


async def test_a_worker_checks_an_adapter_for_the_epoch_of_the_receipt(pair: Any) -> None:
    """Which may be the next one: its record is still to be made."""
    async with pair() as p:
        asked: list[int | None] = []

        async def check(adapter: Any, of: Any, epoch: int | None) -> None:
            asked.append(epoch)

        p.service._parts.catalog.checks.append(check)
        now = p.parts.chain_clock.epoch()
        ahead = ChainClock(p.parts.clock, 0, 3_600)
        ahead.observe((now + 1) * 3_600)
        object.__setattr__(p.parts, "chain_clock", ahead)
        await p.ask(adapters=(AdapterWeight(p.publish(manifest()), PPM),))
        assert now + 1 in asked


async def test_a_worker_that_says_nothing_is_left(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commonlore.peer.asking.patience.SILENCE_PATIENCE_S", 0.1)
    async with pair() as p:

        async def stuck(token: int) -> None:
            if token == 2:
                await trio.sleep_forever()

        p.engine.gate = stuck
        with pytest.raises(CommonloreError, match=r"said nothing for 0\.1 s"):
            await p.ask()


async def test_long_turns_are_charged_by_their_bytes() -> None:
    from commonlore.protocol.requests.rules import most_prompt_tokens

    assert most_prompt_tokens((ChatMessage("user", "ä" * 10),)) == 256 + 32 + 20


async def test_adopting_a_forged_voucher_is_refused(pair: Any) -> None:
    async with pair() as p:
        await p.ask()
        _, client = await p.channels()
        real = p.parts.ledger.channel

        async def forged(*arguments: Any) -> Any:
            channel = await real(*arguments)
            return replace(channel, voucher=SignedVoucher(channel.voucher.voucher, b"\x01" * 64 + b"\x1b"))

        p.parts.ledger.channel = forged
        with pytest.raises((Refused, RemoteProtocolError)):
            await p.ask()
        p.parts.ledger.channel = real
        assert (await p.channels())[0].voucher == client.voucher


async def test_renewed_bindings_are_in_the_next_advert_and_the_next_request(pair: Any) -> None:
    async with pair() as p:
        await p.ask()
        later = p.bindings[0].binding.not_after + 1_000
        p.renew(later)
        ad = p.offers.advertise(Load(), 2, p.parts.clock.now_ms())
        assert ad.binding.binding.not_after == later
        p.offer = Offer(p.offer.peer, ad, advert_hash(ad))
        await p.ask()
        of_payer = await p.worker_store.records.binding(p.parts.session.address)
        of_lane = await p.client_store.records.binding(p.lane)
        assert of_payer.binding.not_after == of_lane.binding.not_after == later


async def test_a_worker_s_own_split_is_held_to_the_bounds_too(pair: Any) -> None:
    async with pair() as p:
        p.offer = replace(p.offer, ad=replace(p.offer.ad, base_split=Split(0, 10_000, 0, 0, 0)))
        with pytest.raises(RemoteProtocolError, match="worker; this network allows 0 to 9500"):
            await p.ask()


async def test_the_bounds_are_those_that_the_network_was_deployed_with(pair: Any) -> None:
    async with pair() as p:
        wanted = (AdapterWeight(p.publish(manifest()), PPM),)
        tight = SplitBounds(SPLIT_BOUNDS.lowest, Split(500, 2_999, 10_000, 10_000, 10_000))
        p.parts.catalog.split_bounds = lambda: tight
        with pytest.raises(
            InvalidAdapter, match="gives 3000 basis points to worker; this network allows 0 to 2999"
        ):
            await p.ask(adapters=wanted)
