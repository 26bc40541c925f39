"""An engine in a process of its own, seen from trio: what the node uses.

Rules of this file:
- The node's loop never waits for a forward pass, and a crash of the engine is a restart: what ran gets
  EngineFailed, the next process starts after a pause that grows while starts keep failing, and its RAM and
  slots are empty again.
- Closing or cancelling `generate` aborts the request in the engine.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from ....protocol.errors import CommonloreError, EngineFailed, Refused
from ....protocol.ids import Cid
from ....protocol.requests.records import ChatMessage
from ..types import AdapterSource, EngineConfig, EngineFacts, EngineStats, GenerationRequest, TokenEvent
from .connection import Connection, start_process
from .wire import Count, Counted, Load, Loaded, Measure, Measured, Unload

log = logging.getLogger("commonlore.worker.engine")
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
HEALTHY_S = 30.0
"""A process that lived this long is restarted without a longer pause."""


class EngineProcess:
    """A supervised engine process; get one from `open_engine`."""

    def __init__(self, config: EngineConfig, connection: Connection) -> None:
        self.config = config
        self.facts: EngineFacts = connection.facts
        self.restarts = 0
        self._connection: Connection | None = connection
        self._attempted = trio.Event()  # set when the next start has ended, well or badly
        self._reason = "the engine process is being restarted"

    @property
    def resident(self) -> Mapping[Cid, int]:
        """The adapters in its RAM, with the bytes that each takes.

        Empty while the process is being restarted.
        """
        return {} if self._connection is None else dict(self._connection.resident)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenEvent, None]:
        """The answer as it comes; the last event has `finish`. Close it (`aclosing`) to abort.

        Raises Refused, RemoteProtocolError (a malformed request), InvalidModel (an unusable chat template),
        EngineFailed.
        """
        connection = await self._running()
        answer = connection.begin(request)
        try:
            while True:
                event = await answer.next()
                yield replace(event, request_id=request.request_id)
                if event.finish is not None:
                    return
        finally:
            connection.end(request.request_id)

    async def load_adapter(self, source: AdapterSource) -> None:
        """Validate an adapter file and keep it in RAM.

        Cancelled, it is let go of when it has come: nobody would know that it takes memory.

        Raises InvalidAdapter, Refused(busy), EngineFailed.
        """
        connection = await self._running()
        number = connection.next_call()
        try:
            reply = await connection.ask(number, Load(number, source))
        except trio.Cancelled:
            connection.tell(Unload(connection.next_call(), source.adapter))
            raise
        assert isinstance(reply, Loaded)  # our own process answers a Load so
        connection.resident[source.adapter] = reply.bytes

    async def unload_adapter(self, adapter: Cid) -> None:
        """Let go of an adapter. Raises Refused(busy) while a request names it, EngineFailed."""
        connection = await self._running()
        number = connection.next_call()
        size = connection.resident.pop(adapter, None)  # at once, so that nobody relies on it meanwhile
        try:
            await connection.ask(number, Unload(number, adapter))
        except Refused:
            if size is not None:
                connection.resident[adapter] = size
            raise

    async def count_tokens(self, messages: Sequence[ChatMessage]) -> int:
        """Prompt tokens of these turns. Raises InvalidModel, EngineFailed."""
        connection = await self._running()
        number = connection.next_call()
        reply = await connection.ask(number, Count(number, tuple(messages)))
        assert isinstance(reply, Counted)  # our own process answers a Count so
        return reply.tokens

    async def stats(self) -> EngineStats:
        """Load at this moment, taken between two steps. Raises EngineFailed."""
        connection = await self._running()
        number = connection.next_call()
        reply = await connection.ask(number, Measure(number))
        assert isinstance(reply, Measured)  # our own process answers a Measure so
        return reply.stats

    async def _running(self) -> Connection:
        """The present process; while one is being started, wait for how that ends. Raises EngineFailed."""
        if self._connection is None or self._connection.dead:
            await self._attempted.wait()
        if self._connection is None:
            raise EngineFailed(self._reason)
        return self._connection

    async def supervise(self) -> None:
        """Keep a process running until cancelled."""
        pause = FIRST_PAUSE_S
        while True:
            connection = self._connection
            if connection is not None:
                await connection.run()
                self._connection = None
                log.warning("the engine process is gone; another is started in %.1f s", pause)
                if trio.current_time() - connection.started >= HEALTHY_S:
                    pause = FIRST_PAUSE_S
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
            await self._restart()

    async def _restart(self) -> None:
        try:
            self._connection = await start_process(self.config)
            self.restarts += 1
        except CommonloreError as error:
            log.error("the engine process cannot be started: %s", error)
            self._reason = f"the engine process cannot be started: {error}"
        self._attempted.set()
        self._attempted = trio.Event()


@asynccontextmanager
async def open_engine(config: EngineConfig) -> AsyncIterator[EngineProcess]:
    """Start an engine process and keep it running.

    Raises InvalidModel, EngineFailed when the first start fails.
    """
    engine = EngineProcess(config, await start_process(config))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.supervise)
        try:
            yield engine
        finally:
            nursery.cancel_scope.cancel()
