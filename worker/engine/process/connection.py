"""One engine process and the socket to it: started, spoken to, and mourned.

`process` replaces it when it dies.

Rules of this file:
- Whoever waits for something of a process gets its answer or, when the process is gone, EngineFailed.
- What waits here is bounded by what the node has open: a request keeps a few hundred tokens (`answers`), a
  call its one answer, and the way out a frame or two for each.
- The engine knows a request by a number of ours. A request id may come again while events of its first try
  are still under way; those reach nobody.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field, replace

import trio

from ....protocol.encoding.codec import FrameReader, decode_message, encode_message, frame
from ....protocol.encoding.shapes import Record
from ....protocol.errors import CommonloreError, EngineFailed, LocalProtocolError, ProtocolError, Refused
from ....protocol.ids import Cid
from ....protocol.inference.messages import RefusalCode
from ..types import EngineConfig, EngineFacts, GenerationRequest
from .answers import Answer
from .wire import (
    GREETINGS,
    REPLIES,
    Abort,
    Broken,
    CallFailed,
    Configure,
    Counted,
    Done,
    Events,
    Hold,
    Loaded,
    Measured,
    Reply,
    RequestFailed,
    error_of,
)

log = logging.getLogger("commonlore.worker.engine")
_STDERR_TAIL = 4096
_CLOSE_PATIENCE_S = 2.0


@dataclass(slots=True)
class _Call:
    done: trio.Event = field(default_factory=trio.Event)
    reply: Reply | None = None
    error: CommonloreError | None = None


class Connection:
    """A running engine process. `resident` mirrors its RAM: adapter → bytes of it."""

    def __init__(self, process: trio.Process, stream: trio.SocketStream, facts: EngineFacts) -> None:
        self.facts = facts
        self.resident: dict[Cid, int] = {}
        self.started = trio.current_time()
        self._process = process
        self._stream = stream
        self._keys: dict[bytes, bytes] = {}  # of the requests that are open: our numbers
        self._answers: dict[bytes, Answer] = {}
        self._calls: dict[int, _Call] = {}
        self._next_call = 0
        self._obituary: str | None = None
        # unbounded, but see the rules of this file
        self._outgoing, self._to_send = trio.open_memory_channel[bytes](math.inf)

    @property
    def dead(self) -> bool:
        """Whether the process is gone; nothing can be asked of it any more."""
        return self._obituary is not None

    # ---- speaking

    def begin(self, request: GenerationRequest) -> Answer:
        """Send a request; the events of its answer name it by our number.

        Raises Refused(busy), LocalProtocolError, EngineFailed.
        """
        if len(self._answers) >= self.facts.max_batch + self.facts.max_queue:
            raise Refused(
                RefusalCode.BUSY, f"{len(self._answers)} requests are open already: try another worker"
            )
        if request.request_id in self._keys:
            raise LocalProtocolError(f"the request {request.request_id.hex()} is already running")
        key = self.next_call().to_bytes(8, "big")
        self._send(replace(request, request_id=key))
        self._keys[request.request_id] = key
        answer = self._answers[key] = Answer(lambda held: self.tell(Hold(key, held)))
        return answer

    def end(self, request_id: bytes) -> None:
        """The reader of this request is gone; abort it unless it is over."""
        key = self._keys.pop(request_id)
        if not self._answers.pop(key).over:
            self.tell(Abort(key))

    def tell(self, message: Record) -> None:
        """Send what nobody waits for an answer to; nothing happens when the process is gone."""
        if not self.dead:
            self._send(message)

    def next_call(self) -> int:
        """A number for a call, or a request."""
        self._next_call += 1
        return self._next_call

    async def ask(self, number: int, message: Record) -> Reply:
        """Send the call `number` and wait for its answer. Raises what the engine raised, EngineFailed."""
        call = _Call()
        self._send(message)
        self._calls[number] = call
        try:
            await call.done.wait()
        finally:
            del self._calls[number]
        if call.error is not None:
            raise call.error
        assert call.reply is not None  # done is set with one of the two
        return call.reply

    def _send(self, message: Record) -> None:
        if self._obituary is not None:
            raise EngineFailed(self._obituary)
        self._outgoing.send_nowait(frame(encode_message(message)))

    # ---- listening

    async def run(self) -> None:
        """Move frames until the process is gone; then everybody who waits gets EngineFailed."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                tail = bytearray()
                nursery.start_soon(_keep_tail, self._process, tail)
                await self._read()
                await self._process.wait()
                nursery.cancel_scope.cancel()
            self._die(_obituary(self._process.returncode, bytes(tail)))
        finally:
            self._die("the engine was closed")
            await _end(self._process, self._stream)

    async def _read(self) -> None:
        reader = FrameReader()
        try:
            while data := await self._stream.receive_some(1 << 16):
                for body in reader.feed(data):
                    self._take(decode_message(body, REPLIES))
        except trio.BrokenResourceError:
            return
        except ProtocolError:
            log.exception("the engine process talks nonsense; it is replaced")
            self._process.kill()

    async def _write(self) -> None:
        try:
            async for data in self._to_send:
                await self._stream.send_all(data)
        except trio.BrokenResourceError:
            return  # the process is gone; the reading side says so

    def _take(self, reply: Reply) -> None:
        match reply:
            case Events():
                for event in reply.events:
                    if event.request_id in self._answers:
                        self._answers[event.request_id].push(event)
            case RequestFailed():
                if reply.request_id in self._answers:
                    self._answers[reply.request_id].fail(error_of(reply.failure))
            case CallFailed():
                self._settle(reply.call, error=error_of(reply.failure))
            case Done() | Loaded() | Counted() | Measured():
                self._settle(reply.call, reply)

    def _settle(self, number: int, reply: Reply | None = None, error: CommonloreError | None = None) -> None:
        call = self._calls.get(number)
        if call is not None:
            call.reply, call.error = reply, error
            call.done.set()

    def _die(self, obituary: str) -> None:
        if self.dead:
            return
        self._obituary = obituary
        self.resident.clear()
        for answer in self._answers.values():
            answer.fail(EngineFailed(obituary))
        for number in self._calls:
            self._settle(number, error=EngineFailed(obituary))


async def start_process(config: EngineConfig) -> Connection:
    """Start an engine process and wait until its base is loaded. Raises InvalidModel, EngineFailed."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "commonlore.worker.engine.process.serve", "--fd", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": str(config.threads), "TOKENIZERS_PARALLELISM": "false"},
        )
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    try:
        facts = await _handshake(config, process, stream)
    except BaseException:
        await _end(process, stream)
        raise
    return Connection(process, stream, facts)


async def _handshake(config: EngineConfig, process: trio.Process, stream: trio.SocketStream) -> EngineFacts:
    reader, tail = FrameReader(), bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_keep_tail, process, tail)
        bodies: list[bytes] = []
        try:
            await stream.send_all(frame(encode_message(Configure(config))))
            while not bodies and (data := await stream.receive_some(1 << 16)):
                bodies = reader.feed(data)
        except trio.BrokenResourceError:
            pass  # it is gone before it said anything: told below
        if not bodies:
            await process.wait()
        nursery.cancel_scope.cancel()
    if not bodies:
        raise EngineFailed(_obituary(process.returncode, bytes(tail)))
    answer = decode_message(bodies[0], GREETINGS)
    if isinstance(answer, Broken):
        raise error_of(answer.failure)
    return answer.facts


async def _keep_tail(process: trio.Process, tail: bytearray) -> None:
    """Keep the end of what the process writes to stderr, and log it."""
    assert process.stderr is not None  # asked for at its start
    async for data in process.stderr:
        log.warning("engine process: %s", data.decode(errors="replace").rstrip())
        tail += data
        del tail[:-_STDERR_TAIL]


def _obituary(status: int | None, stderr: bytes) -> str:
    how = f"signal {-status}" if status is not None and status < 0 else f"exit status {status}"
    lines = stderr.decode(errors="replace").strip().splitlines()
    return f"the engine process died ({how})" + (f": {lines[-1][:500]}" if lines else "")


async def _end(process: trio.Process, stream: trio.SocketStream) -> None:
    """Close the socket, which ends the process; kill it if it does not listen."""
    with trio.CancelScope(shield=True):
        await stream.aclose()
        with trio.move_on_after(_CLOSE_PATIENCE_S):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        if process.stderr is not None:
            await process.stderr.aclose()
