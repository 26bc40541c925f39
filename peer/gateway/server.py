"""HTTP on trio: the one file that knows the server (hypercorn). Applications are plain ASGI.

Rules of this file:

- Connections are accepted here and handed to hypercorn one by one, each failing alone. Its own `serve` would
  not end while a client does not read (its writes are shielded from cancellation): here a connection's socket
  is closed when its task is cancelled, and then the write fails.
- Sockets are opened here, so that a port in use is one clear error.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from starlette.types import ASGIApp

from ...protocol.errors import ConfigError

log = logging.getLogger(__name__)
BACKLOG = 64
PRIVATE_SOCKET = 0o600


async def serve_http(
    app: ASGIApp,
    listeners: Sequence[trio.SocketListener],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` on these listeners until cancelled; they are closed then."""
    config, context, wrapped = _hypercorn_config(), WorkerContext(None), ASGIWrapper(app)  # type: ignore[arg-type]

    async def converse(stream: trio.SocketStream) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_close_when_cancelled, stream)
                await TCPServer(wrapped, config, context, ConnectionState({}), stream)  # type: ignore[arg-type]
                nursery.cancel_scope.cancel()
        except* Exception:
            log.exception("a connection failed")

    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, converse, list(listeners))
        task_status.started()


async def _close_when_cancelled(stream: trio.SocketStream) -> None:
    try:
        await trio.sleep_forever()
    finally:
        stream.socket.close()


def _hypercorn_config() -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = log
    config.include_server_header = False
    return config


@dataclass(frozen=True, slots=True)
class OpenPort:
    """Listeners on TCP and their URL; leaving it as a context closes them."""

    listeners: tuple[trio.SocketListener, ...]
    url: str

    def __enter__(self) -> OpenPort:
        return self

    def __exit__(self, *ended: object) -> None:
        for listener in self.listeners:
            listener.socket.close()


async def open_port(host: str, port: int) -> OpenPort:
    """Listen on TCP; port 0 lets the system choose. Raises ConfigError."""
    try:
        listeners = await trio.open_tcp_listeners(port, host=host or None, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"the gateway cannot listen on {host}:{port}: {error.strerror or error}; "
            "choose another port with gateway_port (0 lets the system choose)"
        ) from error
    chosen = listeners[0].socket.getsockname()[1]
    return OpenPort(
        tuple(listeners), f"http://{f'[{host}]' if ':' in host else host or 'localhost'}:{chosen}"
    )


@contextmanager
def open_unix_socket(path: Path) -> Iterator[trio.SocketListener]:
    """Listen on a Unix socket that only this user may use; what a killed node left there is replaced.

    Raises ConfigError. The folder must be private, and this node alone in it (see `home`).
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            path.unlink()
        listening.bind(os.fspath(path))
        path.chmod(PRIVATE_SOCKET)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigError(f"cannot listen on {path}: {error.strerror}; look what is there") from error
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
    try:
        yield listener
    finally:
        listener.socket.close()
        path.unlink(missing_ok=True)
