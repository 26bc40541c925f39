"""Processes of this machine that compute pieces of work: one that dies takes its own piece along, no other.

Rules of this file: results come as they end; an interruption reaches the parent alone, which ends the others.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar, cast

from .attempts import Broken, attempt

T = TypeVar("T")
Arguments = tuple[Any, ...]


@dataclass(slots=True)
class _Process:
    """A process, the parent's end of its pipe, and the piece that it computes."""

    process: BaseProcess
    pipe: Connection
    piece: int = -1

    def end(self) -> None:
        """Stop it, whatever it does."""
        self.process.terminate()
        self.process.join()
        self.pipe.close()


def compute(act: Callable[..., T], work: Sequence[Arguments], count: int) -> Iterator[tuple[int, T | Broken]]:
    """`act(*work[piece])` of all pieces on `count` processes: (piece, result), as they end."""
    waiting = iter(enumerate(work))
    processes: dict[Connection, _Process] = {}
    try:
        for _ in range(min(count, len(work))):
            _begin(act, waiting, processes)
        while processes:
            for ready in wait(list(processes)):
                process = processes.pop(cast(Connection, ready))
                yield _result_of(process)
                if process.process.is_alive() and _give(process, waiting):
                    processes[process.pipe] = process
                else:
                    process.end()
                    _begin(act, waiting, processes)
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
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = _Process(context.Process(target=_serve, args=(act, theirs), daemon=True), ours)
    resource_tracker.ensure_running()  # whose start would unblock the signal
    unmasked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which the child inherits
    try:
        process.process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, unmasked)
    theirs.close()
    processes[ours] = process
    _send(process, piece)


def _give(process: _Process, waiting: Iterator[tuple[int, Arguments]]) -> bool:
    """The next piece, if there is one."""
    piece = next(waiting, None)
    if piece is None:
        return False
    _send(process, piece)
    return True


def _send(process: _Process, piece: tuple[int, Arguments]) -> None:
    process.piece = piece[0]
    with suppress(OSError):  # it died; its pipe says so
        process.pipe.send(piece)


def _result_of(process: _Process) -> tuple[int, Any]:
    try:
        result: tuple[int, Any] = process.pipe.recv()
    except (EOFError, OSError):
        process.process.join()
        status = process.process.exitcode or 0
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return process.piece, Broken(f"its process {how} (out of memory?)")
    return result


def _serve(act: Callable[..., Any], pipe: Connection) -> None:
    """In the process: compute what comes, until nothing does."""
    with suppress(EOFError, OSError):
        while True:
            piece, arguments = pipe.recv()
            pipe.send((piece, attempt(act, arguments)))
