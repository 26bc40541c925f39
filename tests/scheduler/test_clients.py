from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from commonlore.scheduler.clients import MAX_CLIENTS, Budget, Clients

WINDOW_MS = 1_000


def test_no_budget_is_no_limit():
    clients = Clients(Budget())
    assert all(clients.admit(0, "a", 10**9) is None for _ in range(100))


def test_so_many_at_once():
    clients = Clients(Budget(asks=2))
    assert [clients.admit(0, "a", 1) is None for _ in range(3)] == [True, True, False]
    assert clients.admit(0, "a", 1)[0] == "busy"
    assert "2 asks of this client" in clients.admit(0, "a", 1)[1]
    assert clients.admit(0, "b", 1) is None, "another client has its own"
    clients.settle(0, "a", 1, 1)
    assert clients.admit(0, "a", 1) is None


def test_a_window_ends():
    clients = Clients(Budget(spend=100, window_ms=WINDOW_MS))
    assert clients.admit(0, "a", 100) is None
    assert clients.admit(0, "a", 1)[0] == "credit"
    assert "0 of 100 are left" in clients.admit(0, "a", 1)[1]
    clients.settle(10, "a", 100, 60)
    assert clients.spent(10, "a") == (60, 0)
    assert "40 of 100 are left to this client for 1 s" in clients.admit(10, "a", 41)[1]
    assert clients.admit(WINDOW_MS, "a", 100) is None


def test_accounts_that_say_nothing_are_forgotten():
    clients = Clients(Budget(spend=10, window_ms=WINDOW_MS))
    for number in range(MAX_CLIENTS + 10):
        clients.admit(number, str(number), 1)
        clients.settle(number, str(number), 1, 1)
    assert len(clients) <= MAX_CLIENTS + 1


class Spending(RuleBasedStateMachine):
    """Whatever comes when: neither budget is ever exceeded, and what is refused would have exceeded one."""

    def __init__(self):
        super().__init__()
        self.clients = Clients(Budget(asks=3, spend=100, window_ms=WINDOW_MS))
        self.now_ms = 0
        self.open = []
        self.spent = {}

    @rule(client=st.sampled_from("ab"), price=st.integers(0, 120))
    def ask(self, client, price):
        mine = [each for who, each in self.open if who == client]
        fits = len(mine) < 3 and sum(mine) + price + self.of_window(client) <= 100
        assert (self.clients.admit(self.now_ms, client, price) is None) == fits
        if fits:
            self.open.append((client, price))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), share=st.integers(0, 12))
    def end(self, data, share):
        client, price = data.draw(st.sampled_from(self.open))
        self.open.remove((client, price))
        spent = price * share // 10
        self.clients.settle(self.now_ms, client, price, spent)
        key = client, self.now_ms // WINDOW_MS
        self.spent[key] = self.spent.get(key, 0) + min(spent, price)

    @rule(pause_ms=st.integers(0, WINDOW_MS))
    def wait(self, pause_ms):
        self.now_ms += pause_ms

    def of_window(self, client):
        return self.spent.get((client, self.now_ms // WINDOW_MS), 0)

    @invariant()
    def within_the_budget(self):
        for client in "ab":
            spent, reserved = self.clients.spent(self.now_ms, client)
            assert spent == self.of_window(client)
            assert reserved == sum(price for who, price in self.open if who == client)


TestSpending = Spending.TestCase
TestSpending.settings = settings(max_examples=30, stateful_step_count=30, deadline=None, derandomize=True)
