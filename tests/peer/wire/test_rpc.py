"""Calls: many at once on one stream, each bounded, each cancellable, each failing alone."""

import pytest
import trio
import trio.testing

from commonlore.peer.bucket import Bucket
from commonlore.peer.wire import rpc as rpc_module
from commonlore.peer.wire.calls import WINDOW, Kind
from commonlore.peer.wire.rpc import MAX_BODY, PROTOCOL, Call, EndOfCall, Rpc
from commonlore.protocol.encoding.codec import FrameReader, decode_value, encode_value, frame
from commonlore.protocol.errors import (
    InvalidAdapter,
    LocalProtocolError,
    NotFound,
    Refused,
    RemoteProtocolError,
    Unreachable,
)


async def echo(call: Call) -> None:
    async for body in call:
        await call.send(body)


async def test_one_body_there_one_back(hosts):
    async with hosts(2) as (a, b):
        Rpc(a).serve("echo", echo)
        assert await Rpc(b).call(a.peer_id, "echo", b"hello") == b"hello"


async def test_both_sides_may_call(hosts):
    async with hosts(2) as (a, b):
        there, here = Rpc(a), Rpc(b)
        there.serve("echo", echo)
        here.serve("echo", echo)
        assert await here.call(a.peer_id, "echo", b"1") == b"1"
        assert await there.call(b.peer_id, "echo", b"2") == b"2"


async def test_a_conversation(hosts):
    async with hosts(2) as (a, b):
        Rpc(a).serve("echo", echo)
        async with Rpc(b).open(a.peer_id, "echo") as call:
            for n in range(20):
                await call.send(b"%d" % n)
                assert await call.receive() == b"%d" % n
            await call.end()
            with pytest.raises(EndOfCall):
                await call.receive()


async def test_many_calls_share_one_stream(hosts):
    async with hosts(2) as (a, b):
        Rpc(a).serve("echo", echo)
        calls = Rpc(b)
        answers = {}

        async def one(n: int) -> None:
            answers[n] = await calls.call(a.peer_id, "echo", b"%d" % n)

        async with trio.open_nursery() as nursery:
            for n in range(50):
                nursery.start_soon(one, n)
        assert answers == {n: b"%d" % n for n in range(50)}
        assert sum(s.get_protocol() == PROTOCOL for c in connections(b) for s in c.get_streams()) == 1


def connections(host):
    return [c for found in host.raw.get_network().connections.values() for c in found]


async def test_a_call_that_waits_holds_up_no_other(hosts):
    release = trio.Event()

    async def wait(call: Call) -> None:
        await release.wait()
        await call.send(b"late")

    async with hosts(2) as (a, b):
        there, here = Rpc(a), Rpc(b)
        there.serve("wait", wait)
        there.serve("echo", echo)
        async with here.open(a.peer_id, "wait") as waiting:
            assert await here.call(a.peer_id, "echo", b"x") == b"x"
            release.set()
            assert await waiting.receive() == b"late"


def test_a_slow_reader_stops_its_sender_and_nobody_else(hosts):
    """Fifteen seconds of a reader's silence, at ten times the speed; libp2p alone resets the stream after
    five."""

    async def main() -> None:
        sent = []

        async def pour(call: Call) -> None:
            for n in range(8):
                await call.send(bytes([n]) * MAX_BODY)
                sent.append(n)

        async with hosts(2) as (a, b):
            there, here = Rpc(a), Rpc(b)
            there.serve("pour", pour)
            there.serve("echo", echo)
            async with here.open(a.peer_id, "pour") as call:
                for _ in range(3):
                    await trio.sleep(5)
                    assert await here.call(a.peer_id, "echo", b"quick") == b"quick"
                assert len(sent) < WINDOW // MAX_BODY + 1
                assert [body[0] async for body in call] == list(range(8))

    trio.run(main, clock=trio.testing.MockClock(rate=10))


@pytest.mark.parametrize(
    ("raised", "seen", "code"),
    [
        (NotFound("no such thing"), NotFound, "not_found"),
        (Refused("price", "too cheap", retryable=False), Refused, "price"),
        (InvalidAdapter("rank 4096"), Refused, "invalid_adapter"),
    ],
)
async def test_what_a_handler_raises_reaches_the_caller(hosts, raised, seen, code):
    async def refuse(call: Call) -> None:
        await call.send(b"before")
        raise raised

    async with hosts(2) as (a, b):
        Rpc(a).serve("refuse", refuse)
        async with Rpc(b).open(a.peer_id, "refuse") as call:
            assert await call.receive() == b"before"
            with pytest.raises(seen, match=str(raised)) as caught:
                await call.receive()
        assert caught.value.code == code
        assert getattr(caught.value, "retryable", True) == getattr(raised, "retryable", True)


async def test_a_bug_in_a_handler_is_told_without_its_words(hosts, caplog):
    async def buggy(call: Call) -> None:
        raise KeyError("secret")

    async with hosts(2) as (a, b):
        Rpc(a).serve("buggy", buggy)
        with pytest.raises(Refused, match="failed inside the other peer") as caught:
            await Rpc(b).call(a.peer_id, "buggy", b"")
    assert caught.value.code == "failed"
    assert "secret" not in str(caught.value)
    assert "serving buggy" in caplog.text


async def test_an_unknown_method(hosts):
    async with hosts(2) as (a, b):
        Rpc(a)
        with pytest.raises(Refused, match="does not serve 'nothing'"):
            await Rpc(b).call(a.peer_id, "nothing", b"")


async def test_leaving_a_call_cancels_its_handler(hosts):
    cancelled = trio.Event()

    async def forever(call: Call) -> None:
        await call.send(b"started")
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with hosts(2) as (a, b):
        Rpc(a).serve("forever", forever)
        async with Rpc(b).open(a.peer_id, "forever") as call:
            await call.receive()
        with trio.fail_after(60):
            await cancelled.wait()


async def test_a_caller_that_gives_up_cancels_the_handler(hosts):
    started, cancelled = trio.Event(), trio.Event()

    async def forever(call: Call) -> None:
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with hosts(2) as (a, b), trio.open_nursery() as nursery:
        Rpc(a).serve("forever", forever)
        nursery.start_soon(Rpc(b).call, a.peer_id, "forever", b"")
        with trio.fail_after(60):
            await started.wait()
            nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True), trio.fail_after(60):
            await cancelled.wait()


async def test_a_lost_connection_fails_calls_at_once_and_the_next_call_reconnects(hosts, until):
    cancelled = trio.Event()

    async def forever(call: Call) -> None:
        await call.send(b"started")
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with hosts(2) as (a, b):
        there, here = Rpc(a), Rpc(b)
        there.serve("forever", forever)
        there.serve("echo", echo)
        async with here.open(a.peer_id, "forever") as call:
            await call.receive()
            await a.sever()
            with trio.fail_after(60), pytest.raises(Unreachable, match=a.peer_id):
                await call.receive()
            with pytest.raises(Unreachable):
                await call.send(b"x")
        with trio.fail_after(60):
            await cancelled.wait()
            assert await here.call(a.peer_id, "echo", b"again") == b"again"


async def test_calls_at_once_are_bounded(hosts, monkeypatch):
    monkeypatch.setattr(rpc_module, "CALLS_PER_PEER", 2)
    release = trio.Event()

    async def wait(call: Call) -> None:
        await call.send(b"in")
        await release.wait()

    async with hosts(2) as (a, b):
        Rpc(a).serve("wait", wait)
        here = Rpc(b)
        async with here.open(a.peer_id, "wait") as one, here.open(a.peer_id, "wait") as two:
            await one.receive()
            await two.receive()
            with pytest.raises(Refused, match="more than 2 calls at once") as caught:
                await here.call(a.peer_id, "wait", b"")
            assert caught.value.retryable
            release.set()
            with pytest.raises(EndOfCall):
                await one.receive()
        assert await here.call(a.peer_id, "wait", b"") == b"in"


async def test_calls_a_second_are_bounded(hosts, monkeypatch):
    monkeypatch.setattr(rpc_module, "OPEN_BURST", 3.0)
    monkeypatch.setattr(rpc_module, "OPENS_PER_S", 0.001)
    async with hosts(2) as (a, b):
        Rpc(a).serve("echo", echo)
        here = Rpc(b)
        for _ in range(3):
            await here.call(a.peer_id, "echo", b"")
        with pytest.raises(Refused, match="slow down"):
            await here.call(a.peer_id, "echo", b"")


async def test_a_body_too_large_is_refused_here(hosts):
    async with hosts(2) as (a, b):
        Rpc(a).serve("echo", echo)
        here = Rpc(b)
        with pytest.raises(LocalProtocolError, match="send it in parts"):
            await here.call(a.peer_id, "echo", bytes(MAX_BODY + 1))
        assert await here.call(a.peer_id, "echo", bytes(MAX_BODY)) == bytes(MAX_BODY)


# ---- a peer that breaks the rules, spoken to by hand


async def speak(stream, *frames) -> None:
    for fields in frames:
        await stream.send_all(frame(encode_value(fields)))


async def drain(stream) -> None:
    while await stream.receive_some():
        pass


async def hear(stream) -> list:
    reader = FrameReader()
    while data := await stream.receive_some():
        for body in reader.feed(data):
            return decode_value(body)
    raise EOFError


async def test_who_sends_beyond_its_credit_loses_that_call_only(hosts):
    async def deaf(call: Call) -> None:
        await trio.sleep_forever()

    async with hosts(2) as (a, b):
        there = Rpc(a)
        there.serve("deaf", deaf)
        there.serve("echo", echo)
        stream = await b.open_stream(a.peer_id, PROTOCOL)
        await speak(stream, (1, Kind.OPEN, "deaf"), *[(1, Kind.DATA, bytes(MAX_BODY))] * 3)
        with trio.fail_after(60):
            assert (await hear(stream))[:3] == [1, Kind.ERROR, RemoteProtocolError.code]
            await speak(stream, (2, Kind.OPEN, "echo"), (2, Kind.DATA, b"fine"))
            assert await hear(stream) == [2, Kind.DATA, b"fine"]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff\xff\xff\xff",
        frame(b"\xff"),
        frame(encode_value("hello")),
        frame(encode_value([1])),
        frame(encode_value([1, True])),
        frame(encode_value([1, Kind.DATA, b""])),
        frame(encode_value([0, Kind.OPEN, "echo"])),
        frame(encode_value([1, Kind.OPEN, "echo"])) * 2,
        frame(encode_value([1, Kind.OPEN, 7])),
        frame(encode_value([1, Kind.OPEN, "m" * 65])),
        frame(encode_value([1, Kind.OPEN, "echo"])) + frame(encode_value([1, 9])),
        frame(encode_value([1, Kind.OPEN, "echo"])) + frame(encode_value([1, Kind.DATA, "text"])),
        frame(encode_value([1, Kind.OPEN, "echo"])) + frame(encode_value([1, Kind.CREDIT])),
    ],
)
async def test_what_is_no_frame_ends_the_stream_only(hosts, garbage):
    async with hosts(2) as (a, b):
        Rpc(a).serve("echo", echo)
        stream = await b.open_stream(a.peer_id, PROTOCOL)
        await stream.send_all(garbage)
        with trio.fail_after(60), pytest.raises(Unreachable):
            await drain(stream)
        assert await Rpc(b).call(a.peer_id, "echo", b"fine") == b"fine"


async def test_a_called_peer_that_breaks_the_rules_fails_the_calls(hosts):
    async def rogue(stream) -> None:
        await stream.receive_some()
        await stream.send_all(frame(encode_value([1, Kind.CANCEL])))
        await stream.receive_some()

    async with hosts(2) as (a, b):
        a.serve(PROTOCOL, rogue)
        with trio.fail_after(60), pytest.raises(Unreachable, match="broke the rules"):
            await Rpc(b).call(a.peer_id, "echo", b"")


def test_a_bucket_refills():
    bucket = Bucket(rate=2.0, burst=2.0, now=0.0)
    assert [bucket.take(0.0), bucket.take(0.0), bucket.take(0.0)] == [True, True, False]
    assert [bucket.take(0.5), bucket.take(0.5)] == [True, False]
    assert [bucket.take(100.0) for _ in range(3)] == [True, True, False]
