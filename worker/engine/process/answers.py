"""What waits for the reader of one request: its events, in order, a bounded number of them.

Rules of this file:
- Events of a reader that is behind become fewer and longer, never lost.
- A reader too far behind has the engine hold the request; that bounds the memory here, and what is computed
  for someone who may never pay for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from ....protocol.errors import CommonloreError
from ..types import TokenEvent, merge_events

MAX_TOKENS_TOGETHER = 16
"""Tokens above which events that wait are no longer made one."""
MAX_TOKENS_AHEAD = 256
"""Tokens that may wait before the request is held; it goes on when half of them are read."""


class Answer:
    """The events of one request for one reader. `hold` is told True to stop the request, False to go on."""

    def __init__(self, hold: Callable[[bool], None]) -> None:
        self.over = False
        self._hold = hold
        self._held = False
        self._ahead = 0
        self._events: deque[TokenEvent] = deque()
        self._error: CommonloreError | None = None
        self._news = trio.Event()

    def push(self, event: TokenEvent) -> None:
        """The next event."""
        last = self._events[-1] if self._events else None
        if last is not None and len(last.tokens) + len(event.tokens) <= MAX_TOKENS_TOGETHER:
            self._events[-1] = merge_events(last, event)
        else:
            self._events.append(event)
        self._ahead += len(event.tokens)
        self.over = event.finish is not None
        self._balance()
        self._news.set()

    def fail(self, error: CommonloreError) -> None:
        """No more events come, and this is why."""
        if not self.over:
            self.over, self._error = True, error
            self._news.set()

    async def next(self) -> TokenEvent:
        """The next event; raises what `fail` was given once the events before it are read."""
        while not self._events:
            if self._error is not None:
                raise self._error
            self._news = trio.Event()
            await self._news.wait()
        event = self._events.popleft()
        self._ahead -= len(event.tokens)
        self._balance()
        return event

    def _balance(self) -> None:
        limit = MAX_TOKENS_AHEAD // 2 if self._held else MAX_TOKENS_AHEAD
        wanted = self._ahead > limit
        if wanted != self._held and not self.over:
            self._held = wanted
            self._hold(wanted)
