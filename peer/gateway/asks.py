"""Asks that come in by HTTP: bounded in number, counted, and left when their caller leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from ...protocol.content.compositions import AdapterWeight
from ...protocol.errors import CommonloreError, Refused
from ...protocol.inference.messages import RefusalCode
from ..asking.answers import Answer, AskOptions, Citation, Delta, Transcript
from .metrics import Metrics
from .node import GatewayNode

MAX_IN_FLIGHT = 256


class CountedAnswer:
    """An answer under way whose first token is timed. Iterate over it as over `Answer`."""

    def __init__(self, answer: Answer, metrics: Metrics, started: float) -> None:
        self._answer = answer
        self._metrics = metrics
        self._started = started
        self._spoke = False
        self.whole = False

    @property
    def transcript(self) -> Transcript:
        """What was delivered so far, with its receipts."""
        return self._answer.transcript

    @property
    def adapters(self) -> tuple[AdapterWeight, ...]:
        """The adapters that answer."""
        return self._answer.adapters

    @property
    def citations(self) -> tuple[Citation, ...]:
        """The rows that were put before the question."""
        return self._answer.citations

    def __aiter__(self) -> CountedAnswer:
        return self

    async def __anext__(self) -> Delta:
        try:
            delta = await self._answer.__anext__()
        except StopAsyncIteration:
            self.whole = True
            raise
        if not self._spoke:
            self._spoke = True
            self._metrics.first_token(trio.current_time() - self._started)
        return delta


class Asks:
    """The asks of one node's HTTP doors."""

    def __init__(self, node: GatewayNode, high: int = MAX_IN_FLIGHT) -> None:
        """At most `high` at once."""
        self._node = node
        self._high = high
        self._running = 0
        self.metrics = Metrics(node)

    @asynccontextmanager
    async def open(self, door: str, options: AskOptions) -> AsyncIterator[CountedAnswer]:
        """One answer as it grows; leaving the block cancels it. Raises Refused (busy), and as `ask`."""
        if self._running >= self._high:
            raise Refused(RefusalCode.BUSY, f"{self._high} asks are under way here; try again a little later")
        self._running += 1
        self.metrics.began()
        started = trio.current_time()
        outcome, counted = "left", None
        try:
            async with self._node.ask(options) as answer:
                counted = CountedAnswer(answer, self.metrics, started)
                yield counted
            outcome = "ok" if counted.whole else "left"
        except CommonloreError as error:
            outcome = str(error.code)
            raise
        finally:
            self._running -= 1
            self.metrics.ended(door, outcome, counted.transcript if counted else None)
