"""A watchman goes on after whatever stops a round, and says what it waits for."""

from commonlore.peer.clock import ManualClock
from commonlore.peer.roles.watcher import Watchman
from commonlore.peer.watchtower.demands import Act, WatchReport
from commonlore.protocol.errors import Unreachable
from commonlore.protocol.ids import Address

LANE = Address(b"\x01" * 20)


class Tower:
    """Gives these in turn: reports, or errors."""

    def __init__(self, *rounds):
        self.rounds = list(rounds)

    async def look(self):
        now = self.rounds.pop(0)
        if isinstance(now, Exception):
            raise now
        return now


async def test_rounds_are_counted_and_failures_said(caplog):
    act = Act("bad line", LANE, 3, "a line is wrong", "0xab")
    first = WatchReport(7, lanes=2, judged=3)
    second = WatchReport(8, lanes=2, judged=1, acts=[act], waiting=["no data"])
    told = []
    watchman = Watchman(Tower(first, Unreachable("down"), ValueError("a defect"), second), ManualClock(5_000))
    watchman.tell(told.append)
    await watchman.look()
    assert (watchman.status.judged, watchman.status.waiting_for) == (3, "")
    await watchman.look()
    assert (watchman.status.failures, watchman.status.waiting_for) == (1, "down")
    await watchman.look()
    assert (watchman.status.failures, watchman.status.judged) == (2, 3)
    assert "see the log" in watchman.status.waiting_for
    await watchman.look()
    status = watchman.status
    assert (status.judged, status.challenges, status.failures, status.waiting_for) == (4, 1, 0, "no data")
    assert told == [first, second]
    assert "watching waits: down" in caplog.text


async def test_what_was_fetched_to_be_judged_is_swept():
    class Indexes:
        judged = 1

        async def look(self, report):
            report.indexes = self.judged

    swept, indexes = [], Indexes()

    async def sweep():
        swept.append(indexes.judged)

    watchman = Watchman(Tower(WatchReport(7), WatchReport(8)), ManualClock(5_000), None, indexes, sweep)
    for indexes.judged in (1, 0):
        await watchman.look()
    assert swept == [1], "after a round that judged something"
