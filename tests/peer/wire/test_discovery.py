"""From one bootstrap address to everybody, and to who has what."""

from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing

from commonlore.peer.wire.calls import Kind
from commonlore.peer.wire.discovery import meeting_point
from commonlore.peer.wire.host_dht import SealedRecords, record_key
from commonlore.peer.wire.reconcile import METHOD
from commonlore.protocol.encoding.codec import encode_value
from commonlore.protocol.errors import ConfigError, LocalProtocolError, RemoteProtocolError, Unreachable
from commonlore.protocol.gossip.adverts import AdapterRecord, PeerAd
from commonlore.protocol.ids import cid_of
from commonlore.protocol.signing.envelope import open_sealed, seal
from commonlore.protocol.signing.keys import PeerKey

THING = cid_of(b"a thing")
STRANGER = PeerKey.generate(bytes([99]) * 32)


def adapter(seq: int, now_ms: int, alias: str = "me/codes") -> AdapterRecord:
    return AdapterRecord(alias, THING, THING, None, None, 2, 1, seq, now_ms)


def aliases(network, clock) -> set[str]:
    return {s.record.alias for s in network.gossip.records.of(AdapterRecord, clock())}


async def test_four_peers_find_each_other_and_who_has_what(networks, until):
    async with (
        networks(0) as first,
        networks(1, first) as b,
        networks(2, first) as c,
        networks(3, first) as d,
    ):
        everybody = (first, b, c, d)
        for other in (b, c, d):
            await other.discovery.join()
        await until(lambda: all(len(one.host.connected()) == 3 for one in everybody))
        cid = d.blobs.store.put_bytes(b"hello")
        assert await b.discovery.providers(cid) == ()
        d.discovery.provide(cid)
        with trio.fail_after(60):
            while not (found := await b.discovery.providers(cid)):
                await trio.lowlevel.checkpoint()
        assert found == (d.host.peer_id,)
        assert await b.blobs.fetch_bytes(cid, found, 100) == b"hello"
        c.discovery.provide(cid)
        with trio.fail_after(60):
            while len(await b.discovery.providers(cid)) < 2:
                await trio.lowlevel.checkpoint()


async def test_the_loss_of_the_bootstrap_peer_does_no_harm(networks, clock, until):
    gone = trio.Event()

    async def doomed(task_status) -> None:
        async with networks(0) as first:
            task_status.started(first)
            await gone.wait()

    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        first = await nursery.start(doomed)
        others = [await stack.enter_async_context(networks(n, first)) for n in range(1, 4)]
        for other in others:
            await other.discovery.join()
        await until(lambda: all(len(one.host.connected()) == 3 for one in others))
        gone.set()
        await until(lambda: all(len(one.host.connected()) == 2 for one in others))
        await others[0].gossip.publish(adapter(1, clock()))
        await until(lambda: all(aliases(one, clock) == {"me/codes"} for one in others))
        await stack.aclose()


async def test_a_late_joiner_is_told_what_it_missed(networks, clock):
    async with networks(0) as first, networks(1, first) as b:
        await b.discovery.join()
        for n in range(30):
            await first.gossip.publish(adapter(1, clock(), f"me/{n}"))
        clock.ms += 3_600_000
        async with networks(2, first) as late:
            await late.discovery.join()
            assert aliases(late, clock) == {f"me/{n}" for n in range(30)}


async def test_only_what_changed_is_asked_for_again(networks, clock):
    async with networks(0) as a, networks(1, a) as b:
        await b.discovery.join()
        pull = b.discovery._reconciler.pull
        for n in range(3):
            a.gossip.take(seal(STRANGER, adapter(1, clock(), f"me/{n}")))
        assert await pull(a.host.peer_id) == 3
        assert await pull(a.host.peer_id) == 0
        a.gossip.take(seal(STRANGER, adapter(2, clock(), "me/0")))
        assert await pull(a.host.peer_id) == 1
        a.gossip.records.instance = b"restarted"
        assert await pull(a.host.peer_id) == 0


async def test_who_asks_around_is_told_what_gossip_lost(networks, clock, monkeypatch):
    monkeypatch.setattr("commonlore.peer.wire.discovery.NEWCOMER_S", 0)
    async with networks(0) as a, networks(1, a) as b:
        await b.discovery.join()
        a.gossip.take(seal(STRANGER, adapter(1, clock())))
        assert aliases(b, clock) == set()
        await b.discovery.ask_around()
        assert aliases(b, clock) == {"me/codes"}


async def test_who_has_just_joined_asks_again_a_moment_later(networks, clock, monkeypatch):
    monkeypatch.setattr("commonlore.peer.wire.discovery.ROUNDS_APART_S", 0)
    monkeypatch.setattr("commonlore.peer.wire.discovery.MOMENT_S", 0)
    async with networks(0) as a, networks(1, a) as b:
        await b.discovery.join()
        pull, rounds = b.discovery._reconciler.pull, 0

        async def told_late(peer) -> int:
            """The neighbour itself hears of it only after the first round."""
            nonlocal rounds
            rounds += 1
            found = await pull(peer)
            a.gossip.take(seal(STRANGER, adapter(1, clock())))
            return found

        monkeypatch.setattr(b.discovery._reconciler, "pull", told_late)
        await b.discovery.ask_around()
        assert rounds == 2
        assert aliases(b, clock) == {"me/codes"}


async def test_many_who_ask_around_at_once_are_told_together(networks, clock, monkeypatch):
    monkeypatch.setattr("commonlore.peer.wire.discovery.NEWCOMER_S", 0)
    async with networks(0) as a, networks(1, a) as b:
        await b.discovery.join()
        begun, go_on, rounds = trio.Event(), trio.Event(), 0
        pull = b.discovery._reconciler.pull

        async def counted(peer) -> int:
            nonlocal rounds
            rounds += 1
            begun.set()
            await go_on.wait()
            return await pull(peer)

        monkeypatch.setattr(b.discovery._reconciler, "pull", counted)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b.discovery.ask_around)
            await begun.wait()
            nursery.start_soon(b.discovery.ask_around)
            nursery.start_soon(b.discovery.ask_around)
            await trio.testing.wait_all_tasks_blocked()
            a.gossip.take(seal(STRANGER, adapter(1, clock())))
            go_on.set()
        assert rounds == 2, "the first began before the others came"
        assert aliases(b, clock) == {"me/codes"}


@pytest.mark.parametrize(
    "bodies",
    [
        [],
        [encode_value("nothing")],
        [encode_value([b"", -1])],
        [encode_value([b"", True])],
        [encode_value([b"", 0]), encode_value("no list")],
        [encode_value([b"", 0]), encode_value([b"no record"])],
        [encode_value([b"", 0]), encode_value([7])],
    ],
)
async def test_a_peer_that_reconciles_wrongly(networks, bodies):
    async def lie(call) -> None:
        for body in bodies:
            await call.send(body)

    async with networks(0) as a, networks(1, a) as b:
        a.rpc.serve(METHOD, lie)
        await b.discovery.join()
        with pytest.raises(RemoteProtocolError):
            await b.discovery._reconciler.pull(a.host.peer_id)


async def test_no_bootstrap_peer_answers(networks):
    async with networks(0) as first:
        address = first.host.addresses[0]
    async with networks(1, address) as b:
        with pytest.raises(Unreachable) as caught:
            await b.discovery.join()
    where = address.split("/p2p/")[0]
    assert "cannot reach bootstrap peer" in str(caught.value)
    assert f"{where}: connection refused; check the address or that it is running" in str(caught.value)


async def test_one_bootstrap_peer_is_enough(networks):
    async with networks(0) as first:
        gone = first.host.addresses[0]
    async with networks(1) as there, networks(2, gone, there) as b:
        await b.discovery.join()
        assert b.host.connected() == {there.host.peer_id}


async def test_what_is_no_bootstrap_address(networks):
    with pytest.raises(ConfigError, match="not a peer address: 'nonsense'"):
        async with networks(0, "nonsense"):
            pass


async def test_a_bootstrap_peer_that_comes_later_is_joined(networks, until, monkeypatch):
    monkeypatch.setattr("commonlore.peer.wire.discovery.FIRST_RETRY_S", 0.05)
    async with networks(0) as first:
        address, peer = first.host.addresses[0], first.host.peer_id
    async with networks(1, address) as b:
        with pytest.raises(Unreachable):
            await b.discovery.join()
        async with networks(0, listen=(address.split("/p2p/")[0],)):
            await until(lambda: peer in b.host.connected())


async def test_a_peer_is_located_through_the_network(networks, clock, until):
    async with networks(0) as first, networks(1, first) as b, networks(2, first, listen=()) as client:
        await b.discovery.join()
        await client.discovery.join()
        assert await client.discovery.locate(b.host.peer_id)
        await client.host.connect_to(b.host.peer_id)
        assert not await client.discovery.locate(STRANGER.peer_id)


async def test_announced_addresses_are_learnt(networks, clock, until):
    async with networks(0) as a:
        ad = PeerAd("client", ("/ip4/192.0.2.7/tcp/4001",), 1, clock())
        await until(lambda: bool(a.gossip._listeners))
        a.gossip.take(seal(STRANGER, ad))
        await until(lambda: a.host.known_addresses(STRANGER.peer_id) == ad.addresses)


# ---- records in the DHT


async def test_records_are_found_by_who_said_what(networks, clock):
    async with networks(0) as a, networks(1, a) as b:
        await b.discovery.join()
        old = open_sealed(seal(STRANGER, adapter(1, clock())), (AdapterRecord,))
        new = open_sealed(seal(STRANGER, adapter(2, clock())), (AdapterRecord,))
        dht_a, dht_b = a.discovery._dht, b.discovery._dht
        await dht_a.put(old)
        assert await dht_b.get(record_key(old)) == old
        await dht_a.put(new)
        assert await dht_b.get(record_key(old)) == new
        with pytest.raises(LocalProtocolError, match="does not take"):
            await dht_a.put(old)
        assert await dht_a.get(f"/commonlore/adapter_record/{STRANGER.peer_id}/me/other") is None


async def test_only_its_own_key_may_write_a_record(networks, clock):
    sealed = open_sealed(seal(STRANGER, adapter(1, clock())), (AdapterRecord,))
    rules = SealedRecords()
    rules.validate(record_key(sealed), sealed.raw)
    other = PeerKey.generate(bytes(32)).peer_id
    wrong = [
        (record_key(sealed).replace(STRANGER.peer_id, other), sealed.raw),
        (record_key(sealed) + "x", sealed.raw),
        (record_key(sealed), sealed.raw[:-1]),
        (record_key(sealed), b""),
    ]
    for key, value in wrong:
        with pytest.raises(Exception, match=r"not a sealed record|under"):
            rules.validate(key, value)
    newer = seal(STRANGER, adapter(9, clock()))
    assert rules.select(record_key(sealed), [sealed.raw, newer, sealed.raw]) == 1


async def test_what_is_under_no_namespace_is_not_stored(networks):
    async with networks(0) as a, networks(1, a) as b:
        await b.discovery.join()
        for key in ("/pk/x", "/ipns/x", "plain", "/other/x"):
            with pytest.raises(Exception, match=r"(?i)valid|namespace"):
                await b.discovery._dht._dht.put_value(key, b"x")


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        (7, 0, r"another network \(chain id 7, escrow 0x0{40}\); give its deployment: --deployment FILE"),
        (0, 7, r"a network without a chain, not to yours; leave --deployment out"),
    ],
)
async def test_who_starts_from_another_network_is_told_which(networks, theirs, ours, said):
    async with networks(0, chain=theirs) as other, networks(1, other, chain=ours) as astray:
        with pytest.raises(ConfigError, match=said):
            await astray.discovery.join()


async def test_one_bootstrap_peer_of_this_network_is_enough(networks, clock):
    async with networks(0, chain=2) as other, networks(1) as first, networks(2, other, first) as peer:
        await first.gossip.publish(adapter(1, clock()))
        await peer.discovery.join()
        assert aliases(peer, clock) == {"me/codes"}


def test_networks_meet_in_different_places():
    from commonlore.protocol.ids import Address
    from commonlore.protocol.signing.eip712 import Domain

    one, two = (Domain(chain, Address(bytes(20))) for chain in (1, 2))
    assert meeting_point(one) != meeting_point(two)
    assert Kind.OPEN == 0
