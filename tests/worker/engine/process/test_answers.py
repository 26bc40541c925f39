from __future__ import annotations

import pytest
import trio

from commonlore.protocol.errors import EngineFailed
from commonlore.worker.engine.process.answers import MAX_TOKENS_AHEAD, MAX_TOKENS_TOGETHER, Answer
from commonlore.worker.engine.types import TokenEvent


def token(number: int) -> TokenEvent:
    return TokenEvent(b"x", tokens=(number,), text=f"{number} ")


def test_events_for_a_slow_reader_become_fewer_but_lose_nothing() -> None:
    async def main() -> None:
        answer = Answer(lambda _held: None)
        for number in range(100):
            answer.push(token(number))
        answer.push(TokenEvent(b"x", finish="length"))
        answer.fail(EngineFailed("too late to matter"))
        events = [await answer.next()]
        while events[-1].finish is None:
            events.append(await answer.next())
        assert [number for event in events for number in event.tokens] == list(range(100))
        assert "".join(event.text for event in events) == "".join(f"{number} " for number in range(100))
        assert len(events) < 10
        assert max(len(event.tokens) for event in events) <= MAX_TOKENS_TOGETHER

    trio.run(main)


def test_a_reader_far_behind_has_the_request_held_until_it_has_caught_up() -> None:
    async def main() -> None:
        said: list[bool] = []
        answer = Answer(said.append)
        for number in range(MAX_TOKENS_AHEAD):
            answer.push(token(number))
        assert said == []
        answer.push(token(1))
        answer.push(token(2))
        assert said == [True]
        read = 0
        while said == [True]:
            read += len((await answer.next()).tokens)
        assert said == [True, False]
        assert read >= MAX_TOKENS_AHEAD // 2

    trio.run(main)


def test_what_came_before_a_failure_is_read_first() -> None:
    async def main() -> None:
        answer = Answer(lambda _held: None)
        answer.push(token(1))
        answer.fail(EngineFailed("died"))
        assert (await answer.next()).tokens == (1,)
        with pytest.raises(EngineFailed, match="died"):
            await answer.next()

    trio.run(main)
