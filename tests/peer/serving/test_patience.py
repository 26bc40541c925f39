"""A worker that says nothing is left while another can still answer; one that waits in line is not left for
nothing.
"""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
import trio

from commonlore.peer.asking.attempt import INFER
from commonlore.peer.asking.patience import (
    ACCEPT_PATIENCE_S,
    ADAPTER_PATIENCE_S,
    FIRST_TOKEN_PATIENCE_S,
    LEAST_PATIENCE_S,
    SILENCE_PATIENCE_S,
    SLOWEST_PREFILL,
    TURN_PATIENCE_S,
    Patience,
    until_accepted,
    until_first_token,
    until_next,
)
from commonlore.peer.wire.rpc import Rpc
from commonlore.protocol.errors import Unreachable
from commonlore.protocol.inference.conversation import InferenceStream, Role
from commonlore.protocol.inference.messages import Accepted


@pytest.mark.parametrize(
    ("said", "prompt_tokens", "more_s"),
    [
        (Accepted(0, True, None), 0, 0),
        (Accepted(0, False, None), 0, ADAPTER_PATIENCE_S),
        (Accepted(1, True, None), 0, TURN_PATIENCE_S),
        (Accepted(9, True, None), 0, 2 * TURN_PATIENCE_S),
        (Accepted(0, True, None), 10 * SLOWEST_PREFILL, 10),
    ],
)
def test_the_wait_for_a_first_token_follows_from_what_the_worker_said(
    said: Accepted, prompt_tokens: int, more_s: float
) -> None:
    found = until_first_token(said, 8, prompt_tokens, left_s=10_000)
    assert found == Patience(FIRST_TOKEN_PATIENCE_S + more_s, inf)


def test_no_wait_takes_more_than_half_of_the_time_that_is_left() -> None:
    boast = Accepted(4_000_000_000, False, None)
    assert until_first_token(boast, 8, 0, left_s=90).soft_s == 45
    assert until_accepted(20) == Patience(10, ACCEPT_PATIENCE_S)
    assert until_next(20) == Patience(10, SILENCE_PATIENCE_S)
    assert until_next(1).soft_s == until_next(-5).soft_s == LEAST_PATIENCE_S


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commonlore.peer.asking.patience.FIRST_TOKEN_PATIENCE_S", 0.05)
    monkeypatch.setattr("commonlore.peer.asking.hearing.RECONSIDER_S", 0.01)


async def test_a_worker_that_nobody_can_replace_is_waited_for(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    async with pair() as p:
        looked = 0

        def nobody() -> bool:
            nonlocal looked
            looked += 1
            return False

        async def in_line(token: int) -> None:
            while token == 0 and looked < 5:  # noqa: ASYNC110 - the client looks, and tells nobody
                await trio.sleep(0.005)

        p.engine.gate = in_line
        assert (await p.ask(has_other=nobody)).transcript.finish == "length"


async def test_another_that_gets_room_is_turned_to(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)
    async with pair() as p:
        looks = iter((False, False, True))

        async def never(_token: int) -> None:
            await trio.sleep_forever()

        p.engine.gate = never
        with trio.fail_after(60), pytest.raises(Unreachable, match="said nothing"):
            await p.ask(has_other=lambda: next(looks))
        assert next(looks, None) is None


async def test_a_tarpit_does_not_eat_the_deadline(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts, announces an endless line, and says nothing more; then an honest worker appears."""
    monkeypatch.setattr("commonlore.peer.asking.patience.LEAST_PATIENCE_S", 0.2)
    monkeypatch.setattr("commonlore.peer.asking.patience.SHARE_OF_TIME_LEFT", 0.01)
    monkeypatch.setattr("commonlore.peer.asking.hearing.RECONSIDER_S", 0.05)
    async with pair(third=True) as p, trio.open_nursery() as nursery:
        caught = trio.Event()

        async def tarpit(call: Any) -> None:
            stream = InferenceStream(Role.WORKER, p.parts.domain)
            stream.receive(await call.receive())
            await call.send(stream.send(Accepted(60_000, False, None)))
            caught.set()
            await trio.sleep_forever()

        Rpc(p.third).serve(INFER, tarpit)
        asker = p.asker(nursery, (p.ad_of_third(), 2))

        async def appear() -> None:
            await caught.wait()
            p.see(asker, p.offer.ad, 0)

        nursery.start_soon(appear)
        async with asker.ask(p.options(deadline_s=60)) as answer:
            await answer.read()
        assert answer.transcript.finish == "length"
        assert answer.transcript.workers == [p.third.peer_id, p.offer.peer]
        nursery.cancel_scope.cancel()
