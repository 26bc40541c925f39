"""Announcements: accept what is right, ignore what is early or late, reject what is wrong."""

from dataclasses import replace

import pytest

from commonlore.protocol.content.manifests import Split
from commonlore.protocol.encoding.codec import record_hash
from commonlore.protocol.errors import InvalidSignature, RemoteProtocolError
from commonlore.protocol.gossip.adverts import (
    ADVERT_LIFETIME_MS,
    MAX_CLOCK_SKEW_MS,
    AdapterRecord,
    DatanetRecord,
    MeasurementRecord,
    PeerAd,
    WorkerAd,
)
from commonlore.protocol.gossip.rules import Verdict, advert_hash, check_advert, judge_advert
from commonlore.protocol.ids import cid_of
from commonlore.protocol.signing.envelope import open_sealed, seal
from commonlore.protocol.signing.keys import PeerKey

ADVERTS = (WorkerAd, PeerAd, AdapterRecord, DatanetRecord, MeasurementRecord)


@pytest.fixture
def judge(domain, peer_key, now):
    def judge(record, key=peer_key, at_ms=now * 1000, where=domain):
        return judge_advert(seal(key, record), ADVERTS, where, at_ms)

    return judge


@pytest.fixture
def others(now, peer_key):
    return (
        PeerAd("client", ("/ip4/192.0.2.1/tcp/1",), 1, now * 1000),
        AdapterRecord("ada/icd-10", cid_of(b"a"), cid_of(b"b"), None, None, 2, 1, 1, now * 1000),
        DatanetRecord("icd-10-cm", 1, cid_of(b"d"), 1, now * 1000),
        MeasurementRecord(peer_key.public, cid_of(b"a"), cid_of(b"m"), 1, now * 1000),
    )


def test_good_announcements_are_accepted(judge, worker_ad, others):
    for record in (worker_ad, *others):
        judged = judge(record)
        assert judged.verdict is Verdict.ACCEPT, judged.reason
        assert judged.sealed.record == record


def test_nobody_measures_in_anothers_name(judge, others):
    judged = judge(others[-1], key=PeerKey.generate(b"another" + bytes(25)))
    assert judged.verdict is Verdict.REJECT
    assert "did not seal" in judged.reason


def test_the_future_is_ignored(judge, worker_ad, others):
    for record in (worker_ad, *others):
        assert judge(record, at_ms=record.issued_ms - MAX_CLOCK_SKEW_MS).verdict is Verdict.ACCEPT
        early = judge(record, at_ms=record.issued_ms - MAX_CLOCK_SKEW_MS - 1)
        assert (early.verdict, early.sealed) == (Verdict.IGNORE, None)
        assert "in the future" in early.reason


def test_presence_is_short_lived_but_records_are_not(judge, worker_ad, others):
    latest = worker_ad.issued_ms + ADVERT_LIFETIME_MS + MAX_CLOCK_SKEW_MS
    for record in (worker_ad, others[0]):
        assert judge(record, at_ms=latest).verdict is Verdict.ACCEPT
        assert judge(record, at_ms=latest + 1).verdict is Verdict.IGNORE
    for record in others[1:]:
        assert judge(record, at_ms=latest + 10**10).verdict is Verdict.ACCEPT


def test_an_ended_binding_is_ignored_a_false_one_rejected(judge, worker_ad, other_domain, domain, peer_key):
    ended = worker_ad.binding.binding.not_after * 1000
    assert judge(replace(worker_ad, issued_ms=ended), at_ms=ended).verdict is Verdict.IGNORE
    assert judge(worker_ad, where=other_domain).verdict is Verdict.REJECT
    other = PeerKey.generate(b"\x77" * 32)
    assert judge(worker_ad, key=other).verdict is Verdict.REJECT
    with pytest.raises(InvalidSignature, match="belongs to another peer"):
        check_advert(open_sealed(seal(other, worker_ad), ADVERTS), domain, worker_ad.issued_ms)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"base_split": Split(1, 2, 3, 4, 5)}, "basis points"),
        ({"resident": (cid_of(b"a"), cid_of(b"a"))}, "twice"),
        ({"resident_count": 1}, "2 resident adapters are named but 1 counted"),
        ({"resident_ranks": (8,)}, "2 resident adapters are named but 1 ranks"),
        ({"addresses": ("127.0.0.1:4001",)}, "not a multiaddr"),
        ({"addresses": ("/ip4/127.0.0.1 \n",)}, "not a multiaddr"),
    ],
)
def test_workers_that_contradict_themselves_are_rejected(judge, worker_ad, change, words):
    judged = judge(replace(worker_ad, **change))
    assert judged.verdict is Verdict.REJECT
    assert words in judged.reason


@pytest.mark.parametrize(
    "name", ["", "/", "a/", "/b", "a/b/c", "a b/c", "../x", "a/..", "ä/b", "A/b", "a/B", "A", "a" * 65 + "/b"]
)
def test_names_have_a_form(judge, others, name):
    assert judge(replace(others[1], alias=name)).verdict is Verdict.REJECT
    assert judge(replace(others[2], name=name)).verdict is Verdict.REJECT
    assert judge(replace(others[0], role=name)).verdict is Verdict.REJECT


def test_bytes_that_are_no_envelope_are_rejected(domain, now):
    for data in (b"", b"\x00", bytes(5000)):
        assert judge_advert(data, ADVERTS, domain, now * 1000).verdict is Verdict.REJECT


def test_an_unexpected_kind_is_rejected(domain, peer_key, worker_ad, now):
    judged = judge_advert(seal(peer_key, worker_ad), (PeerAd,), domain, now * 1000)
    assert judged.verdict is Verdict.REJECT


def test_requests_name_adverts_by_hash(worker_ad):
    assert advert_hash(worker_ad) == record_hash(worker_ad)
    assert advert_hash(replace(worker_ad, seq=8)) != advert_hash(worker_ad)


def test_check_raises_what_judge_reports(domain, peer_key, worker_ad, now):
    sealed = open_sealed(seal(peer_key, replace(worker_ad, resident_count=0)), ADVERTS)
    with pytest.raises(RemoteProtocolError, match="0 counted"):
        check_advert(sealed, domain, now * 1000)
