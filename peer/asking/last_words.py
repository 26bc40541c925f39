"""What ends an ask without an answer, as the typed error that its caller gets."""

from __future__ import annotations

from ...protocol.errors import (
    CommonloreError,
    DeadlineExceeded,
    InsufficientEscrow,
    NotFound,
    Refused,
    Unreachable,
)
from ...protocol.inference.messages import RefusalCode
from ...scheduler import events
from .answers import AskOptions


def escrow_or(refusal: CommonloreError | None) -> CommonloreError | None:
    """A worker's last word; that the escrow covers too little has its own error."""
    if isinstance(refusal, Refused) and refusal.code == RefusalCode.CREDIT and not refusal.retryable:
        return InsufficientEscrow(str(refusal))
    return refusal


def error_of(order: events.GiveUp, options: AskOptions) -> CommonloreError:
    """The typed error for a scheduler's last word."""
    kinds: dict[str, type[CommonloreError]] = {
        DeadlineExceeded.code: DeadlineExceeded,
        NotFound.code: NotFound,
        Unreachable.code: Unreachable,
        InsufficientEscrow.code: InsufficientEscrow,
    }
    kind = kinds.get(order.code)
    whose = ", ".join(name for name, _ in options.adapters)
    message = f"adapter {whose}: {order.message}" if whose else order.message
    return kind(message) if kind else Refused(order.code, message, retryable=False)
