"""A second worker beside a late one: one of them answers, the other stops and is paid what it gave."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import trio

from commonlore.peer.asking.answers import Answer, AskOptions, Delta
from commonlore.peer.asking.asker import Asker
from commonlore.peer.asking.attempt import INFER, Attempt
from commonlore.peer.asking.attempt_parts import AttemptTerms
from commonlore.peer.asking.race import Race
from commonlore.peer.wire.calls import Call
from commonlore.peer.wire.rpc import Rpc
from commonlore.protocol.errors import CommonloreError, Unreachable
from commonlore.protocol.ids import PeerId
from commonlore.protocol.inference.conversation import InferenceStream, Role
from commonlore.protocol.inference.messages import Accepted, Cancel, Refusal, RefusalCode, TokenChunk
from commonlore.scheduler.core import Scheduler, SchedulerConfig

Script = Callable[[Attempt, Any], Awaitable[None]]
ALL = 1_000_000


@pytest.fixture(autouse=True)
def _late_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commonlore.scheduler.hedging.Hedges.wait_ms", lambda *_: 10)


def asker_of(pair: Any, nursery: trio.Nursery, hedge_ppm: int = ALL) -> Asker:
    """One that knows the third host, which it asks first, and the worker."""
    config = SchedulerConfig(policy="cheapest", hedge_ppm=hedge_ppm)
    asker = Asker(Scheduler(config, 7), pair.parts, pair.parts.catalog, nursery)
    ad = pair.ad_of_third()
    pair.see(asker, replace(ad, rates=replace(ad.rates, request_fee=99)), 2)
    pair.see(asker, pair.offer.ad, 0)
    nursery.start_soon(asker.run)
    return asker


async def read(asker: Asker, options: AskOptions) -> Any:
    async with asker.ask(options) as answer:
        await answer.read()
    return answer.transcript


async def test_the_second_one_answers_and_the_silent_first_is_told_to_stop_and_paid_nothing(
    pair: Any,
) -> None:
    heard = []

    async def silent(call: Call) -> None:
        stream = InferenceStream(Role.WORKER, p.parts.domain)
        stream.receive(await call.receive())
        await call.send(stream.send(Accepted(0, True, None)))
        heard.append(stream.receive(await call.receive()))
        await call.send(stream.send(Refusal(RefusalCode.CANCELLED, "nothing is owed", False)))

    async with pair(third=True) as p, trio.open_nursery() as nursery:
        Rpc(p.third).serve(INFER, silent)
        with trio.fail_after(60):
            script = await read(asker_of(p, nursery), p.options())
        assert heard == [Cancel()]
        assert (script.tokens, script.finish) == ([0, 1, 2, 3, 4, 5], "length")
        assert script.workers == [p.third.peer_id, p.offer.peer]
        assert script.price == sum(r.receipt.price for r in script.receipts) == 167
        receipts = await p.client_store.ledger.receipts()
        assert {stored.receipt.lane for stored in receipts} == {p.lane}
        nursery.cancel_scope.cancel()


async def test_what_the_loser_delivers_is_paid_and_not_read(pair: Any) -> None:
    async with pair() as p:
        answer = Answer((), trio.open_memory_channel[Delta](0)[1])
        race = Race(answer)
        winner, loser = race.enter(PeerId("first")), race.enter(p.offer.peer)
        assert race.claim(winner)

        def claim() -> Answer:
            race.claim(loser)
            return loser.answer

        async def unread(_delta: Delta) -> None:
            """Nobody reads it."""

        deadline_ms = p.parts.clock.now_ms() + 60_000
        terms = AttemptTerms(p.offer.ad.base, deadline_ms, 10_000, claim=claim)
        await Attempt(p.parts, p.options(), answer, p.offer, terms).run(unread)
        race.settle(loser)
        script = answer.transcript
        assert (script.tokens, script.text, script.receipts, script.finish) == ([], "", [], "")
        assert script.price == sum(r.receipt.price for r in script.unread) == 167
        worker, client = await p.channels()
        assert worker.voucher == client.voucher
        assert worker.cumulative == 167


async def deliver(attempt: Attempt, take: Any, *tokens: int) -> None:
    assert attempt._terms.claim is not None
    page = attempt._terms.claim()
    page.transcript.add(TokenChunk(0, tokens, " x"), attempt._offer.ad.artefact)
    await take(Delta(tokens, " x"))


@pytest.fixture
def acted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Script, Script], list[PeerId]]:
    """Workers do what these scripts say: the first attempt's, the second's; who was tried, in turn."""

    def act(first: Script, second: Script) -> list[PeerId]:
        tried: list[PeerId] = []

        async def run(self: Attempt, take: Any, whole: Any, left: Any) -> None:
            tried.append(self._offer.peer)
            self._answer.transcript.workers.append(self._offer.peer)
            try:
                await (first if len(tried) == 1 else second)(self, take)
            except trio.Cancelled:
                left()
                raise
            whole()

        monkeypatch.setattr("commonlore.peer.asking.attempt.Attempt.run", run)
        return tried

    return act


@pytest.mark.parametrize("faulty", ["first", "second"])
async def test_one_that_fails_leaves_the_answer_to_the_other(pair: Any, acted: Any, faulty: str) -> None:
    both, failed = trio.Event(), trio.Event()

    async def break_off(_attempt: Attempt, _take: Any) -> None:
        await both.wait()
        failed.set()
        raise Unreachable("it died")

    async def answer(attempt: Attempt, take: Any) -> None:
        await failed.wait()
        await deliver(attempt, take, 5, 6)

    def second(script: Script) -> Script:
        async def begin(attempt: Attempt, take: Any) -> None:
            both.set()
            await script(attempt, take)

        return begin

    scripts = (break_off, second(answer)) if faulty == "first" else (answer, second(break_off))
    async with pair(third=True) as p, trio.open_nursery() as nursery:
        tried = acted(*scripts)
        with trio.fail_after(60):
            script = await read(asker_of(p, nursery), p.options())
        assert script.tokens == [5, 6]
        assert len(tried) == 2
        assert script.workers[-1] == tried[1 if faulty == "first" else 0]
        nursery.cancel_scope.cancel()


async def test_a_loser_that_cannot_be_stopped_in_time_writes_nothing(pair: Any, acted: Any) -> None:
    first_has_token, second_began = trio.Event(), trio.Event()

    async def first(attempt: Attempt, take: Any) -> None:
        await second_began.wait()
        await deliver(attempt, take, 5, 6)
        first_has_token.set()
        await trio.lowlevel.checkpoint()
        await deliver(attempt, take, 7)

    async def second(attempt: Attempt, take: Any) -> None:
        second_began.set()
        with trio.CancelScope(shield=True):
            await first_has_token.wait()
            await deliver(attempt, take, 8, 9)

    async with pair(third=True) as p, trio.open_nursery() as nursery:
        tried = acted(first, second)
        with trio.fail_after(60):
            script = await read(asker_of(p, nursery), p.options())
        assert script.tokens == [5, 6, 7]
        assert script.text == " x x"
        assert (len(tried), script.workers[-1]) == (2, tried[0])
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("hedge_ppm", "max_price", "asked"), [(ALL, None, 2), (ALL, 300, 1), (0, None, 1)])
async def test_no_second_one_where_it_is_off_or_the_limit_is_for_one(
    pair: Any, acted: Any, hedge_ppm: int, max_price: int | None, asked: int
) -> None:
    async def silent(_attempt: Attempt, _take: Any) -> None:
        await trio.sleep_forever()

    async with pair(third=True) as p, trio.open_nursery() as nursery:
        tried = acted(silent, silent)
        with trio.fail_after(60), pytest.raises(CommonloreError):
            await read(asker_of(p, nursery, hedge_ppm), p.options(max_price=max_price, deadline_s=asked))
        assert len(tried) == asked
        nursery.cancel_scope.cancel()
