"""A measuring process and its parent: one line of JSON there, one line back.

Rules of this file: the child says `{"ready": …}` when it can be asked, and ends when its standard input
closes, so that it never outlives the benchmark; what it writes to standard error goes into a file, whose
end explains a failure.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import psutil

ROOT = Path(__file__).parent.parent
STOP_S = 20.0
Message = dict[str, Any]


class ChildFailed(Exception):
    """A measuring process ended instead of answering; the message has its last words."""


@dataclass(frozen=True, slots=True)
class Launch:
    """With which interpreter a child runs, and what its environment has besides this process's."""

    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)


class Child:
    """A process that runs a module of this folder. `order` is the first line it reads."""

    def __init__(
        self, module: str, order: Mapping[str, object], folder: Path, launch: Launch | None = None
    ) -> None:
        launch = launch or Launch()
        self.name = module
        self._stderr = folder / f"{module}-{os.urandom(3).hex()}.stderr"
        with self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                [launch.python, "-m", f"benchmarks.{module}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=ROOT,
                env=os.environ
                | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
                | launch.environment,
            )
        self.tell(order)
        self._ready: Message | None = None

    def wait_ready(self) -> Message:
        """What it said first; waits for that. Raises ChildFailed."""
        if self._ready is None:
            self._ready = self.hear()
        return self._ready

    def ask(self, order: Mapping[str, object]) -> Message:
        """One order and its answer. Raises ChildFailed."""
        self.tell(order)
        return self.hear()

    def tell(self, order: Mapping[str, object]) -> None:
        """An order, whose answer `hear` waits for."""
        assert self.process.stdin is not None  # opened as a pipe
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()

    def hear(self) -> Message:
        """The next answer. Raises ChildFailed."""
        assert self.process.stdout is not None  # opened as a pipe
        line = self.process.stdout.readline()
        if not line:
            raise ChildFailed(
                f"benchmarks.{self.name} ended: {self._stderr.read_text(errors='replace')[-2000:]}"
            )
        said: Message = json.loads(line)
        return said

    def pause(self) -> None:
        """Stop it where it is, so that it takes nothing from whoever's turn it is."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it; after a while by force."""
        self.resume()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def open_child(
    module: str, order: Mapping[str, object], folder: Path, launch: Launch | None = None
) -> Iterator[Child]:
    """A measuring process until the block ends. It may not be ready yet."""
    child = Child(module, order, folder, launch)
    try:
        yield child
    finally:
        child.close()


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, in user and system mode."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def note(what: str) -> None:
    """A line of progress, for people."""
    print(f"[{time.strftime('%H:%M:%S')}] {what}", file=sys.stderr, flush=True)


# ---- the child's side


def say(message: Mapping[str, object], stream: TextIO | None = None) -> None:
    """An answer to the parent, through standard output or what took its place."""
    stream = stream or sys.stdout
    stream.write(json.dumps(message) + "\n")
    stream.flush()


def next_order() -> Message | None:
    """The parent's next line; None when it has closed. Blocks."""
    line = sys.stdin.readline()
    order: Message | None = json.loads(line) if line else None
    return order
