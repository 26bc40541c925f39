"""The quick way to the best worker finds whom the plain way finds."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commonlore.protocol.ids import cid_of
from commonlore.scheduler.policies import POLICIES
from commonlore.scheduler.prefixes import Prefixes
from commonlore.scheduler.prng import Prng
from commonlore.scheduler.route import Router
from commonlore.scheduler.scores import NOBODY, lowest, score_time, soonest
from commonlore.scheduler.view import NetworkView

ADAPTERS = (cid_of(b"one"), cid_of(b"two"))
WORKERS = st.tuples(
    st.integers(0, 9),  # ours under way
    st.integers(0, 3),  # others' asks
    st.integers(1_000, 90_000),  # microseconds a token
    st.sets(st.sampled_from(ADAPTERS)),  # held
    st.integers(-5_000, 5_000),  # and ready when, from now on
    st.booleans(),  # had the first once
    st.booleans(),  # failed lately
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(WORKERS, min_size=1, max_size=9), st.integers(0, 2), st.integers(0, 1 << 40))
def test_the_soonest_is_the_one_with_the_lowest_score(worker, ask, now_ms, drawn, wanted, before):
    view = NetworkView()
    for number, (ours, others, token_us, held, ready_ms, kept, failed) in enumerate(drawn):
        view.apply(now_ms, worker(number, running=others))
        member = view.member(worker(number).peer)
        member.standing.outstanding, member.standing.token_us = ours, token_us
        for adapter in held:
            view.warm(now_ms + ready_ms, member, adapter)
        if kept:
            member.standing.kept(ADAPTERS[0])
        if failed:
            member.standing.failed(now_ms)
        view.weigh(now_ms, member)
    router = Router(POLICIES["affinity_and_load"], view, Prng(1), Prefixes())
    query = router.query(now_ms, ask(1, adapters=ADAPTERS[:wanted]))
    members = query.field.everyone.items
    plain = lowest(score_time)
    for start in (NOBODY, (members[-1], before)):
        found, score = soonest(members, query, start)
        assert score == plain(members, query, start)[1]
        assert score == (before if found is members[-1] and score == before else score_time(found, query))
