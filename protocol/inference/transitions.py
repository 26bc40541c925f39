"""The order of messages between a client and a worker: which may follow which, as a table.

The table does not know which side we are, so both are held to the same rules (as in h11). What each message
must say is checked in `inference`, what it is worth in `requests.rules` and `receipts.rules`.

Rules of this file:

- Client asks; worker accepts or refuses; then chunks, in steps. A step ends with a receipt for exactly its
  tokens, and the worker is silent until the voucher for it came. The voucher of the final receipt ends the
  conversation.
- A refusal ends it whenever it is the worker's turn; tokens delivered since the last receipt are then not
  paid. A worker that must stop but wants to be paid sends a receipt, waits for its voucher, and refuses then.
- A cancel may be on its way while the worker still sends. What was sent before the worker knew is valid when
  it arrives: these are the CROSSING moves, which can be received but never sent. The first receipt after a
  cancel is the last.

The picture (c: the client sends, w: the worker; crossing moves left out):

    START -c ask-> ASKED -w accepted-> STREAMING -w chunk-> STREAMING STREAMING -w receipt-> RECEIPTED -c
    voucher-> STREAMING STREAMING -w final receipt-> SETTLING -c voucher-> DONE ASKED, STREAMING -c cancel->
    CANCELLING -w final receipt-> SETTLING RECEIPTED -c cancel-> SETTLING ASKED, STREAMING, CANCELLING -w
    refusal-> REFUSED
"""

from __future__ import annotations

from enum import Enum
from typing import assert_never

from ..errors import RemoteProtocolError
from .messages import (
    Accepted,
    Ask,
    Cancel,
    Message,
    ReceiptMessage,
    Refusal,
    TokenChunk,
    VoucherMessage,
)


class Role(Enum):
    """Who sends."""

    CLIENT = "client"
    WORKER = "worker"


class State(Enum):
    """Where a conversation is."""

    START = "start"
    ASKED = "asked"
    STREAMING = "streaming"
    RECEIPTED = "receipted"  # a step's receipt is there, its voucher is not
    SETTLING = "settling"  # the same for the last receipt
    CANCELLING = "cancelling"
    DONE = "done"
    REFUSED = "refused"
    BROKEN = "broken"


class Event(Enum):
    """What a message does to the order: its type, and whether a receipt is the final one."""

    ASK = "ask"
    ACCEPTED = "accepted"
    CHUNK = "token chunk"
    STEP_RECEIPT = "receipt"
    FINAL_RECEIPT = "final receipt"
    VOUCHER = "voucher"
    REFUSAL = "refusal"
    CANCEL = "cancel"


Move = tuple[State, Role, Event]

TRANSITIONS: dict[Move, State] = {
    (State.START, Role.CLIENT, Event.ASK): State.ASKED,
    (State.ASKED, Role.WORKER, Event.ACCEPTED): State.STREAMING,
    (State.ASKED, Role.WORKER, Event.REFUSAL): State.REFUSED,
    (State.ASKED, Role.CLIENT, Event.CANCEL): State.CANCELLING,
    (State.STREAMING, Role.WORKER, Event.CHUNK): State.STREAMING,
    (State.STREAMING, Role.WORKER, Event.STEP_RECEIPT): State.RECEIPTED,
    (State.STREAMING, Role.WORKER, Event.FINAL_RECEIPT): State.SETTLING,
    (State.STREAMING, Role.WORKER, Event.REFUSAL): State.REFUSED,
    (State.STREAMING, Role.CLIENT, Event.CANCEL): State.CANCELLING,
    (State.RECEIPTED, Role.CLIENT, Event.VOUCHER): State.STREAMING,
    (State.RECEIPTED, Role.CLIENT, Event.CANCEL): State.SETTLING,
    (State.SETTLING, Role.CLIENT, Event.VOUCHER): State.DONE,
    (State.CANCELLING, Role.WORKER, Event.FINAL_RECEIPT): State.SETTLING,
    (State.CANCELLING, Role.WORKER, Event.REFUSAL): State.REFUSED,
}

CROSSING: dict[Move, State] = {
    (State.CANCELLING, Role.WORKER, Event.ACCEPTED): State.CANCELLING,
    (State.CANCELLING, Role.WORKER, Event.CHUNK): State.CANCELLING,
    (State.CANCELLING, Role.WORKER, Event.STEP_RECEIPT): State.SETTLING,
    (State.SETTLING, Role.CLIENT, Event.CANCEL): State.SETTLING,
    (State.REFUSED, Role.CLIENT, Event.CANCEL): State.REFUSED,
}

ENDS = frozenset((State.DONE, State.REFUSED, State.BROKEN))

FROM_CLIENT: tuple[type[Ask | VoucherMessage | Cancel], ...] = (Ask, VoucherMessage, Cancel)
FROM_WORKER: tuple[type[Accepted | TokenChunk | ReceiptMessage | Refusal], ...] = (
    Accepted,
    TokenChunk,
    ReceiptMessage,
    Refusal,
)


def event_of(message: Message) -> Event:
    """The event that a message is."""
    match message:
        case Ask():
            return Event.ASK
        case Accepted():
            return Event.ACCEPTED
        case TokenChunk():
            return Event.CHUNK
        case ReceiptMessage():
            return Event.FINAL_RECEIPT if message.final else Event.STEP_RECEIPT
        case VoucherMessage():
            return Event.VOUCHER
        case Refusal():
            return Event.REFUSAL
        case Cancel():
            return Event.CANCEL
        case _:
            assert_never(message)


def next_state(state: State, sender: Role, event: Event) -> State:
    """The state after an event. Raises RemoteProtocolError where it has no place, whoever sent it."""
    move = (state, sender, event)
    following = TRANSITIONS.get(move) or CROSSING.get(move)
    if following is None:
        raise RemoteProtocolError(
            f"no {event.value} may come from the {sender.value} while the request is {state.value}"
        )
    return following
