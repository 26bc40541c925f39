"""What can be wrong with a posted epoch so that one transaction proves it, and what such a proof is made of.

Rules of this file:

- Detection is pure: published trees and what the chain says go in, frauds come out, each with the arguments
  that its proof takes after the lane, in their order. Honest trees give none.
- A kind is named after what it proves; `contracts` knows which function of which contract that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ..content.lineage import Ancestor, ContributorGap, Lineage
from ..content.manifests import AdapterManifest, Split
from ..encoding.codec import decode
from ..ids import CHUNK_SIZE, Address
from ..signing.eip712 import Domain
from .commitments import Commitment, EpochTrees
from .openings import CreditSpan, LineOpening, Opening, ReceiptOpening


class FraudKind(StrEnum):
    """One for each proof that a contract takes."""

    UNSORTED_RECEIPTS = "unsorted receipts"
    BAD_RECEIPT = "bad receipt"
    OVERLAP = "money counted for two receipts"
    BAD_LINE = "bad line"
    STRAY_LINE = "line of no receipt"
    DOUBLE_LINE = "two lines of a part"
    BAD_SPLIT = "split other than the registered one"
    WRONG_AUTHOR = "line of another author"
    UNSORTED_ACCOUNTS = "unsorted accounts"
    DECREASE = "cumulative decreased"
    DROPPED = "account dropped"
    WRONG_CUMULATIVE = "cumulative is not previous and credits"
    UNSORTED_CREDITS = "unsorted credits"
    MISSING_CREDIT = "credit in one order only"
    POOL_SUM = "credits are not the pool's total"
    WRONG_ACCOUNT = "credit to another account"
    OUTSIDE_LINEAGE = "contributor outside the lineage"


@dataclass(frozen=True, slots=True)
class RawManifest:
    """An adapter's manifest as it is published: the adapter's id is the hash of these very bytes."""

    data: bytes

    @property
    def author_payee(self) -> Address:
        """The account that it names. Raises RemoteProtocolError where it is no manifest."""
        return decode(AdapterManifest, self.data, CHUNK_SIZE).author_payee


@dataclass(frozen=True, slots=True)
class Served:
    """A receipt with its line: which pool it is in, and of which epoch."""

    line: LineOpening
    receipt: ReceiptOpening


Several = tuple[Opening, ...] | tuple[Ancestor, ...] | tuple[ContributorGap, ...]
Argument = (
    Commitment
    | Opening
    | Ancestor
    | ContributorGap
    | Several
    | CreditSpan
    | Served
    | RawManifest
    | bool
    | int
    | Address
)


@dataclass(frozen=True, slots=True)
class Fraud:
    """A proof, ready to be sent."""

    kind: FraudKind
    lane: Address
    epoch: int
    arguments: tuple[Argument, ...]
    said: str
    """What is wrong, for people."""


@dataclass(frozen=True, slots=True)
class RegisteredAdapter:
    """What the Registry says of a pool's adapter: since when, and its lineage (None: who contributed to it is
    not known here, and not judged)."""

    split: Split
    registered_at: int
    lineage: Lineage | None = None


@dataclass(frozen=True, slots=True)
class LaneFacts:
    """What the chain says of a lane and its network. Times are Unix seconds.

    `workers` are the accounts that may earn the worker's share of the credits that are checked; `redeemed` is
    by payer, `adapters` by pool, `manifests` by adapter (its digest; one that is not here is not judged by).
    """

    domain: Domain
    lane: Address
    platform: Address
    work_pool: Address
    workers: frozenset[Address]
    genesis: int
    epoch_length: int
    redeemed: Mapping[Address, int] = field(default_factory=dict[Address, int])
    adapters: Mapping[bytes, RegisteredAdapter] = field(default_factory=dict[bytes, RegisteredAdapter])
    manifests: Mapping[bytes, RawManifest] = field(default_factory=dict[bytes, RawManifest])
    is_registry_required: bool = False

    def split_of(self, pool: bytes, epoch: int) -> Split | None:
        """How the receipts of an epoch are divided; None where no adapter of that pool was registered
        before."""
        return self.adapters[pool].split if self.is_bound(pool, epoch) else None

    def is_unregistered(self, pool: bytes, epoch: int) -> bool:
        """Whether a pool had to be registered when that epoch ended, and was not."""
        known = self.adapters.get(pool)
        end = self.genesis + (epoch + 1) * self.epoch_length
        return self.is_registry_required and (known is None or known.registered_at >= end)

    def is_bound(self, pool: bytes, epoch: int) -> bool:
        """Whether a pool's adapter was registered when an epoch began: that binds who served it."""
        known = self.adapters.get(pool)
        return known is not None and known.registered_at < self.genesis + epoch * self.epoch_length


@dataclass(frozen=True, slots=True)
class Posted:
    """A posted epoch with the one before it (None: it is the lane's first), and what the chain says."""

    facts: LaneFacts
    previous: EpochTrees | None
    current: EpochTrees

    @property
    def before(self) -> Commitment:
        """The commitment before; all zeros where there is none."""
        return NO_COMMITMENT if self.previous is None else self.previous.commitment

    def fraud(self, kind: FraudKind, said: str, *arguments: Argument) -> Fraud:
        """A fraud of this epoch."""
        return Fraud(kind, self.facts.lane, self.current.commitment.epoch, arguments, said)


NO_COMMITMENT = Commitment(0, bytes(32), bytes(32), 0, 0, 0, 0, bytes(32))
