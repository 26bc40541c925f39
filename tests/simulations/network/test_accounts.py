import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonlore.simulations.experiment.models import AdapterModel, Money, Scenario, WorkerModel, WorkModel
from commonlore.simulations.network.accounts import Accounts, Bill
from commonlore.simulations.workload.people import draw_people

SCENARIO = Scenario(
    "test",
    "",
    workers=WorkerModel(count=3, price_sigma=0.5),
    work=WorkModel(payers=3),
    adapters=AdapterModel(count=4, contributors=5),
)
PEOPLE = draw_people(SCENARIO, 1)
DEPOSIT = 1_000_000

BILLS = st.builds(
    Bill,
    payer=st.integers(0, 2),
    worker=st.integers(0, 2),
    adapter=st.integers(-1, 3),
    epoch=st.integers(0, 3),
    prompt_tokens=st.integers(0, 3_000),
    output_tokens=st.integers(0, 700),
)


@settings(deadline=None)  # a busy machine is no reason to fail
@given(st.lists(BILLS, max_size=12), st.booleans())
def test_every_unit_ends_in_a_claim(bills, trees):
    accounts = Accounts(PEOPLE, Money(trees=trees), DEPOSIT)
    paid = sum(accounts.pay(bill, 128) for bill in bills)
    settlement = accounts.settle()
    assert settlement.conserved
    assert settlement.volume == paid == sum(settlement.earned.values())
    assert sum(DEPOSIT - accounts.limit(payer) for payer in range(3)) == paid
    assert settlement.receipts == sum(-(-bill.output_tokens // 128) for bill in bills)


def test_steps_charge_prompt_and_fee_once():
    bill = Bill(payer=0, worker=0, adapter=0, epoch=0, prompt_tokens=1_000, output_tokens=300)
    prices = [
        Accounts(PEOPLE, Money(), DEPOSIT).pay(bill, receipt_tokens) for receipt_tokens in (300, 100, 1)
    ]
    assert prices[0] - 3 <= prices[1] <= prices[0], "each step rounds down"
    assert prices[2] < prices[1] + 1


def test_money_that_is_lost_is_noticed():
    accounts = Accounts(PEOPLE, Money(), DEPOSIT)
    accounts.pay(Bill(0, 0, 0, 0, 100, 100), 128)
    accounts._escrow[0] += 1
    assert not accounts.settle().conserved


@pytest.mark.parametrize(("adapter", "roles"), [(-1, {"platform", "worker", "work_pool"}), (0, None)])
def test_roles_are_those_of_the_split(adapter, roles):
    accounts = Accounts(PEOPLE, Money(), DEPOSIT)
    accounts.pay(Bill(0, 0, adapter, 0, 10_000, 1_000), 128)
    assert set(accounts.settle().earned) == (
        roles or {"platform", "worker", "author", "work_pool", "contributor"}
    )
