"""The host: who it is, whom it lets in, what it says when it cannot reach somebody."""

import socket

import pytest
import trio

from commonlore.peer.wire.addresses import parse_address
from commonlore.peer.wire.compat import SILENCE_S
from commonlore.peer.wire.host import open_host
from commonlore.peer.wire.host_build import HostConfig
from commonlore.peer.wire.host_stream import Stream
from commonlore.protocol.errors import ConfigError, Unreachable
from commonlore.protocol.signing.keys import PeerKey

SEED = bytes(range(32))
STRANGER = PeerKey.generate(bytes([77]) * 32).peer_id


async def echo(stream: Stream) -> None:
    while data := await stream.receive_some():
        await stream.send_all(data)


async def read_exactly(stream: Stream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await stream.receive_some()
    return data


async def test_its_peer_id_is_that_of_the_peer_key():
    async with open_host(HostConfig(SEED)) as host:
        assert host.peer_id == PeerKey.generate(SEED).peer_id
        assert [parse_address(address)[0] for address in host.addresses] == [host.peer_id]


async def test_a_stream_carries_bytes_both_ways(hosts):
    async with hosts(2) as (a, b):
        a.serve("/echo", echo)
        stream = await b.open_stream(a.peer_id, "/echo")
        blob = bytes(range(256)) * 4096
        await stream.send_all(blob)
        assert await read_exactly(stream, len(blob)) == blob
        await stream.aclose()


async def test_a_handler_that_raises_ends_its_stream_only(hosts, caplog):
    async def broken(stream: Stream) -> None:
        raise ValueError("oh")

    async with hosts(2) as (a, b):
        a.serve("/broken", broken)
        a.serve("/echo", echo)
        stream = await b.open_stream(a.peer_id, "/broken")
        with trio.fail_after(60):
            assert await stream.receive_some() == b""
        other = await b.open_stream(a.peer_id, "/echo")
        await other.send_all(b"still here")
        assert await read_exactly(other, 10) == b"still here"
    assert "handler of /broken failed" in caplog.text


async def test_at_most_eight_streams_a_peer_and_protocol(hosts):
    async with hosts(2) as (a, b):
        a.serve("/echo", echo)
        for _ in range(8):
            await b.open_stream(a.peer_id, "/echo")
        with trio.fail_after(60), pytest.raises(Unreachable):
            await (await b.open_stream(a.peer_id, "/echo")).receive_some()


async def test_a_cancelled_read_breaks_its_stream_only(hosts):
    async with hosts(2) as (a, b):
        a.serve("/echo", echo)
        stream = await b.open_stream(a.peer_id, "/echo")
        with trio.move_on_after(0.01):
            await stream.receive_some()
        with pytest.raises(Unreachable, match="interrupted"):
            await stream.receive_some()
        other = await b.open_stream(a.peer_id, "/echo")
        await other.send_all(b"x")
        assert await read_exactly(other, 1) == b"x"


async def test_one_connection_a_peer(hosts):
    async with hosts(2) as (a, b):
        await b.connect(a.addresses[0])
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(b.connect, a.addresses[0])
        assert len(b.raw.get_network().connections[a.raw.get_id()]) == 1


async def test_many_tasks_that_need_a_peer_dial_it_once(hosts, until):
    async with hosts(2, connected=False) as (a, b):
        a.serve("/echo", echo)
        b.learn(a.peer_id, a.addresses)
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(b.open_stream, a.peer_id, "/echo")
        await until(lambda: a.connected() == {b.peer_id})
        assert len(a.raw.get_network().connections[b.raw.get_id()]) == 1


async def test_nobody_listens_there(hosts):
    address = f"/ip4/127.0.0.1/tcp/1/p2p/{STRANGER}"
    async with hosts(1) as (a,):
        with pytest.raises(Unreachable, match=r"at /ip4/127.0.0.1/tcp/1: connection refused; check"):
            await a.connect(address)


async def test_another_peer_answers_there(hosts):
    async with hosts(2, connected=False) as (a, b):
        address = a.addresses[0].replace(a.peer_id, STRANGER)
        with pytest.raises(Unreachable, match="another peer answers there"):
            await b.connect(address)
        await b.connect(a.addresses[0])


async def test_a_peer_without_known_address(hosts):
    async with hosts(1) as (a,):
        with pytest.raises(Unreachable, match="no address of it is known"):
            await a.open_stream(STRANGER, "/echo")


async def test_a_protocol_the_peer_does_not_speak(hosts):
    async with hosts(2) as (a, b):
        with pytest.raises(Unreachable, match="does not speak"):
            await b.open_stream(a.peer_id, "/nothing")


@pytest.mark.parametrize(
    "text", ["", "hello", "/ip4/127.0.0.1/tcp/1", "/ip4/1/tcp/1/p2p/x", f"/p2p/{STRANGER}x"]
)
async def test_what_is_no_peer_address(hosts, text):
    async with hosts(1) as (a,):
        with pytest.raises(ConfigError, match="not a peer address"):
            await a.connect(text)


async def test_its_own_address(hosts):
    async with hosts(1) as (a,):
        with pytest.raises(ConfigError, match="this peer itself"):
            await a.connect(a.addresses[0])


async def test_a_port_in_use_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port}: address already in use"):
            async with open_host(HostConfig(SEED, (f"/ip4/127.0.0.1/tcp/{port}",))):
                pass


@pytest.mark.parametrize("text", ["tcp://127.0.0.1:1", "/ip4/127.0.0.1/udp/1", "/ip4/999.0.0.1/tcp/1"])
async def test_what_is_no_address_to_listen_on(text):
    with pytest.raises(ConfigError, match="cannot listen on"):
        async with open_host(HostConfig(SEED, (text,))):
            pass


async def test_a_wildcard_is_announced_as_addresses_that_can_be_dialled():
    config = HostConfig(SEED, ("/ip4/0.0.0.0/tcp/0",))
    async with open_host(config) as host, open_host(HostConfig(bytes(32))) as other:
        assert not any("0.0.0.0" in address for address in host.addresses)
        await other.connect(host.addresses[-1])


async def test_what_it_announces_can_be_said():
    config = HostConfig(SEED, announce=("/dns4/worker.example/tcp/4001",))
    async with open_host(config) as host:
        assert host.addresses == (f"/dns4/worker.example/tcp/4001/p2p/{host.peer_id}",)


async def test_a_host_that_only_dials(hosts):
    async with hosts(1) as (a,), open_host(HostConfig(SEED, listen=())) as client:
        a.serve("/echo", echo)
        await client.connect(a.addresses[0])
        assert client.addresses == ()
        stream = await client.open_stream(a.peer_id, "/echo")
        await stream.send_all(b"x")
        assert await read_exactly(stream, 1) == b"x"


async def test_malformed_addresses_of_others_are_left_out(hosts):
    async with hosts(1) as (a,):
        a.learn(STRANGER, ["nonsense", "/ip4/10.0.0.1/udp/1", f"/ip4/10.0.0.1/tcp/1/p2p/{STRANGER}"])
        assert a.known_addresses(STRANGER) == ("/ip4/10.0.0.1/tcp/1",)


async def test_what_others_say_of_a_peer_comes_after_its_own_word(hosts):
    async with hosts(1) as (a,):
        a.learn(STRANGER, ["/ip4/10.0.0.2/tcp/2"])
        a.learn(STRANGER, ["/ip4/10.0.0.1/tcp/1"], signed=True)
        a.learn(STRANGER, [f"/ip4/10.0.0.{n}/tcp/3" for n in range(20)])
        known = a.known_addresses(STRANGER)
        assert known[:2] == ("/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/2")
        assert len(known) == 8


def test_a_configuration_shows_no_secret():
    assert repr(SEED)[2:-1] not in repr(HostConfig(SEED))


async def test_a_host_that_went_away_is_noticed_at_once(hosts, until):
    async with hosts(1) as (a,):
        async with open_host(HostConfig(SEED)) as other:
            a.serve("/echo", echo)
            await other.connect(a.addresses[0])
            await until(lambda: a.connected() == {other.peer_id})
        await until(lambda: not a.connected(), SILENCE_S - 1)  # before its silence would tell
