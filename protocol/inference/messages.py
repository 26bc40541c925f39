"""Messages of the inference stream and who sends each. Their order is the transition table in `inference`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from ..encoding.fields import U32, U64, Hash32, Label, Size, Text
from ..receipts.records import SignedReceipt, SignedVoucher
from ..requests.records import SignedRequest


class RefusalCode(StrEnum):
    """Why a worker declines. All but the marked ones may succeed elsewhere."""

    BUSY = "busy"
    UNKNOWN_BASE = "unknown_base"
    UNKNOWN_ADAPTER = "unknown_adapter"
    BAD_ADAPTER = "bad_adapter"  # final
    PRICE = "price"
    CREDIT = "credit"  # unvouched and in-flight work exceed what this payer may owe, or its escrow is empty
    STALE = "stale"
    INVALID = "invalid"  # final
    TOO_LONG = "too_long"  # final
    FAILED = "failed"
    SHUTDOWN = "shutdown"
    CANCELLED = "cancelled"  # final: what a Cancel ends with when nothing is owed


@dataclass(frozen=True, slots=True)
class Ask:
    """client → worker, first."""

    signed: SignedRequest
    channel: SignedVoucher | None
    """The client's highest voucher of this channel, so that the worker can adopt it after a loss."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """worker → client: admitted.

    `channel` is the highest voucher the worker holds, the client's own signature.
    """

    queue_depth: U32
    adapter_ready: bool
    channel: SignedVoucher | None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural log-probability of a token, in micro-nats below zero: 1,000,000 means e^-1."""

    token: U32
    micro_nats: U64


@dataclass(frozen=True, slots=True)
class TokenChunk:
    """worker → client: output tokens and the text they complete.

    `start` counts from the first output token of this request; tokens that another worker delivered before
    are not counted here, but shift the sampler's position. The chunk that completes a 32-token leaf of the
    request carries the running hash after the last leaf it completes, other chunks none: see `outputs`.
    """

    start: U32
    tokens: Annotated[tuple[U32, ...], Size(0, 1024)]
    text: Text
    running_hash: Hash32 | None = None
    logprobs: Annotated[tuple[TokenLogprob, ...], Size(0, 1024)] = ()


@dataclass(frozen=True, slots=True)
class ReceiptMessage:
    """worker → client: after a step; `final` when the answer is complete.

    Nothing more is sent until its voucher came.
    """

    receipt: SignedReceipt
    final: bool


@dataclass(frozen=True, slots=True)
class VoucherMessage:
    """client → worker: pays the receipt just received."""

    voucher: SignedVoucher


@dataclass(frozen=True, slots=True)
class Refusal:
    """worker → client, ends the stream: `code` is a RefusalCode; unknown codes are treated as `failed`.

    `epoch` is the worker's present one, where that of the request is why.
    """

    code: Label
    message: Label
    retryable: bool
    epoch: U64 | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """client → worker: stop generating. The worker answers with a final receipt for what it delivered since
    the last one, or with the refusal `cancelled` where that is nothing.
    """


Message = Ask | Accepted | TokenChunk | ReceiptMessage | VoucherMessage | Refusal | Cancel
