"""What the demo tells while it runs: everything that a person or a program is shown, in the order it
happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...protocol.ids import Address, Cid
from ..settling.books import Books


@dataclass(frozen=True, slots=True)
class Began:
    """A chapter begins."""

    title: str


@dataclass(frozen=True, slots=True)
class Told:
    """Something worth knowing; `name` says of what."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Advanced:
    """How far a long step is; `done` equal to `total` ends it. `detail` is the newest figure."""

    stage: str
    done: int
    total: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question goes out, to an adapter or to the bare base."""

    question: str
    adapter: str | None


@dataclass(frozen=True, slots=True)
class Said:
    """The next piece of the answer under way."""

    text: str


@dataclass(frozen=True, slots=True)
class CreditLine:
    """What one account earns from an answer."""

    name: str
    role: str
    account: Address
    amount: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """An adapter that a worker pulled from other peers."""

    adapter: Cid
    worker: str
    bytes: int
    milliseconds: int


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer that is whole and paid. `method` names how the contributors' weights were found."""

    adapter: str | None
    question: str
    text: str
    expected: str
    right: bool
    worker: str
    receipt_ids: tuple[str, ...]
    verified: bool
    price: int
    shares: Mapping[str, int]
    credits: tuple[CreditLine, ...]
    method: str
    fetch: Fetch | None


@dataclass(frozen=True, slots=True)
class Trained:
    """An adapter that was trained and announced. Losses are nats a token of held-out answer."""

    alias: str
    adapter: Cid
    loss_before: float
    loss_after: float
    weights_bytes: int


@dataclass(frozen=True, slots=True)
class Paid:
    """A claim that the chain paid."""

    name: str
    account: Address
    amount: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The end: all that was done, and whether every unit is accounted for."""

    answers: tuple[Answered, ...]
    trained: tuple[Trained, ...]
    epoch_transactions: tuple[str, ...]
    claims: tuple[Paid, ...]
    names: Mapping[Address, str]
    books: Books
    seconds: float


Event = Began | Told | Advanced | Asked | Said | Answered | Trained | Paid | Finished
