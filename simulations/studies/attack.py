"""The kind `attack`: what cheating earns, against the bond that is lost when it is found.

One cheating worker is one identity: each receipt brings `gain` more than honest work would. A receipt is
audited with `audit_probability`, by an auditor who colludes with probability `collusion`; an honest audit of
a false receipt is evidence with probability `detection`. `receipts_needed` pieces of evidence slash the bond,
after a verdict during which `outstanding` more receipts are served. The closed form is the design's: cheating
does not pay where bond > gain · receipts_needed / (audit_probability · (1 - collusion)), here with detection
and outstanding receipts beside. Amounts are in prices of a receipt.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..experiment.figures import Figures, Panel
from ..experiment.kinds import Kind, Outcome, Scalar
from ..experiment.measures import Floats
from ..experiment.tables import above, between, within
from ..workload.arrivals import Stream, generator

MOST_AUDITS = 1_000_000


@dataclass(frozen=True, slots=True)
class Attack:
    """`campaign` ends an identity that was not caught after so many receipts (0: it goes on for ever)."""

    bond: float = between(0, 1_000_000_000_000, 100.0)
    gain: float = above(0, 1_000_000, 0.6)
    audit_probability: float = between(1e-6, 1, 0.02)
    collusion: float = between(0, 0.999, 0.1)
    detection: float = between(1e-6, 1, 0.95)
    receipts_needed: int = between(1, 100_000, 1)
    outstanding: float = between(0, 1_000_000_000, 0.0)
    campaign: int = between(0, 1_000_000_000, 0)
    identities: int = between(1, 5_000_000, 20_000)


@dataclass(frozen=True, slots=True)
class AttackScenario:
    """Everything a run follows from, but the seed."""

    name: str
    about: str
    attack: Attack = field(default_factory=Attack)


def check_attack(scenario: AttackScenario) -> None:
    """Raises WrongKey."""
    attack = scenario.attack
    audits = attack.receipts_needed / ((1 - attack.collusion) * attack.detection)
    within("attack.receipts_needed", audits, MOST_AUDITS, "audits of an identity")


def bond_needed(attack: Attack) -> float:
    """The bond above which cheating for ever does not pay."""
    found = attack.audit_probability * (1 - attack.collusion) * attack.detection
    return attack.gain * (attack.receipts_needed / found + attack.outstanding)


def run_attack(scenario: AttackScenario, seed: int) -> Outcome:
    """One arm with one seed."""
    attack = scenario.attack
    profits, served, caught = _play(attack, generator(seed, Stream.CHURN))
    needed = bond_needed(attack)
    summary: dict[str, Scalar] = {
        "profit": round(float(profits.mean()), 6),
        "profit_expected": round(needed - attack.bond, 6) if not attack.campaign else 0.0,
        "bond_needed": round(needed, 6),
        "pays": int(profits.mean() > 0),
        "identities_that_gain": round(float((profits > 0).mean()), 6),
        "receipts_until_caught": round(float(served.mean()), 3),
        "escaped": round(1 - float(caught.mean()), 6),
    }
    return Outcome(summary, {}, attack.identities)


def _play(attack: Attack, draw: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Profit, receipts served and whether it was caught, of each identity.

    How many audits by whom it takes is drawn as it happens: receipts between audits are geometric, and which
    audits are evidence is binomial, one after the other.
    """
    served = np.zeros(attack.identities)
    evidence = np.zeros(attack.identities, np.int64)
    live = np.arange(attack.identities)
    while len(live):
        served[live] += draw.geometric(attack.audit_probability, len(live))
        honest = draw.random(len(live)) >= attack.collusion
        evidence[live] += honest & (draw.random(len(live)) < attack.detection)
        over = served[live] >= attack.campaign if attack.campaign else np.zeros(len(live), bool)
        live = live[(evidence[live] < attack.receipts_needed) & ~over]
    within = served <= attack.campaign if attack.campaign else np.ones(attack.identities, bool)
    caught = (evidence >= attack.receipts_needed) & within
    if attack.campaign:
        served = np.minimum(served, attack.campaign)
    served += np.where(caught, attack.outstanding, 0.0)
    return attack.gain * served - attack.bond * caught, served, caught.astype(np.float64)


KIND = Kind(
    name="attack",
    config=AttackScenario,
    run=run_attack,
    check=check_attack,
    columns=("profit", "profit_expected", "bond_needed", "pays", "receipts_until_caught", "escaped"),
    figures=Figures(
        x="attack.bond",
        log_x=True,
        panels=(
            Panel(
                "profit of an identity, in receipts",
                ("profit", "profit_expected"),
                log=True,
                names=("simulated", "closed form"),
            ),
            Panel("identities that gain", ("identities_that_gain",), "share"),
            Panel("receipts until caught", ("receipts_until_caught",), log=True),
        ),
    ),
)
