"""The books: every rule of conservation finds its own difference, and no other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from commonlore.peer.settling.books import Books, Line, PaidAnswer
from commonlore.protocol.ids import Address

ALICE, BOB, CLIENT = (Address(bytes([n]) * 20) for n in (1, 2, 3))
BOOKS = Books(
    answers=(PaidAnswer(100, {ALICE: 60, BOB: 40}), PaidAnswer(50, {BOB: 50})),
    lines=(Line(ALICE, (60, 0), 60, 60), Line(BOB, (40, 50), 90, 95), Line(CLIENT, (0, 0), 0, 5)),
    minted=1_007,
    escrow=840,
    deposits=840,
    settlement=0,
    pots=150,
    claimed=150,
    bonds=7,
)


def test_books_that_add_up() -> None:
    assert BOOKS.conserved
    assert (BOOKS.prices, BOOKS.unclaimed) == (150, 0)


@pytest.mark.parametrize(
    ("wrong", "rules"),
    [
        ({"minted": 1_008}, ("minted = escrow + pots + bonds + balances",)),
        ({"bonds": 6}, ("minted = escrow + pots + bonds + balances",)),
        ({"deposits": 839}, ("escrow holds its deposits",)),
        ({"pots": 151}, ("settlement holds what is unclaimed", "pots = prices")),
        ({"claimed": 149}, ("settlement holds what is unclaimed", "claims = credits")),
        ({"answers": (PaidAnswer(100, {ALICE: 60, BOB: 39}), BOOKS.answers[1])}, ("credits of answer 1",)),
        ({"lines": (replace(BOOKS.lines[0], claimed=59), *BOOKS.lines[1:])}, ("0x0101",)),
    ],
)
def test_a_unit_too_many_or_too_few_is_named(wrong: dict, rules: tuple[str, ...]) -> None:
    found = replace(BOOKS, **wrong).differences()
    assert len(found) == len(rules)
    assert all(difference.startswith(rule) for difference, rule in zip(found, rules, strict=True))
