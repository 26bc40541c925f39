"""What a worker lends: by owner, not by session key."""

from commonlore.contracts.records import ChannelState, FundState
from commonlore.peer.clock import ManualClock
from commonlore.peer.funds import EMPTY_LIFETIME_MS, READING_LIFETIME_MS, Funds
from commonlore.protocol.ids import Address

OWNER, LANE = Address(b"o" * 20), Address(b"l" * 20)
KEYS = [Address(bytes([n]) * 20) for n in range(1, 4)]


def fund(amount: int) -> FundState:
    return FundState(amount, 0, 0)


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
    chain, clock = Chain(1_000), ManualClock(1)
    funds = Funds(chain, LANE, 10_000, clock)  # type: ignore[arg-type]
    assert await funds.limit(KEYS[0], OWNER, 0) == 1_000
    assert await funds.limit(KEYS[0], OWNER, 700) == 300
    assert await funds.limit(KEYS[1], OWNER, 0) == 300
    assert await funds.limit(KEYS[1], OWNER, 300) == 0
    chain.bound.discard(KEYS[2])
    assert await funds.limit(KEYS[2], OWNER, 0) == 0  # bound later: it stands on the same balance
    chain.redeemed[KEYS[0]] = 700
    chain.balance = 300
    clock.advance(READING_LIFETIME_MS)
    assert await funds.limit(KEYS[1], OWNER, 300) == 0
    assert await funds.limit(KEYS[0], OWNER, 700) == 0


async def test_a_reservation_is_its_key_s_own() -> None:
    chain = Chain(100)
    chain.reserved[KEYS[0]] = 500
    funds = Funds(chain, LANE, 10_000, ManualClock(1))  # type: ignore[arg-type]
    assert await funds.limit(KEYS[0], OWNER, 400) == 200
    assert await funds.limit(KEYS[1], OWNER, 0) == 100
    assert await funds.limit(KEYS[0], OWNER, 550) == 50
    assert await funds.limit(KEYS[1], OWNER, 0) == 50


async def test_a_revoked_key_is_good_for_nothing() -> None:
    chain, clock = Chain(1_000), ManualClock(1)
    funds = Funds(chain, LANE, 10_000, clock)  # type: ignore[arg-type]
    chain.revoked.add(KEYS[0])
    assert await funds.limit(KEYS[0], OWNER, 0) == 0
    chain.revoked.clear()
    clock.advance(EMPTY_LIFETIME_MS)
    assert await funds.limit(KEYS[0], OWNER, 0) == 1_000
