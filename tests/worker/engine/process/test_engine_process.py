"""The engine in its own process, real: started, asked, killed, restarted, closed."""

from __future__ import annotations

import os
import queue
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import trio
import trio.testing

from commonlore.protocol.errors import (
    EngineFailed,
    InvalidAdapter,
    InvalidModel,
    Refused,
    RemoteProtocolError,
)
from commonlore.protocol.requests.records import Sampling
from commonlore.worker.engine.process.answers import MAX_TOKENS_AHEAD
from commonlore.worker.engine.process.engine_process import EngineProcess, open_engine
from commonlore.worker.engine.types import (
    AdapterSource,
    EngineConfig,
    EngineStats,
    GenerationRequest,
    TokenEvent,
)
from commonlore.worker.models.reference import BaseModel

ENDLESS = Sampling(seed=1, max_tokens=1900)


class Held:
    """One engine process for several tests, in a trio of its own: to start one takes seconds of torch."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._thread = threading.Thread(target=trio.run, args=(self._main,))
        self._opened: queue.Queue[tuple[EngineProcess, trio.lowlevel.TrioToken]] = queue.Queue()
        self._over = trio.Event()
        self._thread.start()
        self._engine, self._token = self._opened.get(timeout=240)

    async def _main(self) -> None:
        async with open_engine(self._config) as engine:
            self._opened.put((engine, trio.lowlevel.current_trio_token()))
            await self._over.wait()

    def run(self, body: Callable[[EngineProcess], Awaitable[None]]) -> None:
        """Raises what `body` raises; it leaves the engine idle."""

        async def within() -> None:
            with trio.fail_after(240):
                await body(self._engine)

        trio.from_thread.run(within, trio_token=self._token)

    def close(self) -> None:
        trio.from_thread.run_sync(self._over.set, trio_token=self._token)
        self._thread.join()


@pytest.fixture(scope="module")
def held(tiny: BaseModel) -> Iterator[Held]:
    opened = Held(
        EngineConfig(str(tiny.directory), "fp32", pages=512, max_batch=4, max_queue=4, device="cpu")
    )
    yield opened
    opened.close()


async def collect(engine: EngineProcess, request: GenerationRequest) -> tuple[list[int], str, TokenEvent]:
    tokens: list[int] = []
    text = ""
    async with aclosing(engine.generate(request)) as events:
        async for event in events:
            tokens += event.tokens
            text += event.text
    return tokens, text, event


async def until(engine: EngineProcess, condition: Callable[[EngineStats], bool]) -> EngineStats:
    """Wait for a state of the engine; the test's own deadline ends a wait in vain."""
    while True:
        stats = await engine.stats()
        if condition(stats):
            return stats
        await trio.sleep(0.01)


def is_idle(stats: EngineStats) -> bool:
    return not stats.running and not stats.queued


def engine_child() -> psutil.Process:
    (child,) = [
        p for p in psutil.Process().children() if "commonlore.worker.engine.process.serve" in p.cmdline()
    ]
    return child


def test_answers_calls_and_adapters(
    lab, engine, held: Held, adapters: list[AdapterSource], tmp_path: Path
) -> None:
    """What the process says is what the engine says in this one; bad input fails alone."""
    plain = lab.ask("hello", 1, top_logprobs=2, stop=("zz",))
    adapted = lab.ask("hello", 2, adapters=lab.one_adapter(adapters[0]))
    expected = lab.run(engine, plain, adapted)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(Path(adapters[0].path).read_bytes()[:5000])

    async def body(remote: EngineProcess) -> None:
        assert (remote.facts.base, remote.facts.artefact) == (engine.facts.base, engine.facts.artefact)
        before = (await remote.stats()).output_tokens
        with pytest.raises(Refused, match="not loaded") as refused:
            await collect(remote, adapted)
        assert refused.value.code == "unknown_adapter"
        with pytest.raises(InvalidAdapter, match="truncated"):
            await remote.load_adapter(replace(adapters[0], path=str(broken)))
        await remote.load_adapter(adapters[0])
        assert remote.resident == {adapters[0].adapter: engine.facts.packed_bytes(8)}
        answers: dict[int, tuple[list[int], str, TokenEvent]] = {}

        async def one(number: int, request: GenerationRequest) -> None:
            answers[number] = await collect(remote, request)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, 0, plain)
            nursery.start_soon(one, 1, adapted)
        for number, said in enumerate(expected):
            assert answers[number][:2] == (said.tokens, said.text)
            assert answers[number][2].finish == "length"
            assert answers[number][2].prompt_tokens == said.last.prompt_tokens
        with pytest.raises(RemoteProtocolError, match="either messages or prompt tokens"):
            await collect(remote, lab.ask("", 3, messages=()))
        assert await remote.count_tokens(plain.messages) == expected[0].last.prompt_tokens
        await remote.unload_adapter(adapters[0].adapter)
        stats = await until(remote, is_idle)
        assert (stats.resident, stats.output_tokens - before) == ((), 48)

    held.run(body)


def test_leaving_aborts_and_a_full_engine_refuses(lab, held: Held) -> None:
    async def body(remote: EngineProcess) -> None:
        before = await remote.stats()
        async with aclosing(remote.generate(lab.ask("x", 1, sampling=ENDLESS))) as events:
            async for _ in events:
                break
        with trio.move_on_after(0.05):
            await collect(remote, lab.ask("y", 2, sampling=ENDLESS))

        stats = await until(remote, is_idle)
        assert stats.free_pages == before.free_pages
        assert stats.output_tokens - before.output_tokens < 1900
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(collect, remote, lab.ask("z", 10 + number, sampling=ENDLESS))
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(Refused, match="open already"):
                await collect(remote, lab.ask("z", 99))
            nursery.cancel_scope.cancel()

    held.run(body)


def test_an_answer_nobody_reads_is_held_and_then_goes_on(lab, held: Held) -> None:
    async def body(remote: EngineProcess) -> None:
        async with aclosing(remote.generate(lab.ask("x", 1, sampling=ENDLESS))) as events:
            before = (await remote.stats()).output_tokens
            tokens = list((await anext(events)).tokens)
            stats = await until(remote, lambda stats: stats.held == 1)
            assert stats.output_tokens - before < 3 * MAX_TOKENS_AHEAD  # what was on its way when it was held
            assert (await collect(remote, lab.ask("another", 2)))[2].finish == "length"
            async for event in events:
                tokens += event.tokens
        assert len(tokens) == 1900

    held.run(body)


def test_a_load_that_nobody_waits_for_any_more_leaves_nothing_in_ram(
    held: Held, adapters: list[AdapterSource]
) -> None:
    async def body(remote: EngineProcess) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await remote.load_adapter(adapters[0])
        await remote.load_adapter(adapters[1])  # read after the other
        assert [one.adapter for one in (await remote.stats()).resident] == [adapters[1].adapter]
        assert remote.resident.keys() == {adapters[1].adapter}
        with trio.CancelScope() as scope:
            scope.cancel()
            await remote.load_adapter(adapters[0])
        await remote.load_adapter(adapters[0])  # wanted again, while the other is taken back
        assert remote.resident.keys() == {one.adapter for one in (await remote.stats()).resident}
        for source in adapters[:2]:
            await remote.unload_adapter(source.adapter)
        assert (await remote.stats()).resident == ()

    held.run(body)


def test_a_request_id_that_comes_again_gets_nothing_of_its_first_try(lab, held: Held) -> None:
    async def body(remote: EngineProcess) -> None:
        wanted = lab.ask("one", sampling=Sampling(seed=1, max_tokens=40))
        expected = (await collect(remote, wanted))[0]
        async with aclosing(remote.generate(lab.ask("another", sampling=ENDLESS))) as events:
            assert (await anext(events)).request_id == wanted.request_id
            assert remote._connection is not None
            arrived = remote._connection._stream.socket.fileno()
            assert select.select([arrived], [], [], 30) != ([], [], [])  # more of it, which nobody has read
        assert (await collect(remote, wanted))[0] == expected
        await until(remote, is_idle)

    held.run(body)


def test_death_fails_what_runs_and_the_next_process_serves(
    lab, held: Held, adapters: list[AdapterSource]
) -> None:
    async def body(remote: EngineProcess) -> None:
        await remote.load_adapter(adapters[0])

        async def ask_and_kill() -> None:
            async with aclosing(remote.generate(lab.ask("x", 1, sampling=ENDLESS))) as events:
                await anext(events)
                engine_child().kill()
                async for _ in events:
                    pass

        with pytest.raises(EngineFailed, match="signal 9"):
            await ask_and_kill()
        assert remote.resident == {}
        _, _, last = await collect(remote, lab.ask("x", 1))  # waits for the next process
        assert (last.finish, remote.restarts) == ("length", 1)
        with pytest.raises(Refused, match="not loaded"):
            await collect(remote, lab.ask("x", 2, adapters=lab.one_adapter(adapters[0])))

    held.run(body)


def test_an_engine_that_cannot_start_says_why(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_engine(EngineConfig(str(tmp_path))):
            raise AssertionError("it started")

    with pytest.raises(InvalidModel, match="not an imported base"):
        trio.run(main)


PARENT = """
import sys, trio
from commonlore.worker.engine.process.answers import MAX_TOKENS_AHEAD
from commonlore.worker.engine.process.engine_process import open_engine
from commonlore.worker.engine.types import EngineConfig

async def main():
    async with open_engine(EngineConfig(sys.argv[1], "fp32")) as engine:
        print("ready", flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


def test_the_process_ends_with_its_parent(tiny: BaseModel) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tiny.directory)], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        (child,) = psutil.Process(parent.pid).children()
        os.kill(parent.pid, signal.SIGKILL)
        psutil.wait_procs([child], timeout=120)
        assert not child.is_running()
