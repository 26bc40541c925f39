"""The engine's own process: `python -m commonlore.worker.engine.process.serve --fd N`, where N is its end of
a socket pair.

Rules of this file:
- Three threads. The main one steps the engine and is the only one to change it; one reads frames and
  tokenises; one reads adapter files. So neither a long prompt nor a large adapter holds up a step, and a step
  holds up neither. Adapters come and go in the order in which it was asked for.
- When the other end closes, whoever held it is gone: the process ends at once, whatever it was doing.
- An error that is a CommonloreError belongs to the request or call that caused it. Anything else is a defect:
  it ends the process with a traceback, and the node starts another.
"""

from __future__ import annotations

import argparse
import logging
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ....protocol.encoding.codec import FrameReader, decode_message
from ....protocol.errors import CommonloreError, EngineFailed, RemoteProtocolError
from ...models.reference import load_base
from ..engine import Engine, LoadedAdapter
from ..memory.heap import keep_freed
from ..types import EngineConfig, GenerationRequest
from .outbox import Outbox
from .wire import (
    COMMANDS,
    Abort,
    Broken,
    CallFailed,
    Command,
    Configure,
    Count,
    Counted,
    Done,
    Hold,
    Load,
    Loaded,
    Measure,
    Measured,
    Ready,
    RequestFailed,
    Unload,
    failure_of,
)

log = logging.getLogger("commonlore.worker.engine")
MAX_WAITING_ACTIONS = 256
Action = Callable[[], None]


class EngineServer:
    """Serves one engine over one socket until the other end closes."""

    def __init__(self, engine: Engine, channel: socket.socket) -> None:
        self._engine = engine
        self._outbox = Outbox(channel)
        self._actions: queue.Queue[Action] = queue.Queue(MAX_WAITING_ACTIONS)
        self._adapters = ThreadPoolExecutor(1, "adapters")

    def run(self, frames: Iterator[bytes]) -> None:
        """Step for ever. `frames` are the commands still to come."""
        threading.Thread(target=self._read, args=(frames,), name="commands", daemon=True).start()
        self._outbox.send(Ready(self._engine.facts))
        while True:
            self._act()
            self._outbox.collect(self._engine.step())

    def _act(self) -> None:
        """Do what was asked between two steps; with nothing to compute, wait until something is asked."""
        if not self._engine.has_work():
            self._outbox.flush()
            self._wait()
        while True:
            try:
                action = self._actions.get_nowait()
            except queue.Empty:
                return
            action()

    def _wait(self) -> None:
        """Until something is asked, or the deadline of a request that is held passes."""
        seconds = self._engine.seconds_to_deadline()
        try:
            action = self._actions.get(timeout=None if seconds is None else max(0.0, seconds))
        except queue.Empty:
            return
        action()

    # ---- the reading thread

    def _read(self, frames: Iterator[bytes]) -> None:
        try:
            for body in frames:
                self._take(decode_message(body, COMMANDS))
        except BaseException:
            log.exception("the engine cannot read its commands")
            os._exit(1)
        os._exit(0)

    def _take(self, command: Command) -> None:
        match command:
            case GenerationRequest():
                self._request(command)
            case Abort():
                self._actions.put(lambda: self._abort(command.request_id))
            case Load():
                self._adapters.submit(self._load, command)
            case Unload():
                self._adapters.submit(self._unload, command)
            case Count():
                self._count(command)
            case Measure():
                self._outbox.send(Measured(command.call, self._engine.stats()))
            case Hold():
                self._actions.put(lambda: self._engine.hold(command.request_id, command.held))

    def _request(self, request: GenerationRequest) -> None:
        try:
            prepared = self._engine.prepare(request)
        except CommonloreError as error:
            self._outbox.send(RequestFailed(request.request_id, failure_of(error)))
            return
        except Exception as defect:
            self._outbox.send(RequestFailed(request.request_id, failure_of(_unreadable(defect))))
            return

        def add() -> None:
            try:
                self._engine.add(prepared)
            except CommonloreError as error:
                self._outbox.send(RequestFailed(request.request_id, failure_of(error)))

        self._actions.put(add)

    def _count(self, command: Count) -> None:
        try:
            self._outbox.send(Counted(command.call, self._engine.count_tokens(command.messages)))
        except CommonloreError as error:
            self._outbox.send(CallFailed(command.call, failure_of(error)))
        except Exception as defect:
            self._outbox.send(CallFailed(command.call, failure_of(_unreadable(defect))))

    # ---- the adapters' thread

    def _load(self, command: Load) -> None:
        try:
            adapter = self._engine.read_adapter(command.source)
        except CommonloreError as error:
            self._outbox.send(CallFailed(command.call, failure_of(error)))
        except Exception as defect:
            log.exception("reading the adapter %s", command.source.adapter)
            failed = EngineFailed(f"the adapter {command.source.adapter} could not be read: {defect!r}")
            self._outbox.send(CallFailed(command.call, failure_of(failed)))
        else:
            self._actions.put(lambda: self._install(command.call, adapter))

    def _unload(self, command: Unload) -> None:
        """After what is to be loaded before, so that a load can be taken back while the file is read."""
        self._actions.put(lambda: self._answer(command.call, lambda: self._engine.unload(command.adapter)))

    # ---- between steps

    def _abort(self, request_id: bytes) -> None:
        self._engine.abort(request_id)
        self._outbox.drop(request_id)

    def _install(self, call: int, adapter: LoadedAdapter) -> None:
        try:
            self._engine.install(adapter)
        except CommonloreError as error:
            self._outbox.send(CallFailed(call, failure_of(error)))
        else:
            self._outbox.send(Loaded(call, adapter.bytes))

    def _answer(self, call: int, action: Action) -> None:
        try:
            action()
        except CommonloreError as error:
            self._outbox.send(CallFailed(call, failure_of(error)))
        else:
            self._outbox.send(Done(call))


def read_frames(channel: socket.socket) -> Iterator[bytes]:
    """The frames that arrive until the other end closes."""
    reader = FrameReader()
    while data := channel.recv(1 << 16):
        yield from reader.feed(data)


def build_engine(config: EngineConfig) -> Engine:
    """The engine of this configuration. Raises InvalidModel, and that before it spends seconds on torch.

    Raises MissingDependency where exllamav2 cannot run, or there is no such device.
    """
    load_base(Path(config.base_dir))
    if config.engine == "exllamav2":
        from ..exllamav2.engine import build_exllamav2_engine

        return build_exllamav2_engine(config)
    import torch

    from ..torch_engine import TorchEngine

    torch.set_num_threads(max(1, config.threads))
    torch.set_num_interop_threads(1)
    return TorchEngine(config)


def _unreadable(defect: Exception) -> EngineFailed:
    """A defect in turning somebody's messages into tokens fails that one call. It may quote them: its text
    is not kept."""
    log.error("messages could not be read: %s", type(defect).__name__)
    return EngineFailed(f"the messages could not be read: {type(defect).__name__}")


def main(arguments: list[str]) -> int:
    """Serve the engine on the inherited socket that `--fd` names."""
    parser = argparse.ArgumentParser(prog="commonlore.worker.engine.process.serve", description=__doc__)
    parser.add_argument("--fd", type=int, required=True)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the node decides when the engine ends
    channel = socket.socket(fileno=parser.parse_args(arguments).fd)
    frames = read_frames(channel)
    try:
        config = decode_message(next(frames), (Configure,)).config
        engine = build_engine(config)
    except (CommonloreError, StopIteration) as error:
        failed = error if isinstance(error, CommonloreError) else RemoteProtocolError("no configuration came")
        Outbox(channel).send(Broken(failure_of(failed)))
        return 1
    keep_freed()  # after the base was read, so that nothing of that stays
    EngineServer(engine, channel).run(frames)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
