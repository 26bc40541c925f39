"""In which order the contracts of a network are deployed, and what each is told.

Contracts refer to each other immutably and in circles, so some are told another's address before it exists:
the address a contract gets follows from its deployer's account and nonce. Pure; whoever deploys checks that
the addresses came true."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...protocol.content.splits import SPLIT_BOUNDS
from ...protocol.ids import Address, checksummed, keccak256
from ..calling.tuples import split_tuple
from .terms import Accounts, Terms

ORDER = (
    "Escrow",
    "Registry",
    "Bonds",
    "ReceiptProofs",
    "LineProofs",
    "EarningsProofs",
    "CreditProofs",
    "Demands",
    "Settlement",
    "Indexes",
    "Beacon",
    "Arbiter",
    "WorkPool",
)
CHALLENGERS = ("ReceiptProofs", "LineProofs", "EarningsProofs", "CreditProofs", "Demands")
SLASHERS = ("Settlement", "Indexes", "Arbiter")


@dataclass(frozen=True, slots=True)
class Plan:
    """Where each contract will be and with which arguments it is made, over a token that exists."""

    token: Address
    at: dict[str, Address]
    accounts: Accounts
    terms: Terms
    genesis: int

    @property
    def work_pool(self) -> Address:
        """Whose account gets the work pool's share."""
        return self.accounts.work_pool or self.at["WorkPool"]

    def arguments(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Each contract's name with its constructor's arguments, in the order of deployment."""
        of = {name: checksummed(address) for name, address in self.at.items()}
        terms, checks, token = self.terms, self.terms.checks, checksummed(self.token)
        fallback = self.accounts.platform
        guardian, judge, appeal_judge = (
            checksummed(account or fallback)
            for account in (self.accounts.guardian, self.accounts.judge, self.accounts.appeal_judge)
        )
        given: dict[str, tuple[Any, ...]] = {
            "Escrow": (token, of["Settlement"], terms.thaw_period),
            "Registry": (
                of["Escrow"],
                split_tuple(SPLIT_BOUNDS.lowest),
                split_tuple(SPLIT_BOUNDS.highest),
            ),
            "Bonds": (token, terms.thaw_period, [of[name] for name in SLASHERS]),
            "ReceiptProofs": (of["Settlement"],),
            "LineProofs": (of["Settlement"], terms.registry_required),
            "EarningsProofs": (of["Settlement"],),
            "CreditProofs": (of["Settlement"],),
            "Demands": (of["Settlement"], token, terms.demand_stake),
            "Settlement": (self._parts(of, guardian), self._lane_terms(), [of[name] for name in CHALLENGERS]),
            "Indexes": (of["Bonds"], terms.index_window, checks.minimum_bond),
            "Beacon": (token, self.genesis, checks.round_length, checks.beacon_stake),
            "Arbiter": (of["Escrow"], of["Bonds"], of["Beacon"], judge, appeal_judge, self._judging()),
            "WorkPool": (of["Settlement"], of["Arbiter"], checks.fee_bps, checks.contest),
        }
        for name in ORDER:
            yield name, given[name]

    def _parts(self, of: dict[str, str], guardian: str) -> tuple[str, ...]:
        parts = tuple(of[name] for name in ("Escrow", "Registry", "Bonds"))
        return (*parts, guardian, checksummed(self.accounts.platform), checksummed(self.work_pool))

    def _lane_terms(self) -> tuple[int, ...]:
        terms = self.terms
        return (
            self.genesis,
            terms.epoch_length,
            terms.grace,
            terms.window,
            terms.answer_time,
            terms.patience_time,
            terms.residue,
            terms.pot_per_bond,
            terms.minimum_bond,
        )

    def _judging(self) -> tuple[int, ...]:
        checks = self.terms.checks
        return (
            checks.ruling,
            checks.appeal,
            checks.slash_cap_bps,
            checks.odds_ppm,
            checks.appeal_stake,
            checks.minimum_bond,
        )


def make_plan(
    token: Address, deployer: Address, nonce: int, accounts: Accounts, terms: Terms, genesis: int
) -> Plan:
    """The plan of a deployer whose next transaction has this nonce and who sends nothing else meanwhile."""
    at = {name: contract_address(deployer, nonce + place) for place, name in enumerate(ORDER)}
    return Plan(token, at, accounts, terms, genesis)


def contract_address(deployer: Address, nonce: int) -> Address:
    """Where a contract created by `deployer`'s transaction `nonce` comes to stand: keccak256(rlp(deployer,
    nonce))."""
    number = nonce.to_bytes((nonce.bit_length() + 7) // 8, "big")
    item = number if len(number) == 1 and number[0] < 0x80 else bytes((0x80 + len(number),)) + number
    body = bytes((0x94,)) + deployer + item
    return Address(keccak256(bytes((0xC0 + len(body),)) + body)[12:])
