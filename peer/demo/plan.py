"""What the demo shows: which peers, which Datanets in whose hands, which questions, and how much time it
takes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ...contracts.deploying.deployment import Terms
from ..datanets.corpora import Corpus, HeldOut, corpus
from ..local.local_network import POT_PER_BOND, WORKER_BOND, NetworkPlan, PeerPlan

BOOTSTRAP, TRAINER, CLIENT = "bootstrap", "trainer", "client"
WORKERS = ("worker-a", "worker-b")
DEPOSIT = 1_000_000
"""Token units that the client puts into escrow."""
TERMS = Terms(epoch_length=600, window=300, minimum_bond=WORKER_BOND, pot_per_bond=POT_PER_BOND)
"""Short epochs: the one after the receipts, which carries their earnings, is posted too."""
MEASURED = 24
"""Held-out pairs that losses are measured on."""
MAX_TOKENS = 48
NEVER_S = 86_400
"""Settlement goes by itself, but the demo orders each round, to show it."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What a person may choose.

    By `budget_s` after the start both adapters shall be trained: fewer steps on a slow machine.
    """

    root: Path
    base: str = "starter"
    cache_dir: str = ""
    steps: int = 40
    index_rows: int = 120
    budget_s: float = 380.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A Datanet with the adapter trained on it, and the question asked of that."""

    corpus: Corpus
    alias: str
    question: HeldOut


@dataclass(frozen=True, slots=True)
class PlainQuestion:
    """A question for the bare base."""

    question: str
    expected: str

    def is_right(self, answer: str) -> bool:
        """Whether an answer contains what is expected."""
        return self.expected.lower() in answer.lower()


SUBJECTS = (("icd10", "demo/icd10"), ("cwe", "demo/cwe"))
"""Corpora, and what the adapters trained on them are called."""
PLAIN = PlainQuestion("What is the capital of France?", "Paris")


def subjects() -> tuple[Subject, ...]:
    """The two Datanets. Raises MissingDependency without their packages."""
    chosen = ((corpus(name), alias) for name, alias in SUBJECTS)
    return tuple(Subject(source, alias, source.heldout[0]) for source, alias in chosen)


def plan_demo(options: DemoOptions) -> NetworkPlan:
    """Five peers: where to start, two workers, a contributor that trains, a client. The client takes workers
    in turn, so that each of them answers.
    """
    shared = {
        "base": options.base,
        "cache_dir": options.cache_dir,
        "settle_interval_s": NEVER_S,
        "threads": max(1, (os.cpu_count() or 1) // len(WORKERS)),
    }
    return NetworkPlan(
        options.root,
        (
            PeerPlan(BOOTSTRAP, {"roles": ("bootstrap",)}),
            *(PeerPlan(name, {"roles": ("worker", "settler")}, bond=WORKER_BOND) for name in WORKERS),
            PeerPlan(TRAINER, {"roles": ("contributor",), "threads": os.cpu_count() or 1}),
            PeerPlan(CLIENT, {"policy": "round_robin"}, deposit=DEPOSIT),
        ),
        shared,
        TERMS,
    )
