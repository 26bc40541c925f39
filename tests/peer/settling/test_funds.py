"""What a worker lends: by owner, not by session key."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from commonlore.contracts.calling.records import ChannelState, FundState
from commonlore.peer.clock import ManualClock
from commonlore.peer.settling.escrow_readings import EMPTY_LIFETIME_MS, EscrowReadings
from commonlore.peer.settling.funds import Funds
from commonlore.peer.store.ledger_rows import Channel, Role
from commonlore.protocol.errors import Unreachable
from commonlore.protocol.ids import Address

OWNER, LANE = Address(b"o" * 20), Address(b"l" * 20)
LIFETIME_MS = 30_000
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


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """These chains answer at once, or when they are told to; a busy machine may take longer."""
    monkeypatch.setattr("commonlore.peer.settling.escrow_readings.PATIENCE_S", 60)


@asynccontextmanager
async def funds_of(chain: Any, books: Any, clock: ManualClock | None = None) -> AsyncIterator[Funds]:
    """Running, over this chain and these books."""
    readings = EscrowReadings(chain, LANE, clock or ManualClock(1), LIFETIME_MS)
    funds = Funds(readings, LANE, 10_000, books)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(funds.run)
        yield funds
        nursery.cancel_scope.cancel()


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
    async with funds_of(chain, books, clock) as funds:
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
        clock.advance(LIFETIME_MS)
        assert await funds.limit(KEYS[1], OWNER) == 0
        assert await funds.limit(KEYS[0], OWNER) == 0


async def test_a_key_that_asked_once_counts_for_the_next_key() -> None:
    """Its voucher came after its limit was asked for, and it never asks again."""
    chain, books = Chain(1_000), Books()
    async with funds_of(chain, books) as funds:
        assert await funds.limit(KEYS[0], OWNER) == 1_000
        await pay(funds, books, KEYS[0], 1_000)
        assert await funds.limit(KEYS[1], OWNER) == 0


async def test_a_restart_forgets_no_key_s_promises() -> None:
    books = Books({KEYS[0]: 600, KEYS[1]: 300, STRANGER: 100})
    async with funds_of(Chain(1_000), books) as funds:
        await funds.recall({KEYS[0]: OWNER, KEYS[1]: OWNER, STRANGER: Address(b"p" * 20)})
        assert await funds.limit(KEYS[2], OWNER) == 100
        assert await funds.limit(KEYS[0], OWNER) == 100


async def test_many_readings_push_out_no_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commonlore.peer.settling.escrow_readings.MAX_PAYERS", 2)
    books = Books({KEYS[0]: 600})
    async with funds_of(Chain(1_000), books) as funds:
        await funds.recall({KEYS[0]: OWNER})
        for payer in (*KEYS, STRANGER):
            assert await funds.limit(payer, OWNER) == 400


async def test_a_key_that_is_another_owner_s_on_the_chain_is_good_for_nothing() -> None:
    async with funds_of(Chain(1_000), Books()) as funds:
        assert await funds.limit(KEYS[0], Address(b"p" * 20)) == 0


async def test_a_reservation_is_its_key_s_own() -> None:
    chain, books = Chain(100), Books()
    chain.reserved[KEYS[0]] = 500
    async with funds_of(chain, books) as funds:
        await pay(funds, books, KEYS[0], 400)
        assert await funds.limit(KEYS[0], OWNER) == 200
        assert await funds.limit(KEYS[1], OWNER) == 100
        await pay(funds, books, KEYS[0], 550)
        assert await funds.limit(KEYS[0], OWNER) == 50
        assert await funds.limit(KEYS[1], OWNER) == 50


async def test_a_revoked_key_is_good_for_nothing() -> None:
    chain, clock = Chain(1_000), ManualClock(1)
    async with funds_of(chain, Books(), clock) as funds:
        chain.revoked.add(KEYS[0])
        assert await funds.limit(KEYS[0], OWNER) == 0
        chain.revoked.clear()
        clock.advance(EMPTY_LIFETIME_MS)
        assert await funds.limit(KEYS[0], OWNER) == 1_000


class Hanging(Chain):
    """It answers when `answers` is set; `up` says whether it then does, or cannot be reached."""

    def __init__(self, balance: int) -> None:
        super().__init__(balance)
        self.answers, self.up, self.asked = threading.Event(), True, 0
        self.answers.set()

    def escrow_of(self, payer: Address, lane: Address) -> ChannelState:
        self.asked += 1
        self.answers.wait(30)
        if not self.up:
            raise Unreachable("the chain is down")
        return super().escrow_of(payer, lane)


async def test_nobody_waits_for_a_chain_that_hangs_and_all_is_read_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("commonlore.peer.settling.escrow_readings.PATIENCE_S", 0.01)
    chain, books, clock = Hanging(1_000), Books(), ManualClock(1)
    async with funds_of(chain, books, clock) as funds:
        with trio.fail_after(60):
            while await funds.limit(KEYS[0], OWNER) != 1_000:  # 10 ms may be too short for it
                await trio.lowlevel.checkpoint()
            await pay(funds, books, KEYS[0], 600)
            clock.advance(LIFETIME_MS)
            chain.answers.clear()
            asked = chain.asked
            for _ in range(3):
                assert await funds.limit(KEYS[0], OWNER) == 400  # by what was last seen
                assert await funds.limit(STRANGER, OWNER) == 10_000  # never seen: the configured credit
            assert chain.asked == asked + 1  # one question at a time
            chain.balance = 900
            chain.answers.set()
            while await funds.limit(KEYS[0], OWNER) != 300:
                await trio.lowlevel.checkpoint()


async def test_a_chain_that_is_away_is_waited_for_once_and_asked_until_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("commonlore.peer.settling.escrow_readings.RETRY_S", 0.001)
    chain, clock = Hanging(1_000), ManualClock(1)
    async with funds_of(chain, Books(), clock) as funds:
        with trio.fail_after(60):
            assert await funds.limit(KEYS[0], OWNER) == 1_000
            clock.advance(LIFETIME_MS)
            chain.up, chain.balance = False, 700
            for _ in range(3):
                assert await funds.limit(KEYS[0], OWNER) == 1_000
            chain.up = True
            while await funds.limit(KEYS[0], OWNER) != 700:
                await trio.lowlevel.checkpoint()
