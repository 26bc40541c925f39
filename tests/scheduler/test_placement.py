from hypothesis import given
from hypothesis import strategies as st

from commonlore.protocol.ids import PeerId, cid_of
from commonlore.scheduler.placement import Site, place, replicas

ADAPTERS = [cid_of(bytes([number])) for number in range(12)]
RATES = st.dictionaries(st.sampled_from(ADAPTERS), st.integers(0, 50_000), max_size=12)


def sites(slots, count=4, batch=8):
    return [Site(PeerId(f"w{number}"), slots, batch) for number in range(count)]


def spread_of(plan):
    return {adapter: sum(adapter in held for held in plan.values()) for adapter in ADAPTERS}


@given(RATES, st.integers(0, 6), st.integers(1, 6))
def test_slots_are_kept_and_places_are_given_by_demand(rates, slots, count):
    plan = place(rates, 3_000, sites(slots, count))
    wanted = {adapter: rate for adapter, rate in rates.items() if rate}
    spread = spread_of(plan)
    for held in plan.values():
        assert len(held) == len({*held}) <= slots
        assert [rates[adapter] for adapter in held] == sorted((rates[a] for a in held), reverse=True)
    assert all(not spread[adapter] for adapter in ADAPTERS if adapter not in wanted)
    missing = {adapter for adapter in wanted if not spread[adapter]}
    if missing:
        assert sum(spread.values()) == slots * count, "nobody is left out while there is a slot"
        served = [rate for adapter, rate in wanted.items() if adapter not in missing]
        assert max(wanted[adapter] for adapter in missing) <= min(served, default=1 << 32)
    for adapter, rate in wanted.items():
        assert spread[adapter] <= min(count, replicas(rate, 3_000, 8))


@given(RATES, st.permutations(range(4)))
def test_a_plan_that_was_carried_out_plans_itself_again(rates, order):
    roomy = sites(12)
    first = place(rates, 3_000, roomy)
    held = [Site(site.peer, site.slots, site.batch, first[site.peer]) for site in roomy]
    assert place(rates, 3_000, [held[at] for at in order]) == first
    assert place(dict(reversed(rates.items())), 3_000, roomy) == first


def test_more_demand_means_more_places():
    assert [replicas(rate, 4_000, 8) for rate in (0, 500, 1_000, 2_000, 40_000)] == [1, 1, 1, 2, 40]
    plan = place({ADAPTERS[0]: 8_000, ADAPTERS[1]: 10}, 4_000, sites(2, 10))
    assert spread_of(plan)[ADAPTERS[0]] == 8
    assert spread_of(plan)[ADAPTERS[1]] == 1


def test_what_is_held_stays():
    moved = Site(PeerId("w9"), 1, 8, (ADAPTERS[0],))
    assert place({ADAPTERS[0]: 10}, 3_000, [*sites(4), moved])[moved.peer] == (ADAPTERS[0],)
