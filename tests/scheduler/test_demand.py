from commonlore.protocol.ids import cid_of
from commonlore.scheduler.demand import HALF_LIFE_MS, MAX_COUNTED, Demand

ADAPTER, OTHER = cid_of(b"adapter"), cid_of(b"other")


def test_a_steady_rate_is_found_and_fades():
    demand = Demand()
    for now_ms in range(0, 10 * HALF_LIFE_MS, 250):
        demand.note(now_ms, ADAPTER)
    rate = demand.rate_mhz(now_ms, ADAPTER)
    assert 3_900 < rate < 4_100, "four a second"
    assert abs(demand.rate_mhz(now_ms + HALF_LIFE_MS, ADAPTER) - rate // 2) <= 1
    assert demand.rate_mhz(now_ms + 100 * HALF_LIFE_MS, ADAPTER) == 0
    assert demand.rate_mhz(now_ms, OTHER) == 0
    assert demand.rates_mhz(now_ms) == {ADAPTER: rate}


def test_what_was_asked_for_long_ago_makes_room():
    demand = Demand()
    demand.note(0, ADAPTER)
    demand.note(1, OTHER)
    demand.note(2, ADAPTER)
    for number in range(MAX_COUNTED - 1):
        demand.note(3, cid_of(number.to_bytes(4, "big")))
    assert len(demand) == MAX_COUNTED
    assert demand.rate_mhz(3, ADAPTER) > 0
    assert demand.rate_mhz(3, OTHER) == 0
