"""The modelled engine of `workers` behind the calls of an engine process, for the real worker of `peer`.

An ask names itself in its prompt ("ask 17 …"), padded to three characters a token beyond the client's
allowance, so that the client's own estimate is the workload's prompt length where that is LEAST_PROMPT or
more; the worker counts what the workload says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping

import trio

from ...peer.asking.ask_run import CHARACTERS_PER_TOKEN
from ...protocol.ids import Cid
from ...protocol.requests.records import ChatMessage
from ...worker.engine.types import AdapterSource, EngineFacts, FinishReason, GenerationRequest, TokenEvent
from ..modelled.workers import Engine, Job

ALLOWANCE = 64
"""What a client adds to its estimate of a prompt's tokens."""
LEAST_PROMPT = ALLOWANCE + 8
STREAM_S = 0.02
"""How often what has been computed meanwhile is passed on, at most: no more often than a token comes."""


def prompt_of(number: int, tokens: int) -> str:
    """The prompt of an ask of at least LEAST_PROMPT tokens, by a client's estimate exactly `tokens`."""
    return f"ask {number} ".ljust((tokens - ALLOWANCE) * CHARACTERS_PER_TOKEN, ".")


def number_of(prompt: str) -> int:
    """Which ask it is."""
    return int(prompt.split(maxsplit=2)[1].rstrip("."))


class ModelledProcess:
    """Answers like an engine process, when the model says so. `lengths(ask)` are the tokens of its prompt and
    of its answer; `jobs` has the last job of each ask, `tokens` counts what was given."""

    def __init__(
        self,
        engine: Engine,
        facts: EngineFacts,
        adapter_of: Mapping[Cid, int],
        lengths: Callable[[int], tuple[int, int]],
    ) -> None:
        self.facts = facts
        self.resident: dict[Cid, int] = {}
        self.jobs: dict[int, Job] = {}
        self.tokens = 0
        self._engine = engine
        self._adapter_of = adapter_of
        self._lengths = lengths
        self._stream_s = max(STREAM_S, engine.speed.step_us / 1e6)

    async def count_tokens(self, messages: tuple[ChatMessage, ...]) -> int:
        """A prompt's tokens."""
        return self._lengths(number_of(messages[0].content))[0]

    async def load_adapter(self, source: AdapterSource) -> None:
        """It is on this machine; the model loads it when an answer needs it."""
        self.resident[source.adapter] = 1

    async def unload_adapter(self, adapter: Cid) -> None:
        """Let go of it."""
        self.resident.pop(adapter, None)

    async def generate(self, wanted: GenerationRequest) -> AsyncIterator[TokenEvent]:
        """The answer as the model gives it: tokens 0, 1, 2, …"""
        number, done = number_of(wanted.messages[0].content), len(wanted.delivered)
        (prompt, output), news = self._lengths(number), _News(self._stream_s)
        adapter = self._adapter_of[wanted.adapters[0].adapter] if wanted.adapters else -1
        left = max(1, min(output, wanted.sampling.max_tokens) - done)
        job = self.jobs[number] = Job(number, adapter, prompt + done, left, news.first, news.whole)
        self._engine.add(job)
        sent = 0
        try:
            while sent < left:
                await news.wait()
                ready = left if news.is_whole else self._engine.delivered(job)
                tokens = tuple(range(done + sent, done + ready))
                self.tokens += len(tokens)
                sent = ready
                if tokens:
                    finish = FinishReason.STOP.value if sent == left else None
                    yield TokenEvent(
                        wanted.request_id, tokens, "." * len(tokens), prompt_tokens=prompt, finish=finish
                    )
        finally:
            if not news.is_whole:
                self._engine.abort(job)


class _News:
    """What the model says of one job, for the task that waits for it."""

    def __init__(self, stream_s: float) -> None:
        self.is_whole = False
        self._stream_s = stream_s
        self._began = trio.Event()
        self._ended = trio.Event()

    def first(self, _job: Job) -> None:
        self._began.set()

    def whole(self, _job: Job) -> None:
        self.is_whole = True
        self._began.set()
        self._ended.set()

    async def wait(self) -> None:
        """For the first token; then for the last, or the next."""
        if not self._began.is_set():
            await self._began.wait()
            return
        with trio.move_on_after(self._stream_s):
            await self._ended.wait()
