"""A network's money, read from the chain and laid beside what its receipts say: does every unit add up?

Rules of this file: amounts come from the contracts' state, names and credits from the receipts; whatever is
compared is compared exactly. All amounts are token units.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...protocol.ids import Address

if TYPE_CHECKING:
    from ...contracts.client.chain import ChainClient


@dataclass(frozen=True, slots=True)
class PaidAnswer:
    """What one answer cost and who earns what from it, as its receipts and statements say."""

    price: int
    credits: Mapping[Address, int]


@dataclass(frozen=True, slots=True)
class Line:
    """One account: its credits an answer, what the chain paid it from the pots, and what it holds now."""

    account: Address
    credits: tuple[int, ...]
    claimed: int
    balance: int

    @property
    def earned(self) -> int:
        """All its credits."""
        return sum(self.credits)


@dataclass(frozen=True, slots=True)
class Books:
    """The whole network.

    `escrow`, `settlement` and `bonds` are what those contracts hold; `deposits` and `unclaimed` what the
    first two owe.
    """

    answers: tuple[PaidAnswer, ...]
    lines: tuple[Line, ...]
    minted: int
    escrow: int
    deposits: int
    settlement: int
    pots: int
    claimed: int
    bonds: int = 0

    @property
    def prices(self) -> int:
        """What all answers cost."""
        return sum(answer.price for answer in self.answers)

    @property
    def unclaimed(self) -> int:
        """What the pots still hold."""
        return self.pots - self.claimed

    def differences(self) -> tuple[str, ...]:
        """Every rule that does not hold to the last unit, in words; empty when all do."""
        held = sum(line.balance for line in self.lines)
        rules = [
            ("minted = escrow + pots + bonds + balances", self.minted, self._in_contracts + held),
            ("escrow holds its deposits", self.escrow, self.deposits),
            ("settlement holds what is unclaimed", self.settlement, self.unclaimed),
            ("pots = prices", self.pots, self.prices),
            ("claims = credits", self.claimed, sum(line.earned for line in self.lines)),
        ]
        rules += [
            (f"credits of answer {number} = its price", sum(answer.credits.values()), answer.price)
            for number, answer in enumerate(self.answers, 1)
        ]
        rules += [
            (f"0x{line.account.hex()}: claimed = earned", line.claimed, line.earned) for line in self.lines
        ]
        return tuple(f"{rule}: {left} is not {right}" for rule, left, right in rules if left != right)

    @property
    def _in_contracts(self) -> int:
        return self.escrow + self.settlement + self.bonds

    @property
    def conserved(self) -> bool:
        """Whether every rule holds."""
        return not self.differences()


def read_books(
    client: ChainClient,
    answers: Sequence[PaidAnswer],
    lanes: Collection[Address],
    accounts: Collection[Address],
) -> Books:
    """The books of a network whose token is held by `accounts`, the contracts and nobody else.

    Blocks. Raises ChainError, Unreachable.
    """
    deployment = client.deployment
    earners = {account for answer in answers for account in answer.credits}
    everybody = sorted(earners | set(accounts))
    states = [client.lane_state(lane) for lane in lanes]
    minted = client.endpoint.read("totalSupply", client.function("CommonloreToken", "totalSupply"))
    return Books(
        answers=tuple(answers),
        lines=tuple(_line(client, account, answers, lanes) for account in everybody),
        minted=int(minted),
        escrow=client.balance(deployment.escrow),
        deposits=sum(client.owner_balance(account).amount for account in everybody),
        settlement=client.balance(deployment.settlement),
        pots=sum(state.pot for state in states),
        claimed=sum(state.claimed for state in states),
        bonds=client.balance(deployment.bonds),
    )


def _line(
    client: ChainClient, account: Address, answers: Sequence[PaidAnswer], lanes: Collection[Address]
) -> Line:
    return Line(
        account=account,
        credits=tuple(answer.credits.get(account, 0) for answer in answers),
        claimed=sum(client.claimed(lane, account) for lane in lanes),
        balance=client.balance(account),
    )
