"""What a client asks for, as signed with its session key, and what accompanies the signature.

The EIP-712 digest of `InferenceRequest` is the *request hash*. The request is a commitment, not money: the
voucher pays.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from ..content.compositions import MAX_ADAPTERS, AdapterWeight
from ..encoding.fields import (
    PPM,
    U8,
    U16,
    U32,
    U64,
    U128,
    Bytes16,
    Hash32,
    Label,
    Signature65,
    Size,
    Text,
)
from ..ids import Address, Cid
from ..signing.bindings import SignedBinding

MAX_OUTPUT_TOKENS = 8_192
MAX_ROWS_SHOWN = 64
MAX_PARTS = 2 * MAX_ROWS_SHOWN + 1
"""Rows, tool calls and one template."""


class Disclosure(IntEnum):
    """Who may be given an opening of prompt and rows of a drawn receipt."""

    NONE = 0
    AUDIT = 1
    AUDIT_AND_ATTRIBUTION = 2


@dataclass(frozen=True, slots=True)
class Sampling:
    """The pinned sampler's parameters (see `sampler`).

    Temperature 0 is greedy; top_k 0, top_p 1e6 and min_p 0 are off.
    """

    seed: U64
    max_tokens: U32
    temperature_ppm: U32 = 0
    top_k: U32 = 0
    top_p_ppm: U32 = PPM
    min_p_ppm: U32 = 0
    repetition_penalty_ppm: U32 = PPM


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A payer expects to ask for this adapter: a worker may make it ready."""

    adapter: Cid
    binding: SignedBinding


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """One answer wanted from one lane.

    `deadline` and the binding's times are Unix seconds; prices are token units.
    """

    request_id: Bytes16
    payer: Address
    lane: Address
    base: Cid
    adapters: Annotated[tuple[AdapterWeight, ...], Size(0, MAX_ADAPTERS)]
    prompt_root: Hash32
    sampling: Sampling
    advert_hash: Hash32
    max_price: U128
    epoch: U64
    deadline: U64
    disclosure: U8


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn; `role` is system, user or assistant, or one of the tools' (see `tools`)."""

    role: Annotated[str, Size(1, 16)]
    content: Text


@dataclass(frozen=True, slots=True)
class PromptPart:
    """A piece of a prompt that somebody else made: code points `start` up to `end` of turn `turn`.

    `channel` is `row`, `template` or `tool` (see `channels`). `part` names it: a row's hash, or the sha2-256
    of a template or a tool call. `source` is the shard that commits a row, and `payee` whom that pays.
    """

    channel: Annotated[str, Size(1, 16)]
    part: Hash32
    payee: Address
    source: Cid | None
    turn: U16
    start: U32
    end: U32


@dataclass(frozen=True, slots=True)
class Prompt:
    """The opening of `prompt_root`: salt and turns.

    `delivered` are output tokens that another worker already gave, `parts` what others made of the turns, in
    the order of the text.
    """

    salt: Hash32
    messages: Annotated[tuple[ChatMessage, ...], Size(1, 256)]
    stop: Annotated[tuple[Label, ...], Size(0, 8)] = ()
    delivered: Annotated[tuple[U32, ...], Size(0, MAX_OUTPUT_TOKENS)] = ()
    top_logprobs: U16 = 0
    parts: Annotated[tuple[PromptPart, ...], Size(0, MAX_PARTS)] = ()


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What the client sends first."""

    request: InferenceRequest
    signature: Signature65
    binding: SignedBinding
    prompt: Prompt
