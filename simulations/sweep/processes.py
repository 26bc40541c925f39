"""Processes of this machine that compute pieces of work: one that dies takes its own piece along, no other.

Rules of this file: results come as they end; an interruption from the keyboard reaches the parent alone,
which ends the others; the script or notebook that asked is not imported by them, so it needs no guard.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar, cast

from .attempts import Broken, attempt

T = TypeVar("T")
Arguments = tuple[Any, ...]
CHILD = f"""
import sys
from multiprocessing.connection import Connection
pipe = Connection(int(sys.argv[1]))
sys.path[:] = pipe.recv()
from {__name__} import serve
serve(pipe)
"""


@dataclass(slots=True)
class _Process:
    """A process, the parent's end of its pipe, and the piece that it computes."""

    process: subprocess.Popen[bytes]
    pipe: Connection
    piece: int = -1

    def send(self, message: object) -> None:
        """To the process; if it died, its pipe will say so."""
        with suppress(OSError):
            self.pipe.send(message)

    def end(self) -> None:
        """Stop it, whatever it does."""
        self.process.terminate()
        self.process.wait()
        self.pipe.close()


def compute(act: Callable[..., T], work: Sequence[Arguments], count: int) -> Iterator[tuple[int, T | Broken]]:
    """`act(*work[piece])` of all pieces on `count` processes: (piece, result), as they end. `act` can be
    imported by name."""
    waiting = iter(enumerate(work))
    processes: dict[Connection, _Process] = {}
    try:
        for _ in range(min(count, len(work))):
            _begin(act, waiting, processes)
        while processes:
            for ready in wait(list(processes)):
                process = processes.pop(cast(Connection, ready))
                result = _result_of(process)
                if process.process.poll() is None and _give(process, waiting):
                    processes[process.pipe] = process
                else:
                    process.end()
                    _begin(act, waiting, processes)
                yield result
    finally:
        for process in processes.values():
            process.end()


def _begin(
    act: Callable[..., T], waiting: Iterator[tuple[int, Arguments]], processes: dict[Connection, _Process]
) -> None:
    """One more process, if there is work for it."""
    piece = next(waiting, None)
    if piece is None:
        return
    ours, theirs = Pipe()
    command = [sys.executable, "-c", CHILD, str(theirs.fileno())]
    started = subprocess.Popen(command, pass_fds=(theirs.fileno(),), process_group=0)
    theirs.close()
    process = processes[ours] = _Process(started, ours, piece[0])
    for message in (sys.path, act, piece):
        process.send(message)


def _give(process: _Process, waiting: Iterator[tuple[int, Arguments]]) -> bool:
    """The next piece, if there is one."""
    piece = next(waiting, None)
    if piece is None:
        return False
    process.piece = piece[0]
    process.send(piece)
    return True


def _result_of(process: _Process) -> tuple[int, Any]:
    try:
        result: tuple[int, Any] = process.pipe.recv()
    except (EOFError, OSError):
        status = process.process.wait()
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return process.piece, Broken(f"its process {how} (out of memory?)")
    return result


def serve(pipe: Connection) -> None:
    """In the process: compute what comes, until nothing does."""
    with suppress(EOFError, OSError):
        act = pipe.recv()
        while True:
            piece, arguments = pipe.recv()
            pipe.send((piece, attempt(act, arguments)))
