"""The short ways of asking who may serve say what the long one says."""

from hypothesis import given
from hypothesis import strategies as st

from commonlore.protocol.ids import cid_of
from commonlore.scheduler.fields import Field
from commonlore.scheduler.members import Member
from commonlore.scheduler.prng import Prng
from commonlore.scheduler.query import Query
from commonlore.scheduler.standing import Standing
from commonlore.scheduler.survey import Bar, bar_of, may_serve, next_chance

from .conftest import BASE, NOW_MS, build_ask, build_worker

OTHER = cid_of(b"other")
PEERS = [build_worker(number).peer for number in range(4)]
BACKLOG = 2


@st.composite
def members(draw, number):
    standing = Standing()
    standing.advertised(NOW_MS - draw(st.sampled_from([0, 6_000, 29_000, 40_000])), draw(st.integers(0, 12)))
    standing.outstanding = draw(st.integers(0, 9))
    standing.not_before_ms = draw(st.sampled_from([0, NOW_MS, NOW_MS + 1, NOW_MS + 500]))
    changes = {
        "max_context": draw(st.sampled_from([149, 150, 2_048])),
        "max_rank": draw(st.sampled_from([0, 16])),
        "artefact": draw(st.sampled_from([BASE, OTHER])),
    }
    return Member(build_worker(number, **changes), standing, BACKLOG)


@st.composite
def queries(draw):
    peers = st.frozensets(st.sampled_from(PEERS), max_size=3).map(tuple)
    spec = build_ask(
        1,
        adapters=draw(st.sampled_from([(), (OTHER,)])),
        rank=draw(st.sampled_from([0, 8, 32])),
        max_price=draw(st.sampled_from([199, 200, 210, 10_000])),
        artefact=draw(st.sampled_from([None, OTHER])),
        only=draw(peers),
        excluded=draw(peers),
        deadline_ms=draw(st.sampled_from([NOW_MS + 60_000, 3_000_000_000_000])),
    )
    tried = draw(st.dictionaries(st.sampled_from(PEERS), st.sampled_from([NOW_MS, NOW_MS + 1, NOW_MS + 900])))
    return Query(NOW_MS, spec, Field(BASE), Prng(1), tried)


@given(st.tuples(*map(members, range(4))), queries())
def test_the_short_ways_say_the_same(workers, query):
    bars = [bar_of(each, query) for each in workers]
    assert [may_serve(each, query) for each in workers] == [bar is None for bar in bars]
    ready_ms = [
        max(query.tried.get(each.peer, 0), each.standing.not_before_ms)
        for each, bar in zip(workers, bars, strict=True)
        if bar in (Bar.TRIED, Bar.RESTING)
    ]
    assert next_chance(workers, query) == (min(ready_ms, default=None), Bar.FULL in bars)
