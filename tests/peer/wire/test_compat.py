"""One test for each defect of libp2p 0.8.1 that Commonlore cures or avoids."""

import logging
import socket

import libp2p
import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.io import msgio
from libp2p.io.exceptions import IncompleteReadError
from libp2p.io.trio import TrioTCPStream
from libp2p.network.config import ConnectionConfig
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.security.noise.io import NoiseTransportReadWriter
from libp2p.stream_muxer.yamux.yamux import YamuxStream
from multiaddr import Multiaddr

from commonlore.peer.wire import compat
from commonlore.peer.wire.host_pubsub import open_pubsub
from commonlore.peer.wire.host_stream import Stream
from commonlore.protocol.errors import MissingDependency
from commonlore.protocol.gossip.rules import Verdict


class Pieces:
    """A reader that hands out one byte at a time, and counts how often it is asked."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked = 0

    async def read(self, n: int | None = None) -> bytes:
        self.asked += 1
        piece, self.data = self.data[:1], self.data[1:]
        return piece


async def drain(stream: Stream) -> None:
    while await stream.receive_some():
        pass


def test_another_version_is_refused():
    compat.check_version()
    with pytest.raises(MissingDependency, match=r"pip install libp2p==0\.8\.1"):
        compat.check_version("0.9.0")


async def test_a_message_may_come_in_many_pieces():
    compat.apply()
    assert await msgio.read_exactly(Pieces(b"x" * 5000), 5000) == b"x" * 5000


async def test_the_end_of_a_stream_is_asked_for_once():
    compat.apply()
    reader = Pieces(b"ab")
    with pytest.raises(IncompleteReadError):
        await msgio.read_exactly(reader, 5)
    assert reader.asked == 3


async def test_reading_ahead_takes_one_receive_for_many_reads():
    compat.apply()
    left, right = trio.socket.socketpair()
    stream = TrioTCPStream(Counted(trio.SocketStream(left)))
    await trio.SocketStream(right).send_all(b"abcdefgh")
    assert [await stream.read(n) for n in (2, 3, None)] == [b"ab", b"cde", b"fgh"]
    assert stream.stream.receives == 1
    right.close()
    assert await stream.read(4) == b""
    await stream.close()


class Counted:
    """A stream that counts how often it is read."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.setsockopt = stream.setsockopt
        self.receives = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        self.receives += 1
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.stream.aclose()


async def test_not_every_small_read_is_answered_by_a_window_update(hosts, monkeypatch):
    updates = []
    send = YamuxStream.send_window_update

    async def counted(self, increment, skip_lock=False):
        updates.append(increment)
        await send(self, increment, skip_lock)

    async with hosts(2) as (a, b):
        monkeypatch.setattr(YamuxStream, "send_window_update", counted)
        a.serve("/echo", echo)
        stream = await b.open_stream(a.peer_id, "/echo")
        updates.clear()
        for _ in range(50):
            await stream.send_all(b"x" * 100)
            assert await stream.receive_some() == b"x" * 100
    assert len(updates) < 75  # of 100 reads on both sides


async def echo(stream: Stream) -> None:
    while data := await stream.receive_some():
        await stream.send_all(data)


async def test_a_burst_of_gossip_arrives(hosts, until):
    got = []

    def note(data: bytes, _forwarder: str) -> Verdict:
        got.append(data)
        return Verdict.ACCEPT

    async with hosts(2, connected=False) as (a, b), open_pubsub(a) as ours, open_pubsub(b) as theirs:
        await ours.subscribe("topic", note)
        await theirs.subscribe("topic", lambda *_: Verdict.ACCEPT)
        await b.connect(a.addresses[0])
        await until(lambda: theirs.mesh("topic"))
        for n in range(200):
            await theirs._pubsub.publish("topic", b"%d" % n)
        await until(lambda: len(got) == 200)


async def test_a_cancelled_write_does_not_break_the_connection(hosts):
    """Without the cure, a write cancelled after encryption leaves a gap in Noise's nonces: all is lost."""

    async def cancelled_write(raw, steps: int) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(raw.write, b"y" * 100)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    async with hosts(2) as (a, b):
        a.serve("/drain", drain)
        stream = await b.open_stream(a.peer_id, "/drain")
        for steps in range(60):
            await cancelled_write(stream._raw, steps % 20)
        with trio.fail_after(60):
            await b.open_stream(a.peer_id, "/drain")
        assert b.connected() == {a.peer_id}


async def test_a_full_frame_is_one_noise_message(hosts, monkeypatch):
    sizes = []
    encrypt = NoiseTransportReadWriter.encrypt

    def counted(self, data):
        sizes.append(len(data))
        return encrypt(self, data)

    async with hosts(2) as (a, b):
        a.serve("/drain", drain)
        stream = await b.open_stream(a.peer_id, "/drain")
        monkeypatch.setattr(NoiseTransportReadWriter, "encrypt", counted)
        await stream.send_all(bytes(3 * 65_507))
        await stream.aclose()
    assert [size for size in sizes if size > 10_000] == [65_519] * 3


async def test_the_root_logger_is_left_alone(hosts, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    async with hosts(2) as (a, b):
        await b.disconnect(a.peer_id)
        assert logging.getLogger().handlers == []


async def test_nobody_is_dialled_unasked(hosts):
    async with hosts(3) as (a, b, c):
        book = c.raw.get_peerstore()
        book.add_addrs(b.raw.get_id(), b.raw.get_transport_addrs(), 100)
        await c.raw.get_network().auto_connector.maybe_connect()
        assert c.connected() == {a.peer_id}


async def test_bytes_that_are_no_protobuf_end_their_stream_only(hosts):
    async with hosts(2) as (a, b), open_pubsub(a):
        for protocol in ("/meshsub/1.1.0", "/ipfs/id/push/1.0.0"):
            stream = await b.open_stream(a.peer_id, protocol)
            await stream.send_all(b"\x05garbage")
            await stream.aclose()
        a.serve("/drain", drain)
        with trio.fail_after(60):
            await (await b.open_stream(a.peer_id, "/drain")).aclose()


async def test_silent_peers_are_asked_after(hosts):
    async with hosts(2) as (_, b):
        (found,) = b.raw.get_network().connections.values()
        sock = found[0].muxed_conn.secured_conn.conn.read_writer.read_write_closer.stream.stream
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == compat.SILENCE_S


async def test_a_closed_host_leaves_no_socket_open(hosts):
    async with hosts(1) as (a,):
        port = int(a.addresses[0].split("/")[4])
    with pytest.raises(OSError, match="all attempts to connect"):
        await trio.open_tcp_stream("127.0.0.1", port)


async def test_plaintext_is_refused(hosts):
    keys = create_new_key_pair(bytes([9]) * 32)
    naive = libp2p.new_host(
        key_pair=keys,
        sec_opt={PLAINTEXT_PROTOCOL_ID: InsecureTransport(keys)},
        connection_config=ConnectionConfig(low_watermark=0, min_connections=0),
    )
    naive.get_network().retry_config.max_retries = 0
    async with hosts(1) as (a,), naive.run(listen_addrs=[]):
        with pytest.raises(Exception, match="unable to connect"):
            await naive.connect(info_from_p2p_addr(Multiaddr(a.addresses[0])))
        assert a.connected() == set()


async def test_a_dial_does_not_wait_a_quarter_of_a_second(hosts):
    """On a busy machine one may, whatever it waits for; so only the quickest of a few counts."""
    took = []
    async with hosts(2, connected=False) as (a, b):
        while min(took, default=1) >= 0.2 and len(took) < 30:
            start = trio.current_time()
            await b.connect(a.addresses[0])
            took.append(trio.current_time() - start)
            await b.disconnect(a.peer_id)
    assert min(took) < 0.2
