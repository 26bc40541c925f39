"""Any history: each ask is completed, cancelled or given up exactly once, and by its deadline."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from commonlore.protocol.gossip.adverts import ADVERT_LIFETIME_MS, Rates
from commonlore.protocol.inference.messages import RefusalCode
from commonlore.scheduler.core import Scheduler, SchedulerConfig
from commonlore.scheduler.events import (
    Abandon,
    AdvertSeen,
    AskArrived,
    Cancelled,
    Completed,
    Dispatch,
    Failed,
    GiveUp,
    Judged,
    Progress,
    Refused,
    Tick,
    Wake,
)

SETTINGS = settings(max_examples=50, stateful_step_count=40, deadline=None, derandomize=True)
CONFIG = SchedulerConfig(
    max_attempts=3, max_asks=12, hedge_ppm=500_000, client_asks=4, client_spend=1_000, spend_window_ms=30_000
)


class EveryAskEnds(RuleBasedStateMachine):
    """Drives a scheduler with two clients, and keeps its own books of what is where and what was spent."""

    make_worker = make_ask = None
    start_ms = 0

    def __init__(self):
        super().__init__()
        self.scheduler = Scheduler(CONFIG, 1)
        self.now_ms, self.wake_ms = self.start_ms, None
        self.specs, self.at, self.ended = {}, {}, {}
        self.in_a_row = {}
        self.spent = {}
        self.seq = 0

    def send(self, event):
        for action in self.scheduler.step(self.now_ms, event):
            match action:
                case Wake(at_ms):
                    assert at_ms > self.now_ms
                    self.wake_ms = at_ms
                case Dispatch(ask_id, peer, hedge=hedge):
                    legs = self.at.setdefault(ask_id, [])
                    assert ask_id not in self.ended
                    assert peer not in legs
                    assert len(legs) == int(hedge)
                    legs.append(peer)
                case Abandon(ask_id, peer):
                    self.at[ask_id].remove(peer)
                    assert len(self.at[ask_id]) <= 1
                case GiveUp(ask_id, code, message):
                    assert message
                    assert "\n" not in message
                    self.end(ask_id, code)

    def end(self, ask_id, how, cost=0):
        assert ask_id not in self.ended
        self.ended[ask_id] = how
        self.at.pop(ask_id, None)
        spec = self.specs[ask_id]
        key = spec.client, self.now_ms // CONFIG.spend_window_ms
        self.spent[key] = self.spent.get(key, 0) + min(cost, spec.max_price)

    @rule(number=st.integers(0, 4), running=st.integers(0, 20), dear=st.booleans())
    def advert(self, number, running, dear):
        self.seq += 1
        rates = Rates(10**9, 0, 0) if dear else Rates(1, 1, 0)
        make = type(self).make_worker
        ad = make(number, seq=self.seq, running=running, rates=rates, seen_ms=self.now_ms)
        self.send(AdvertSeen(ad))

    @rule(number=st.integers(0, 4), passed=st.booleans())
    def judge(self, number, passed):
        self.send(Judged(type(self).make_worker(number).peer, passed))

    @rule(
        life_ms=st.integers(0, 20_000),
        patience_ms=st.none() | st.integers(1, 10_000),
        client=st.sampled_from("ab"),
        price=st.integers(1, 400),
    )
    def ask(self, life_ms, patience_ms, client, price):
        number = len(self.specs)
        self.specs[number] = type(self).make_ask(
            number,
            deadline_ms=self.now_ms + life_ms,
            patience_ms=patience_ms,
            client=client,
            max_price=price,
        )
        self.send(AskArrived(self.specs[number]))

    @precondition(lambda self: any(self.at.values()))
    @rule(data=st.data(), kind=st.sampled_from(["complete", "fail", "refuse", "final", "progress"]))
    def hear(self, data, kind):
        ask_id = data.draw(st.sampled_from(sorted(each for each, legs in self.at.items() if legs)))
        peer = data.draw(st.sampled_from(self.at[ask_id]))
        if kind == "progress":
            self.in_a_row[ask_id] = 0
            self.send(Progress(ask_id, peer, data.draw(st.integers(1, 60))))
            return
        self.at[ask_id].remove(peer)
        if kind == "complete":
            cost = data.draw(st.integers(0, 500))
            self.complete(ask_id, Completed(ask_id, peer, 10, 100, 5, cost))
        elif kind == "fail":
            self.in_a_row[ask_id] = self.in_a_row.get(ask_id, 0) + 1
            self.send(Failed(ask_id, peer))
        else:
            code = data.draw(st.sampled_from(list(RefusalCode)))
            passing = kind == "refuse" and code in (RefusalCode.BUSY, RefusalCode.CREDIT)
            self.in_a_row[ask_id] = self.in_a_row.get(ask_id, 0) + (not passing)
            self.send(Refused(ask_id, peer, code, kind == "refuse"))

    def complete(self, ask_id, event):
        others = self.at.get(ask_id, [])
        actions = self.scheduler.step(self.now_ms, event)
        abandoned = [each.peer for each in actions if isinstance(each, Abandon) and each.ask_id == ask_id]
        assert abandoned == others
        self.end(ask_id, "completed", event.spent)
        for action in actions:
            if isinstance(action, Dispatch):
                self.at.setdefault(action.ask_id, []).append(action.peer)
            elif isinstance(action, Wake):
                self.wake_ms = action.at_ms

    @precondition(lambda self: self.specs)
    @rule(data=st.data())
    def cancel(self, data):
        ask_id = data.draw(st.sampled_from(sorted(self.specs)))
        if ask_id not in self.ended:
            self.end(ask_id, "cancelled", 3)
            self.send(Cancelled(ask_id, 3))

    @rule(pause_ms=st.integers(0, 2 * ADVERT_LIFETIME_MS))
    def wait(self, pause_ms):
        until_ms = self.now_ms + pause_ms
        while self.wake_ms is not None and self.wake_ms <= until_ms:
            self.now_ms, self.wake_ms = self.wake_ms, None
            self.send(Tick())
        self.now_ms = until_ms

    @invariant()
    def each_ends_once_and_in_time(self):
        under_way = set(self.specs) - set(self.ended)
        assert len(self.scheduler) == len(under_way) <= CONFIG.max_asks
        assert {ask_id for ask_id, legs in self.at.items() if legs} <= under_way
        assert all(self.specs[ask_id].deadline_ms > self.now_ms for ask_id in under_way)

    @invariant()
    def attempts_are_bounded(self):
        for ask_id in set(self.specs) - set(self.ended):
            assert self.in_a_row.get(ask_id, 0) <= CONFIG.max_attempts + 1  # a hedge's failure is not counted

    @invariant()
    def workers_have_what_was_sent(self):
        outstanding = {}
        for legs in self.at.values():
            for peer in legs:
                outstanding[peer] = outstanding.get(peer, 0) + 1
        for each in self.scheduler.view:
            assert self.scheduler.standing(each.peer).outstanding == outstanding.get(each.peer, 0)

    @invariant()
    def budgets_are_kept(self):
        for client in "ab":
            mine = [s for n, s in self.specs.items() if s.client == client and n not in self.ended]
            spent = self.spent.get((client, self.now_ms // CONFIG.spend_window_ms), 0)
            assert len(mine) <= CONFIG.client_asks
            assert spent <= CONFIG.client_spend
            if not spent:
                assert sum(spec.max_price for spec in mine) <= CONFIG.client_spend


def test_every_ask_ends_by_its_deadline(worker, ask, now_ms):
    machine = type("Machine", (EveryAskEnds,), {"make_worker": worker, "make_ask": ask, "start_ms": now_ms})
    run_state_machine_as_test(machine, settings=SETTINGS)
