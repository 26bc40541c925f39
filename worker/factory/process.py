"""The node's side of training: the trainer as a child process whose progress is a stream.

Rules of this file:
- A long matrix product never holds the node's loop, and torch never enters the node.
- Leaving the block kills the trainer; the folder keeps its checkpoint, and the same call goes on from there.
"""

from __future__ import annotations

import json
import subprocess
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

import trio

from ...protocol.errors import (
    CommonloreError,
    ConfigError,
    InvalidAdapter,
    InvalidModel,
    NotFound,
    TrainingFailed,
)
from ..child import how_it_ended, open_process
from .job import TrainProgress, TrainResult, read_result

LOG_FILE = "trainer.log"
_ERRORS: dict[str, type[CommonloreError]] = {
    error.code: error for error in (ConfigError, InvalidAdapter, InvalidModel, NotFound, TrainingFailed)
}


class Updates:
    """A run's progress, to iterate over; the iteration ends when the run has."""

    def __init__(self, process: trio.Process, job_dir: Path) -> None:
        assert process.stdout is not None
        self._process = process
        self._stdout = process.stdout
        self._job_dir = job_dir
        self._lines: deque[bytes] = deque()
        self._partial = b""

    def __aiter__(self) -> Updates:
        return self

    async def __anext__(self) -> TrainProgress:
        while not self._lines:
            await self._read()
        message = json.loads(self._lines.popleft())
        if "error" in message:
            raise _ERRORS.get(message["error"], TrainingFailed)(message["message"])
        return TrainProgress(**message)

    async def _read(self) -> None:
        data = await self._stdout.receive_some()
        if not data:
            await self._end()
        *complete, self._partial = (self._partial + data).split(b"\n")
        self._lines.extend(complete)

    async def _end(self) -> NoReturn:
        if status := await self._process.wait():
            ended = how_it_ended(status, self._job_dir / LOG_FILE)
            raise TrainingFailed(
                f"the trainer of {self._job_dir} {ended}; run it again: it goes on from there"
            )
        raise StopAsyncIteration


@asynccontextmanager
async def train(job_dir: Path) -> AsyncIterator[Updates]:
    """Train the job in `job_dir`: `async with train(folder) as updates: async for progress in updates: …`.

    `result_of` then tells what came of it. Iterating raises ConfigError, InvalidModel, and TrainingFailed
    where the process dies.
    """
    async with _run(job_dir) as updates:
        yield updates


@asynccontextmanager
async def merge(job_dir: Path) -> AsyncIterator[Updates]:
    """Merge what merge.json in `job_dir` names, as `train` trains; `read_merged` then tells what came of it.

    Iterating raises ConfigError, InvalidModel, InvalidAdapter, NotFound, and TrainingFailed where the process
    dies.
    """
    async with _run(job_dir, "--merge") as updates:
        yield updates


@asynccontextmanager
async def admit(job_dir: Path) -> AsyncIterator[Updates]:
    """Carry out the admission test in `job_dir`, as `train` trains; `read_gains` then tells what it found.

    Iterating raises ConfigError, InvalidModel, and TrainingFailed where the process dies.
    """
    async with _run(job_dir, "--admit") as updates:
        yield updates


@asynccontextmanager
async def _run(job_dir: Path, *options: str) -> AsyncIterator[Updates]:
    command = ["commonlore.worker.factory.run", str(job_dir), "--with-parent", *options]
    log = job_dir / LOG_FILE
    async with open_process(command, log, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Updates(process, job_dir)


def result_of(job_dir: Path) -> TrainResult:
    """What came of a finished run. Raises TrainingFailed where it has not finished."""
    result = read_result(job_dir)
    if result is None:
        raise TrainingFailed(f"the training in {job_dir} has not finished; run it again to go on")
    return result
