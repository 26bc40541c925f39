"""What is chosen when a network's contracts are deployed, for good. Seconds and token units."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...protocol.ids import Address

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class CheckTerms:
    """How those who check are drawn, paid and judged.

    `odds_ppm`: for how many in a million receipts an account is drawn; `fee_bps`: what an attestation
    earns of the price; `slash_cap_bps`: the most of a bond that a ruling takes.
    """

    round_length: int = 3600
    beacon_stake: int = 0
    odds_ppm: int = 50_000
    fee_bps: int = 5_000
    contest: int = 3600
    ruling: int = 7 * DAY_S
    appeal: int = 3 * DAY_S
    slash_cap_bps: int = 1_000
    appeal_stake: int = 0
    index_window: int = 0
    minimum_bond: int = 1


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of lanes and bonds.

    `thaw` 0 takes twice the longest time from a voucher to its claim, `answer` 0 half the window, `patience`
    0 four epochs with their windows. `pot_per_bond` 0 limits no pot, `minimum_bond` 0 asks for no bond.
    """

    epoch_length: int = 3600
    window: int = 3600
    grace: int = 0
    thaw: int = 0
    answer: int = 0
    patience: int = 0
    residue: int = 30 * DAY_S
    pot_per_bond: int = 0
    minimum_bond: int = 0
    demand_stake: int = 0
    registry_required: bool = False
    checks: CheckTerms = field(default_factory=CheckTerms)

    @property
    def answer_time(self) -> int:
        """How long a demand for data may stay unanswered."""
        return self.answer or max(self.window // 2, 1)

    @property
    def patience_time(self) -> int:
        """How long a lane may owe a commitment before a successor may post it."""
        return self.patience or 4 * (self.epoch_length + self.grace + self.window) + 2 * self.answer_time

    @property
    def thaw_period(self) -> int:
        """The notice of escrowed money, session keys and bonds."""
        longest = self.epoch_length + self.grace + self.window + 2 * self.answer_time
        return self.thaw or max(2 * longest, self.index_window + 1)

    @property
    def index_window(self) -> int:
        """How long a gradient index can be challenged: as long as a commitment, unless said otherwise."""
        return self.checks.index_window or self.window


@dataclass(frozen=True, slots=True)
class Accounts:
    """Who gets the platform's and the work pool's share, and who may pause and judge.

    Without a work pool the WorkPool contract is it; without the others the platform's account.
    """

    platform: Address
    work_pool: Address | None = None
    guardian: Address | None = None
    judge: Address | None = None
    appeal_judge: Address | None = None
