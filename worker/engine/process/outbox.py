"""What an engine process sends: token events gathered for a moment, so that a fast model does not send a
frame a token.

Rules of this file:
- A request's first event and its last leave at once; in between, tokens wait at most `HOLD_S` for company.
- Sending blocks when the other side does not read: that is the queue's bound. Any thread may send.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable

from ....protocol.encoding.codec import encode_message, frame
from ....protocol.encoding.shapes import Record
from ..types import TokenEvent, merge_events
from .wire import Events

HOLD_S = 0.005


class Outbox:
    """Frames to a socket. `collect` and `flush` belong to one thread, `send` to all."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._held: dict[bytes, TokenEvent] = {}
        self._begun: set[bytes] = set()
        self._held_since = 0.0
        self._urgent = False

    def send(self, message: Record) -> None:
        """One frame, now."""
        data = frame(encode_message(message))
        with self._lock:
            self._channel.sendall(data)

    def collect(self, events: Iterable[TokenEvent]) -> None:
        """Hold these, or send all that is held when something of it is due."""
        for event in events:
            self._hold(event)
        if self._urgent or (self._held and time.monotonic() - self._held_since >= HOLD_S):
            self.flush()

    def flush(self) -> None:
        """Send what is held."""
        if self._held:
            held, self._held = tuple(self._held.values()), {}
            self.send(Events(held))
        self._urgent = False

    def drop(self, request_id: bytes) -> None:
        """Nobody listens to this request any more."""
        self._held.pop(request_id, None)
        self._begun.discard(request_id)

    def _hold(self, event: TokenEvent) -> None:
        if not self._held:
            self._held_since = time.monotonic()
        earlier = self._held.get(event.request_id)
        self._held[event.request_id] = event if earlier is None else merge_events(earlier, event)
        if event.finish is not None:
            self._begun.discard(event.request_id)
            self._urgent = True
        elif event.request_id not in self._begun:
            self._begun.add(event.request_id)
            self._urgent = True
