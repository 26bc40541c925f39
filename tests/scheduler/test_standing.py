"""One worker's record, and everybody's: evidence fades alike by every path, and room is made in few steps."""

from hypothesis import given
from hypothesis import strategies as st

from commonlore.protocol.ids import PeerId
from commonlore.scheduler.standing import _SUCCESS_INERTIA, PPM, Standing, Standings

STATE = (
    *("_busy", "_failures", "_judged_ms", "_success_ppm", "_trust_ppm", "_trusted_ms"),
    *("not_before_ms", "worth_ppm"),
)
WHAT = st.sampled_from(("succeeded", "failed", "busy", "passed", "caught"))
PAUSES_MS = st.integers(0, 2_000_000) | st.sampled_from((10**8, 10**9, 10**10))
EVENTS = st.lists(st.tuples(WHAT, PAUSES_MS), max_size=30)


def succeed_plainly(standing, now_ms):
    """A success in the fewest words: what `succeeded` does in fewer steps."""
    standing._failures = standing._busy = 0
    standing._judge(now_ms, PPM, _SUCCESS_INERTIA)


def live(standing, events, succeed):
    now_ms = 1_700_000_000_000
    for event, pause_ms in events:
        now_ms += pause_ms
        if event in ("passed", "caught"):
            standing.audited(now_ms, passed=event == "passed")
        elif event == "succeeded":
            succeed(standing, now_ms)
        else:
            getattr(standing, event)(now_ms)
        yield {name: getattr(standing, name) for name in STATE}


@given(EVENTS)
def test_a_success_counts_alike_however_it_is_computed(events):
    quick = live(Standing(), events, lambda standing, now_ms: standing.succeeded(now_ms, 500, 0))
    assert [*quick] == [*live(Standing(), events, succeed_plainly)]


def test_records_of_workers_that_are_needed_stay_and_the_others_make_room():
    standings = Standings(100)
    needed = [PeerId(f"needed {number}") for number in range(100)]
    for peer in needed:
        standings.of(peer).outstanding = 1
    for number in range(1_000):
        standings.of(PeerId(f"passing {number}"))
    assert {*needed} <= {*standings}
    assert len(standings) <= 100 + 100
    for peer in needed:
        standings.of(peer).outstanding = 0
    for number in range(100):
        standings.of(PeerId(f"later {number}"))
    assert len(standings) <= 100


def test_room_is_made_in_few_steps_though_nobody_can_be_forgotten():
    standings = Standings(1_000)
    for number in range(1_100):
        standings.of(PeerId(f"{number}")).outstanding = 1
    assert len(standings) == 1_100
    assert next(iter(standings)) == PeerId(f"{100 * 8}"), "eight were looked at for each that was too many"
