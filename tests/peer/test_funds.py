"""What a worker lends: by owner, not by session key."""

from __future__ import annotations

import pytest

from commonlore.contracts.records import ChannelState, FundState
from commonlore.peer.clock import ManualClock
from commonlore.peer.funds import EMPTY_LIFETIME_MS, READING_LIFETIME_MS, Funds
from commonlore.peer.ledger_rows import Channel, Role
from commonlore.protocol.ids import Address

OWNER, LANE = Address(b"o" * 20), Address(b"l" * 20)
STRANGER = Address(b"s" * 20)
KEYS = [Address(bytes([n]) * 20) for n in range(1, 4)]


def fund(amount: int) -> FundState:
    return FundState(amount, 0, 0)


class Books:
    """What session keys have vouched in a lane, cumulative: the ledger's part in it."""

    def __init__(self, vouched: dict[Address, int] | None = None) -> None:
        self.vouched = vouched or {}

    async def channel(self, role: Role, payer: Address, lane: Address) -> Channel:
        return Channel(role, payer, lane, cumulative=self.vouched.get(payer, 0))

    async def channels(self, role: Role) -> tuple[Channel, ...]:
        elsewhere = Channel(role, STRANGER, Address(b"x" * 20), cumulative=5)
        return (elsewhere, *[await self.channel(role, payer, LANE) for payer in self.vouched])


def funds_of(chain: Chain, books: Books, clock: ManualClock | None = None) -> Funds:
    return Funds(chain, LANE, 10_000, clock or ManualClock(1), books)  # type: ignore[arg-type]


async def pay(funds: Funds, books: Books, payer: Address, cumulative: int) -> None:
    """An ask of a key ends with its voucher."""
    books.vouched[payer] = cumulative
    await funds.keep(payer, OWNER)


class Chain:
    """The escrow of one owner. `reserved` by session key; keys in `bound` are known."""

    def __init__(self, balance: int) -> None:
        self.balance, self.reserved, self.redeemed = balance, dict[Address, int](), dict[Address, int]()
        self.bound, self.revoked = set(KEYS), set[Address]()

    def escrow_of(self, payer: Address, lane: Address) -> ChannelState:
        return ChannelState(
            OWNER if payer in self.bound else None,
            1 << 40,
            payer in self.revoked,
            fund(self.balance),
            fund(self.reserved.get(payer, 0)),
            self.redeemed.get(payer, 0),
        )

    def owner_balance(self, owner: Address) -> FundState:
        return fund(self.balance)


async def test_session_keys_of_one_owner_share_its_balance() -> None:
    chain, books, clock = Chain(1_000), Books(), ManualClock(1)
    funds = funds_of(chain, books, clock)
    assert await funds.limit(KEYS[0], OWNER) == 1_000
    await pay(funds, books, KEYS[0], 700)
    assert await funds.limit(KEYS[0], OWNER) == 300
    assert await funds.limit(KEYS[1], OWNER) == 300
    await pay(funds, books, KEYS[1], 300)
    assert await funds.limit(KEYS[1], OWNER) == 0
    chain.bound.discard(KEYS[2])
    assert await funds.limit(KEYS[2], OWNER) == 0  # bound later: it stands on the same balance
    chain.redeemed[KEYS[0]] = 700
    chain.balance = 300
    clock.advance(READING_LIFETIME_MS)
    assert await funds.limit(KEYS[1], OWNER) == 0
    assert await funds.limit(KEYS[0], OWNER) == 0


async def test_a_key_that_asked_once_counts_for_the_next_key() -> None:
    """Its voucher came after its limit was asked for, and it never asks again."""
    chain, books = Chain(1_000), Books()
    funds = funds_of(chain, books)
    assert await funds.limit(KEYS[0], OWNER) == 1_000
    await pay(funds, books, KEYS[0], 1_000)
    assert await funds.limit(KEYS[1], OWNER) == 0


async def test_a_restart_forgets_no_key_s_promises() -> None:
    books = Books({KEYS[0]: 600, KEYS[1]: 300, STRANGER: 100})
    funds = funds_of(Chain(1_000), books)
    await funds.recall({KEYS[0]: OWNER, KEYS[1]: OWNER, STRANGER: Address(b"p" * 20)})
    assert await funds.limit(KEYS[2], OWNER) == 100
    assert await funds.limit(KEYS[0], OWNER) == 100


async def test_many_readings_push_out_no_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commonlore.peer.funds.MAX_PAYERS", 2)
    books = Books({KEYS[0]: 600})
    funds = funds_of(Chain(1_000), books)
    await funds.recall({KEYS[0]: OWNER})
    for payer in (*KEYS, STRANGER):
        assert await funds.limit(payer, OWNER) == 400


async def test_a_key_that_is_another_owner_s_on_the_chain_is_good_for_nothing() -> None:
    funds = funds_of(Chain(1_000), Books())
    assert await funds.limit(KEYS[0], Address(b"p" * 20)) == 0


async def test_a_reservation_is_its_key_s_own() -> None:
    chain, books = Chain(100), Books()
    chain.reserved[KEYS[0]] = 500
    funds = funds_of(chain, books)
    await pay(funds, books, KEYS[0], 400)
    assert await funds.limit(KEYS[0], OWNER) == 200
    assert await funds.limit(KEYS[1], OWNER) == 100
    await pay(funds, books, KEYS[0], 550)
    assert await funds.limit(KEYS[0], OWNER) == 50
    assert await funds.limit(KEYS[1], OWNER) == 50


async def test_a_revoked_key_is_good_for_nothing() -> None:
    chain, clock = Chain(1_000), ManualClock(1)
    funds = funds_of(chain, Books(), clock)
    chain.revoked.add(KEYS[0])
    assert await funds.limit(KEYS[0], OWNER) == 0
    chain.revoked.clear()
    clock.advance(EMPTY_LIFETIME_MS)
    assert await funds.limit(KEYS[0], OWNER) == 1_000
