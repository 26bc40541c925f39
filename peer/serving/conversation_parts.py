"""What the conversations of a worker need of their node, and what they tell its attribution."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from ...protocol.inference.messages import Ask
from ...protocol.receipts.records import SignedReceipt
from ...protocol.requests.records import SignedRequest
from ...protocol.signing.eip712 import Domain
from ...protocol.signing.keys import AccountKey
from ...worker.engine.process.engine_process import EngineProcess
from ..clock import Clock
from ..keyed_lock import KeyedLock
from ..store.ledger import Ledger
from .request_log import RequestLog


@dataclass(frozen=True, slots=True)
class PaidStep:
    """A step whose voucher came: what attribution needs to know of it.

    `before` are the output tokens ahead of it.
    """

    request: SignedRequest
    signed: SignedReceipt
    receipt_hash: bytes
    before: tuple[int, ...]
    tokens: tuple[int, ...]


class Attribution(Protocol):
    """Who states, after an answer, whose data shaped it: `attributing.Attributing`."""

    def expect(self, ask: Ask, receipt_hash: bytes) -> None:
        """A receipt goes out: who asks for the statement on it from now on, waits."""
        ...

    def take(self, step: PaidStep) -> None:
        """The receipt was paid: make the statement."""
        ...

    def give_up(self, receipt_hash: bytes) -> None:
        """The receipt was not paid: there will be no statement."""
        ...


@dataclass(frozen=True, slots=True)
class ServingParts:
    """What a conversation needs of its node."""

    domain: Domain
    lane_key: AccountKey
    ledger: Ledger
    clock: Clock
    engine: EngineProcess
    channels: KeyedLock[bytes]
    step_tokens: int
    attribution: Attribution
    request_log: RequestLog = field(default_factory=RequestLog)
