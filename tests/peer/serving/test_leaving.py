"""Who leaves an answer early says so, and pays for what came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from commonlore.peer.asking.attempt import INFER
from commonlore.peer.asking.attempt_parts import Offer
from commonlore.peer.store.ledger_rows import ReceiptState
from commonlore.peer.wire.calls import Call
from commonlore.peer.wire.rpc import Rpc
from commonlore.protocol.errors import DeadlineExceeded
from commonlore.protocol.inference.conversation import InferenceStream
from commonlore.protocol.inference.conversation import Role as Side
from commonlore.protocol.inference.messages import Accepted, Cancel

STEP_TOKENS = 4
"""The worker's."""


async def leave_when(pair: Any, is_time: Callable[[int], bool]) -> Any:
    """One attempt whose reader leaves at a token; the answer."""
    reached = trio.Event()
    found = []

    async def take(delta: Any) -> None:
        if is_time(delta.tokens[-1]):
            reached.set()
            await trio.sleep_forever()

    async def ask() -> None:
        found.append(await pair.ask(take=take))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await reached.wait()
        nursery.cancel_scope.cancel()
    assert not found


def owed(pair: Any) -> int:
    owner = pair.bindings[1].binding.owner
    return pair.service._debts.of(owner, pair.parts.clock.now_ms())


@pytest.mark.parametrize("token", range(6))
async def test_who_leaves_pays_what_came(pair: Any, token: int) -> None:
    """At each token of two steps, the last ones of both among them."""
    async with pair() as p:

        async def gate(number: int) -> None:
            if number == token + 1:
                await trio.sleep_forever()

        p.engine.gate = gate
        await leave_when(p, lambda number: number == token)
        worker, client = await p.channels()
        assert worker.voucher == client.voucher
        assert set(await p.states()) == {ReceiptState.VOUCHERED}
        receipts = await p.client_store.ledger.receipts()
        assert sum(stored.receipt.output_tokens for stored in receipts) == token + 1
        assert owed(p) == 0
        p.engine.gate = None
        assert (await p.ask()).transcript.finish == "length"


async def test_who_leaves_before_the_first_token_owes_nothing(pair: Any) -> None:
    async with pair() as p:
        computing = trio.Event()

        async def gate(_number: int) -> None:
            computing.set()
            await trio.sleep_forever()

        p.engine.gate = gate
        async with trio.open_nursery() as nursery:
            nursery.start_soon(p.ask)
            await computing.wait()
            nursery.cancel_scope.cancel()
        assert await p.states() == []
        assert owed(p) == 0
        rows = await p.worker_store.requests._database.read("SELECT state FROM requests")
        assert rows == [("failed",)]  # refused with `cancelled`: it may be asked again


async def test_a_caller_that_stops_reading_has_paid_when_it_is_out(pair: Any) -> None:
    async with pair() as p, trio.open_nursery() as nursery:
        asker = p.asker(nursery)

        async def gate(number: int) -> None:
            if number == 3:
                await trio.sleep_forever()

        p.engine.gate = gate
        async with asker.ask(p.options()) as answer:
            async for delta in answer:
                if delta.tokens[-1] == 2:
                    break
        script = answer.transcript
        assert script.price == sum(receipt.receipt.price for receipt in script.receipts) == 137
        assert script.paid_tokens == len(script.tokens) == 3
        worker, client = await p.channels()
        assert worker.voucher == client.voucher
        assert worker.cumulative == script.price
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("stops_at", "receipts"), [(2, 1), (STEP_TOKENS, 1), (STEP_TOKENS + 1, 2)])
async def test_an_answer_ends_shortly_before_its_deadline_with_what_there_is_and_paid(
    pair: Any, stops_at: int, receipts: int
) -> None:
    async with pair() as p, trio.open_nursery() as nursery:
        asker = p.asker(nursery)

        async def gate(number: int) -> None:
            if number == stops_at:
                await trio.sleep_forever()

        p.engine.gate = gate
        heard = ""
        async with asker.ask(p.options(deadline_s=3)) as answer:
            async for delta in answer:
                heard += delta.text
        script = answer.transcript
        assert heard == script.text == "".join(f" {n}" for n in range(stops_at))
        assert (script.finish, script.paid_tokens, len(script.receipts)) == ("deadline", stops_at, receipts)
        if stops_at % STEP_TOKENS:  # else the last receipt was issued before anybody knew that it was
            assert script.receipts[-1].details.finish == "deadline"
        worker, client = await p.channels()
        assert worker.voucher == client.voucher
        assert worker.seq == receipts
        nursery.cancel_scope.cancel()


async def forever(_token: int) -> None:
    await trio.sleep_forever()


async def test_where_nothing_came_by_the_deadline_the_reader_is_told_so(pair: Any) -> None:
    async with pair() as p, trio.open_nursery() as nursery:
        asker = p.asker(nursery)
        p.engine.gate = forever
        with trio.fail_after(60), pytest.raises(DeadlineExceeded, match="no whole answer within 1 s"):
            async with asker.ask(p.options(deadline_s=1)) as answer:
                await answer.read()
        assert answer.transcript.receipts == []
        nursery.cancel_scope.cancel()


class Deaf:
    """A worker that accepts, and then only notes what it is told, until it is `over`."""

    def __init__(self, pair: Any) -> None:
        self.accepted, self.over = trio.Event(), trio.Event()
        self.heard: list[Any] = []
        self._domain = pair.parts.domain
        Rpc(pair.third).serve(INFER, self.serve)

    async def serve(self, call: Call) -> None:
        stream = InferenceStream(Side.WORKER, self._domain)
        stream.receive(await call.receive())
        await call.send(stream.send(Accepted(0, True, None)))
        self.accepted.set()
        self.heard.append(stream.receive(await call.receive()))
        await self.over.wait()


async def test_a_worker_that_ignores_the_cancel_is_waited_for_shortly(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("commonlore.peer.asking.attempt.CANCEL_PATIENCE_S", 0.2)
    async with pair(third=True) as p:
        worker = Deaf(p)
        p.offer = Offer(p.third.peer_id, p.ad_of_third(), p.offer.advert_hash)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(p.ask)
                await worker.accepted.wait()
                nursery.cancel_scope.cancel()
        assert worker.heard == [Cancel()]


async def test_a_worker_that_ignores_the_cancel_holds_up_nobody_beyond_the_deadline(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("commonlore.peer.asking.attempt.CANCEL_PATIENCE_S", 3_600)
    async with pair(third=True) as p, trio.open_nursery() as nursery:
        worker, asker = Deaf(p), p.asker(nursery, (p.ad_of_third(), 2))
        with trio.fail_after(60), pytest.raises(DeadlineExceeded):
            async with asker.ask(p.options(deadline_s=0.5)) as answer:
                await answer.read()
        worker.over.set()
        nursery.cancel_scope.cancel()


async def test_a_chunk_that_waited_for_room_is_sent_before_the_receipt_that_counts_it(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a client that is slow to read: the worker is told to stop while it waits to send a token."""
    async with pair() as p:
        real, waiting = Call.send, trio.Event()
        sent = 0

        async def send(call: Call, body: bytes) -> None:
            nonlocal sent
            if call.peer != p.offer.peer:  # the worker's side: accepted, then tokens
                sent += 1
                if sent == 4:
                    waiting.set()
                    await trio.sleep_forever()
            await real(call, body)

        monkeypatch.setattr(Call, "send", send)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(p.ask)
            await waiting.wait()
            nursery.cancel_scope.cancel()
        worker, client = await p.channels()
        assert worker.voucher == client.voucher
        (stored,) = await p.client_store.ledger.receipts()
        assert stored.receipt.output_tokens == 3
