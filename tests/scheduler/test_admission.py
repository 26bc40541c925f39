import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonlore.protocol.errors import Refused
from commonlore.protocol.ids import Address
from commonlore.scheduler.admission import DEBT_LIFETIME_MS, MAX_DEBTORS, Admission, Debts

PAYER, OTHER = Address(b"p" * 20), Address(b"o" * 20)


@pytest.mark.parametrize(
    ("in_flight", "unvouched", "price", "admitted"),
    [(0, 0, 100, True), (0, 0, 101, False), (60, 0, 40, True), (60, 1, 40, False), (0, 101, 0, False)],
)
def test_limit(in_flight, unvouched, price, admitted):
    admission = Admission()
    admission.admit(PAYER, in_flight, 0, 100)
    if admitted:
        admission.admit(PAYER, price, unvouched, 100)
    else:
        with pytest.raises(Refused, match="the limit is 100") as refusal:
            admission.admit(PAYER, price, unvouched, 100)
        assert (refusal.value.code, refusal.value.retryable) == ("credit", True)
    assert admission.in_flight(PAYER) == in_flight + (price if admitted else 0)


def test_hold_releases_whatever_happens():
    admission = Admission()

    def fail():
        with admission.hold(PAYER, 80, 0, 100), admission.hold(OTHER, 100, 0, 100):
            assert admission.in_flight(PAYER) == 80
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert admission.in_flight(PAYER) == admission.in_flight(OTHER) == 0


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40), st.booleans())))
def test_never_more_than_the_limit(steps):
    admission, running = Admission(), []
    for price, unvouched, end_one in steps:
        try:
            admission.admit(PAYER, price, unvouched, 100)
            running.append(price)
            assert sum(running) + unvouched <= 100
        except Refused:
            assert sum(running) + unvouched + price > 100
        if end_one and running:
            admission.release(PAYER, running.pop(0))
        assert admission.in_flight(PAYER) == sum(running)


def test_debts_are_forgiven_evenly_and_bounded():
    debts = Debts()
    debts.add(PAYER, 1_000, 0)
    assert [debts.of(PAYER, at) for at in (0, DEBT_LIFETIME_MS // 2, DEBT_LIFETIME_MS)] == [1_000, 500, 0]
    debts.add(PAYER, 100, DEBT_LIFETIME_MS // 2)
    assert debts.of(PAYER, DEBT_LIFETIME_MS // 2) == 600
    assert debts.of(OTHER, 0) == 0
    for number in range(MAX_DEBTORS):
        debts.add(Address(number.to_bytes(20, "big")), 1, 0)
    assert debts.of(PAYER, 0) == 0
