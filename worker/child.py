"""A child process of the node: started, spoken with over a socket pair, never outliving the block or the
node.

Rules of this file:
- One frame is a 32-bit big-endian length and that many bytes (`protocol.encoding.codec`), at most MAX_FRAME;
  what is larger goes by file. The parent's end is trio's, the child's end blocks.
- The child ends when the socket does: a killed node leaves no child behind. Leaving the block kills the
  child.
- What the child prints goes to a log file, whose last lines explain its death.
- A child shares the machine: between two of torch's parallel sections its threads spin shortly, then sleep.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from ..protocol.encoding.codec import FrameReader, frame
from ..protocol.errors import CommonloreError

_CHUNK = 65_536
_SHOWN_LINES = 3
_SPINS = {"GOMP_SPINCOUNT": "1000"}
"""Rounds that an idle OpenMP thread spins: microseconds instead of libgomp's milliseconds, in which processes
that want the same cores take them from each other. None at all (OMP_WAIT_POLICY=PASSIVE) slows one that is
alone."""
_OWN_SPINS = frozenset(("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"))


class ChildDied(CommonloreError):
    """The child process ended without being asked to; the message says how, with the last lines of its
    log.
    """

    code = "child_died"


class Child:
    """The parent's end: a running child process and the socket to it."""

    def __init__(self, process: trio.Process, stream: trio.SocketStream, log: Path) -> None:
        self.process = process
        self._stream = stream
        self._log = log
        self._frames = FrameReader()
        self._bodies: deque[bytes] = deque()

    async def send(self, body: bytes) -> None:
        """Send one frame. Raises ChildDied."""
        try:
            await self._stream.send_all(frame(body))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise await self.obituary() from None

    async def receive(self) -> bytes:
        """The next frame's body. Raises ChildDied when the child has ended."""
        while not self._bodies:
            try:
                data = await self._stream.receive_some(_CHUNK)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                raise await self.obituary() from None
            self._bodies.extend(self._frames.feed(data))
        return self._bodies.popleft()

    async def obituary(self) -> ChildDied:
        """How the child ended."""
        return ChildDied(how_it_ended(await self.process.wait(), self._log))


@asynccontextmanager
async def open_child(
    module: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]
) -> AsyncIterator[Child]:
    """Run `python -m module arguments… --socket FD` until the block is left; `environment` adds to this
    one's.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        command = [module, *arguments, "--socket", str(theirs.fileno())]
        spawning = open_process(
            command,
            log,
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            env=os.environ | environment,
        )
        async with spawning as process:
            theirs.close()
            async with trio.SocketStream(trio.socket.from_stdlib_socket(ours)) as stream:
                yield Child(process, stream, log)


@asynccontextmanager
async def open_process(command: Sequence[str], log: Path, **options: Any) -> AsyncIterator[trio.Process]:
    """Run `python -m command…`, its standard error (and output, unless `options` say otherwise) into `log`.

    The process is killed when the block is left.
    """
    environment = considerate(options.pop("env", os.environ))
    with log.open("wb") as file:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", *command],
            **{"stdout": file, "stderr": file, "env": environment, **options},
        )
    try:
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    await pipe.aclose()


def considerate(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which torch's threads let others have their cores, unless it says how they wait."""
    return dict(environment) if _OWN_SPINS & environment.keys() else {**environment, **_SPINS}


def how_it_ended(status: int, log: Path) -> str:
    """A clause for people: exit status or signal, and the log's last lines."""
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    return f"{how}; it said: {' | '.join(lines[-_SHOWN_LINES:])}" if lines else how


class ParentLink:
    """The child's end of the socket. Every call may find that the parent has gone."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._frames = FrameReader()
        self._bodies: deque[bytes] = deque()

    def send(self, body: bytes) -> None:
        """Send one frame; ends the process where nobody reads any more."""
        try:
            self._socket.sendall(frame(body))
        except OSError:
            os._exit(0)

    def receive(self) -> bytes:
        """The next frame's body. Ends the process when the parent has gone."""
        while not self._bodies:
            self._bodies.extend(self._frames.feed(self._read()))
        return self._bodies.popleft()

    def _read(self) -> bytes:
        try:
            data = self._socket.recv(_CHUNK)
        except OSError:
            data = b""
        if not data:
            os._exit(0)
        return data
