"""Announcements: judged, kept, handed on; bursts arrive, old news and lies do not."""

from collections import Counter
from contextlib import AsyncExitStack

import pytest
import trio

from commonlore.peer.wire.heard import Heard, is_live
from commonlore.peer.wire.host_pubsub import open_pubsub
from commonlore.protocol.errors import LocalProtocolError
from commonlore.protocol.gossip.adverts import ADVERT_LIFETIME_MS, AdapterRecord, DatanetRecord, PeerAd
from commonlore.protocol.gossip.rules import Verdict
from commonlore.protocol.ids import cid_of
from commonlore.protocol.signing.envelope import open_sealed, seal
from commonlore.protocol.signing.keys import PeerKey

ADAPTER = cid_of(b"an adapter")
STRANGER = PeerKey.generate(bytes([99]) * 32)


def adapter(seq: int, now_ms: int, alias: str = "me/codes") -> AdapterRecord:
    return AdapterRecord(alias, ADAPTER, ADAPTER, None, None, 2, 1, seq, now_ms)


def sealed(record, key=STRANGER):
    return open_sealed(seal(key, record), (type(record),))


# ---- what is kept


def test_a_higher_seq_replaces_a_lower_one():
    records = Heard()
    assert [records.take(sealed(adapter(seq, 0))) for seq in (2, 1, 2, 3)] == [True, False, False, True]
    assert [s.record.seq for s in records.of(AdapterRecord, 0)] == [3]


def test_keys_and_names_do_not_replace_each_other():
    records = Heard()
    for key in (STRANGER, PeerKey.generate(bytes(32))):
        for alias in ("me/a", "me/b"):
            assert records.take(sealed(adapter(1, 0, alias), key))
    assert len(list(records.of(AdapterRecord, 0))) == 4
    assert list(records.of(DatanetRecord, 0)) == []


def test_a_key_may_have_only_so_many(monkeypatch):
    monkeypatch.setattr("commonlore.peer.wire.heard.MAX_PER_KEY", 3)
    records = Heard()
    taken = [records.take(sealed(adapter(1, 0, f"me/{n}"))) for n in range(5)]
    assert taken == [True, True, True, False, False]
    assert records.take(sealed(adapter(2, 0, "me/0")))


def test_all_together_are_bounded(monkeypatch):
    monkeypatch.setattr("commonlore.peer.wire.heard.MAX_RECORDS", 3)
    records = Heard()
    for n in range(5):
        records.take(sealed(adapter(1, 0, f"me/{n}")))
    assert [s.record.alias for s in records.of(AdapterRecord, 0)] == ["me/2", "me/3", "me/4"]


def test_what_changed_since():
    records = Heard()
    versions = []
    for n in range(4):
        records.take(sealed(adapter(1, 0, f"me/{n}")))
        versions.append(records.version)
    records.take(sealed(adapter(2, 0, "me/0")))
    assert [s.record.alias for s in records.since(versions[1], 0)] == ["me/2", "me/3", "me/0"]
    assert list(records.since(records.version, 0)) == []


def test_announcements_of_peers_end_and_records_stay():
    records = Heard()
    records.take(sealed(PeerAd("client", (), 1, 1000)))
    records.take(sealed(adapter(1, 1000)))
    later = 1000 + ADVERT_LIFETIME_MS
    assert [is_live(s.record, later) for s in records.since(0, 1000)] == [False, True]
    assert len(list(records.since(0, later))) == 1
    records.expire(later)
    assert list(records.of(PeerAd, 0)) == []


# ---- what is heard


async def test_all_of_a_burst_arrives_everywhere(networks, clock, until):
    """libp2p alone delivers sixteen of two hundred."""
    async with networks(0) as a, networks(1, a) as b, networks(2, a) as c:
        for other in (b, c):
            await other.discovery.join()
        await until(lambda: len(a.gossip.neighbours(adapter(1, 0))) == 2)
        heard = [network.gossip.listen(AdapterRecord) for network in (a, b, c)]
        for n in range(200):
            await b.gossip.publish(adapter(1, clock(), f"me/{n}"))
        for channel in heard:
            with trio.fail_after(60):
                names = {(await channel.receive()).record.alias for _ in range(200)}
            assert names == {f"me/{n}" for n in range(200)}
            channel.close()


async def test_what_is_heard_is_what_was_said(networks, clock, until):
    async with networks(0) as a, networks(1, a) as b:
        await b.discovery.join()
        await until(lambda: a.gossip.neighbours(adapter(1, 0)))
        said = adapter(7, clock())
        with b.gossip.listen(AdapterRecord) as own, a.gossip.listen() as heard:
            mine = await b.gossip.publish(said)
            with trio.fail_after(60):
                assert await own.receive() == mine
                theirs = await heard.receive()
        assert (theirs.record, theirs.peer_id, theirs.raw) == (said, b.host.peer_id, mine.raw)
        assert a.gossip.take(mine.raw) is Verdict.IGNORE


async def test_listeners_hear_what_they_asked_for(networks, clock):
    async with networks(0) as a:
        with a.gossip.listen(DatanetRecord) as datanets:
            await a.gossip.publish(adapter(1, clock()))
            await a.gossip.publish(DatanetRecord("icd", 1, ADAPTER, 1, clock()))
            with trio.fail_after(60):
                assert (await datanets.receive()).record.name == "icd"


async def test_verdicts(networks, clock):
    ahead = clock() + 3_600_000
    async with networks(0) as a:
        take = a.gossip.take
        good = seal(STRANGER, adapter(5, clock()))
        assert take(good) is Verdict.ACCEPT
        assert take(good) is Verdict.IGNORE
        assert take(seal(STRANGER, adapter(4, clock()))) is Verdict.IGNORE
        assert take(seal(STRANGER, adapter(6, ahead))) is Verdict.IGNORE
        assert take(good[:-1] + bytes([good[-1] ^ 1])) is Verdict.REJECT
        assert take(b"garbage") is Verdict.REJECT
        assert take(good, (PeerAd,)) is Verdict.REJECT
        assert take(seal(STRANGER, adapter(9, clock(), "no alias"))) is Verdict.REJECT


async def test_what_fits_no_record_is_not_sent(networks, clock):
    async with networks(0) as a:
        with pytest.raises(LocalProtocolError, match="addresses"):
            await a.gossip.publish(PeerAd("client", ("/ip4/192.0.2.1/tcp/1",) * 9, 1, clock()))


async def test_networks_of_other_deployments_do_not_mix(networks, clock, until):
    async with networks(0, chain=1) as a, networks(1, chain=2) as b:
        await b.host.connect(a.host.addresses[0])
        await b.gossip.publish(adapter(1, clock()))
        assert a.gossip.neighbours(adapter(1, 0)) == set()
        assert list(a.gossip.records.since(0, clock())) == []


async def test_a_peer_that_passes_on_lies_is_dropped(networks, until):
    async with networks(0) as a, networks(1, a) as liar:
        await liar.discovery.join()
        await until(lambda: a.gossip.neighbours(adapter(1, 0)))
        topic = f"{liar.gossip._prefix}/adapters"
        liar.gossip._pubsub._pubsub.remove_topic_validator(topic)
        for n in range(16):
            await liar.gossip._pubsub.publish(topic, b"lie %d" % n)
        await until(lambda: liar.host.peer_id not in a.host.connected())


async def test_a_key_that_shouts_is_heard_no_more(networks, clock, monkeypatch):
    monkeypatch.setattr("commonlore.peer.wire.gossip.PER_KEY_BURST", 3.0)
    monkeypatch.setattr("commonlore.peer.wire.gossip.PER_KEY_S", 0.001)
    async with networks(0) as a:
        raws = [seal(STRANGER, adapter(seq, clock())) for seq in range(1, 6)]
        heard = [a.gossip._take(raw, (AdapterRecord,), asked=False) for raw in raws]
        assert heard == [Verdict.ACCEPT] * 3 + [Verdict.IGNORE] * 2


async def test_delivery_is_whole_at_ten_peers(hosts, until):
    got = Counter()

    def note(data: bytes, _forwarder: str) -> Verdict:
        got[data] += 1
        return Verdict.ACCEPT

    async with AsyncExitStack() as stack:
        ten = await stack.enter_async_context(hosts(10, connected=False))
        pubsubs = [await stack.enter_async_context(open_pubsub(host)) for host in ten]
        for pubsub in pubsubs:
            await pubsub.subscribe("topic", note)
        for n, host in enumerate(ten[1:]):
            await host.connect(ten[n // 3].addresses[0])
        await until(lambda: all(pubsub.mesh("topic") for pubsub in pubsubs))
        sent = [b"%d" % n for n in range(30)]
        for n, data in enumerate(sent):
            await pubsubs[n % 10].publish("topic", data)
        await until(lambda: got == dict.fromkeys(sent, 10))
