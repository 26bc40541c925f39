import pytest

from commonlore.protocol.gossip.adverts import ADVERT_LIFETIME_MS, MAX_CLOCK_SKEW_MS
from commonlore.protocol.ids import cid_of
from commonlore.scheduler.view import MAX_WARM, WARM_GRACE_MS, NetworkView

BASE, OTHER = cid_of(b"base"), cid_of(b"other")
ADAPTERS = [cid_of(bytes([number])) for number in range(MAX_WARM + 4)]


def peers(pool):
    return [member.peer for member in pool]


@pytest.mark.parametrize(
    ("first", "second", "replaced"),
    [(1, 2, True), (2, 2, False), (2, 1, False)],
    ids=["newer", "same", "older"],
)
def test_higher_seq_wins(worker, now_ms, first, second, replaced):
    view = NetworkView()
    assert view.apply(now_ms, worker(1, seq=first, running=1))
    assert view.apply(now_ms, worker(1, seq=second, running=3)) is replaced
    assert view.get(worker(1).peer).running == (3 if replaced else 1)


@pytest.mark.parametrize(
    ("age_ms", "taken"),
    [
        (0, True),
        (ADVERT_LIFETIME_MS + MAX_CLOCK_SKEW_MS, True),
        (ADVERT_LIFETIME_MS + MAX_CLOCK_SKEW_MS + 1, False),
        (-MAX_CLOCK_SKEW_MS, True),
        (-MAX_CLOCK_SKEW_MS - 1, False),
    ],
)
def test_clock_window(worker, now_ms, age_ms, taken):
    assert NetworkView().apply(now_ms, worker(1, issued_ms=now_ms - age_ms)) is taken


def test_silent_workers_are_forgotten_with_their_index(worker, now_ms):
    view = NetworkView()
    view.apply(now_ms, worker(1, resident=(ADAPTERS[0],)))
    view.apply(now_ms + 50_000, worker(2, seen_ms=now_ms + 50_000))
    view.warm(now_ms, view.member(worker(1).peer), ADAPTERS[1])
    assert [gone.peer for gone in view.forget_stale(now_ms + ADVERT_LIFETIME_MS)] == [worker(1).peer]
    assert peers(view.serving(BASE)) == [worker(2).peer]
    assert not view.holding(BASE, ADAPTERS[0])
    assert not view.holding(BASE, ADAPTERS[1])


def test_an_advert_moves_a_worker_between_indexes(worker, now_ms):
    view = NetworkView()
    view.apply(now_ms, worker(1, resident=(ADAPTERS[0], ADAPTERS[1])))
    view.apply(now_ms, worker(1, seq=2, resident=(ADAPTERS[1], ADAPTERS[2])))
    assert [len(view.holding(BASE, adapter)) for adapter in ADAPTERS[:3]] == [0, 1, 1]
    view.apply(now_ms, worker(1, seq=3, base=OTHER, resident=(ADAPTERS[1],)))
    assert not view.serving(BASE)
    assert not view.holding(BASE, ADAPTERS[1])
    assert len(view.holding(OTHER, ADAPTERS[1])) == 1


def test_the_longest_silent_makes_room(worker, now_ms):
    view = NetworkView(max_workers=2)
    for number in (1, 2):
        view.apply(now_ms, worker(number))
    view.apply(now_ms + 1, worker(1, seq=2, seen_ms=now_ms + 1))
    view.apply(now_ms + 2, worker(3, seen_ms=now_ms + 2))
    assert {each.peer for each in view} == {worker(1).peer, worker(3).peer}


def test_warm_adapters_last_until_the_advert_tells_better(worker, now_ms):
    view = NetworkView()
    peer, later = worker(1).peer, now_ms + WARM_GRACE_MS + 1
    view.apply(now_ms, worker(1))
    view.warm(now_ms, view.member(peer), ADAPTERS[0])
    view.apply(now_ms + 1, worker(1, seq=2))
    assert peer in peers(view.holding(BASE, ADAPTERS[0])), "still loading"
    view.apply(later, worker(1, seq=3, resident=(ADAPTERS[1],), resident_count=40, seen_ms=later))
    assert peer in peers(view.holding(BASE, ADAPTERS[0])), "the list is cut short: no news"
    view.apply(later, worker(1, seq=4, resident=(ADAPTERS[1],), seen_ms=later))
    assert not view.holding(BASE, ADAPTERS[0]), "the list is whole, and without it"


def test_warm_adapters_are_bounded(worker, now_ms):
    view = NetworkView()
    view.apply(now_ms, worker(1))
    for adapter in ADAPTERS:
        view.warm(now_ms, view.member(worker(1).peer), adapter)
    assert sum(worker(1).peer in peers(view.holding(BASE, adapter)) for adapter in ADAPTERS) == MAX_WARM
    assert view.member(worker(1).peer).warm == MAX_WARM
