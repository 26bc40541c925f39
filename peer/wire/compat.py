"""Cures for py-libp2p 0.8.1, applied at run time. `tests/peer/test_compat.py` has one regression test a cure.

The rules of this file: a cure is written against one version of libp2p and refuses another; it says what it
mends and how that was seen; nothing else in the package reaches into libp2p's internals. Two further defects
of 0.8.1 need no patch, only settings, and are dealt with in `host`: a dial that waits 250 ms after success
unless one connection a peer is allowed, and a default host that accepts plaintext.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
from typing import Any

import libp2p
import trio
from libp2p.abc import INetStream
from libp2p.host import ping
from libp2p.io import msgio
from libp2p.io import trio as tcp
from libp2p.io import utils as read_utils
from libp2p.io.abc import Reader
from libp2p.io.exceptions import ConnectionClosedError, IncompleteReadError
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.connection import swarm_connection
from libp2p.network.connection.exceptions import RawConnError
from libp2p.stream_muxer.yamux import yamux
from libp2p.utils import varint

from ...protocol.errors import MissingDependency

log = logging.getLogger(__name__)

SUPPORTED = "0.8.1"
WRITE_LIMIT_S = 10.0
"""A peer whose socket takes no frame for this long is dropped."""
READ_AHEAD = 131_072
SILENCE_S = 10
KEEP_ALIVE = {
    "TCP_KEEPIDLE": SILENCE_S,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 30_000,  # milliseconds that sent data may stay unconfirmed
}
GOSSIP_QUEUE = 1_024
NOISE_PLAINTEXT = 65_519
"""The most that one Noise message carries: 65,535 less the 16 bytes of its tag."""


@functools.cache
def apply() -> None:
    """Cure the transport, once a process.

    Raises MissingDependency when libp2p is not the version these were written for.
    """
    check_version()
    batch_window_updates()
    allow_small_segments()
    shield_frames()
    fit_frames_into_noise()
    read_ahead()
    notice_silent_death()
    dial_nobody_unasked()
    quieten_logs()


def check_version(version: str = libp2p.__version__) -> None:
    """Refuse any libp2p but the supported one."""
    if version != SUPPORTED:
        raise MissingDependency(
            f"libp2p {version} is installed but Commonlore is written against {SUPPORTED}; "
            f"run: pip install libp2p=={SUPPORTED}"
        )


def batch_window_updates() -> None:
    """yamux answers every small read with a 12-byte WINDOW_UPDATE; batching them saves 24 to 46 % of gossip's
    CPU."""
    os.environ.setdefault("PY_YAMUX_RELEASE_ON_READ", "0")


def allow_small_segments() -> None:
    """`read_exactly` gives up after 100 pieces, which a 64 KiB Noise message exceeds on links with small
    segments; and at the end of a stream it asks 100 times more for what will not come."""
    for module in (read_utils, msgio, varint, ping, yamux):
        module.read_exactly = _read_exactly  # type: ignore[attr-defined]


async def _read_exactly(reader: Reader, n: int, retry_count: int = 0) -> bytes:
    data = await reader.read(n)
    if len(data) == n:
        return data
    pieces = bytearray(data)
    while data and len(pieces) < n:
        data = await reader.read(n - len(pieces))
        pieces += data
    if len(pieces) < n:
        raise IncompleteReadError(
            f"connection closed after {len(pieces)} of {n} bytes",
            expected_bytes=n,
            received_bytes=len(pieces),
        )
    return bytes(pieces)


def shield_frames() -> None:
    """A cancelled write leaves a Noise message encrypted but unsent, and its nonce used: the whole connection
    dies of one timeout somewhere. So a frame once begun is finished, within `WRITE_LIMIT_S`."""
    yamux.Yamux._write_frame = _write_frame  # type: ignore[method-assign]


async def _write_frame(self: yamux.Yamux, data: bytes) -> None:
    async with self._write_lock:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + WRITE_LIMIT_S) as scope:
            await self.secured_conn.write(data)
        if scope.cancelled_caught:
            await self.secured_conn.close()
            raise RawConnError("connection closed: the peer takes no data")


def fit_frames_into_noise() -> None:
    """A full yamux frame is 17 bytes longer than a Noise message, so that each became two messages on the
    wire."""
    yamux.MAX_MESSAGE_SIZE = NOISE_PLAINTEXT


def read_ahead() -> None:
    """A Noise message was read as two bytes of length, then its body in pieces: three or four system calls
    each. Reading what the socket has and serving from that gives a fifth more bytes a CPU second."""
    tcp.TrioTCPStream.read = _read_tcp  # type: ignore[method-assign]


async def _read_tcp(self: tcp.TrioTCPStream, n: int | None = None) -> bytes:
    stream: Any = self
    ahead, start = getattr(stream, "ahead", (b"", 0))
    if not ahead and n != 0:
        async with self.read_lock:
            try:
                ahead = await self.stream.receive_some(READ_AHEAD)
            except trio.BrokenResourceError as wrong:
                raise ConnectionClosedError(f"connection reset: {wrong}", transport="tcp") from wrong
            except trio.ClosedResourceError:
                return b""  # closed here: the end, as libp2p has it
    end = len(ahead) if n is None else min(len(ahead), start + n)
    stream.ahead = (ahead, end) if end < len(ahead) else (b"", 0)
    return bytes(ahead[start:end])


def notice_silent_death() -> None:
    """A peer that loses its power says no goodbye, and libp2p has no keep-alive: calls would hang for a
    quarter of an hour. The kernel asks after `SILENCE_S` seconds.
    """
    tcp.TrioTCPStream.__init__ = _open_tcp  # type: ignore[method-assign]


_plain_init = tcp.TrioTCPStream.__init__


def _open_tcp(self: tcp.TrioTCPStream, stream: trio.SocketStream) -> None:
    _plain_init(self, stream)
    try:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEP_ALIVE.items():
            if hasattr(socket, name):  # what a system lacks, its defaults replace
                stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    except OSError as wrong:
        log.debug("a connection was gone before it began: %s", wrong)


def dial_nobody_unasked() -> None:
    """Whatever its watermarks, the auto-connector dials everybody the peerstore ever heard of, up to half the
    limit."""
    AutoConnector.maybe_connect = _connect_to_nobody  # type: ignore[method-assign]


async def _connect_to_nobody(self: AutoConnector) -> None:
    await trio.lowlevel.checkpoint()


def contain_failures(network: Any) -> None:
    """What a protocol's handler raises, say on bytes that are no protobuf, ends the whole host; let it end
    its stream.
    """
    handler = network.common_stream_handler

    async def contained(stream: INetStream) -> None:
        try:
            await handler(stream)
        except Exception as wrong:
            log.debug("a stream of %s ended: %r", stream.get_protocol(), wrong)
            await stream.reset()

    network.set_stream_handler(contained)


def is_alive(connection: Any) -> bool:
    """Whether a connection that libp2p still lists can be used: it lists those that are going down, too."""
    return not connection.is_closed and not connection.muxed_conn.event_shutting_down.is_set()


def was_reset(raw: INetStream) -> bool:
    """Whether a stream that reads as ended was in truth reset, or its connection lost: yamux tells both as
    the end."""
    stream: Any = raw
    muxed = stream.muxed_stream
    return bool(muxed.reset_received or muxed.conn.event_shutting_down.is_set())


def quieten_logs() -> None:
    """`swarm_connection` logs by `logging.debug(…)`, which installs a handler on the program's root logger;
    and libp2p reports every lost connection as an error, where ours is a typed exception to whoever used the
    connection."""
    module: Any = swarm_connection
    module.logging = logging.getLogger("libp2p.network.connection.swarm_connection")
    if "LIBP2P_DEBUG" not in os.environ:
        for name in ("libp2p", "libp2p.network.auto_connector"):  # the latter sets a level of its own
            logging.getLogger(name).setLevel(logging.CRITICAL)


@functools.cache
def apply_pubsub() -> None:
    """Gossip's queue to a peer holds 32 messages and drops the rest of a burst silently: 16 of 200
    arrived."""
    from libp2p.pubsub import pubsub
    from libp2p.pubsub.rpc_queue import RpcQueue

    module: Any = pubsub
    module.RpcQueue = functools.partial(RpcQueue, max_size=GOSSIP_QUEUE)
