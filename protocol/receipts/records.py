"""What a worker says it did, what the payer signs for it, and what an attributor says about it.

A channel is (payer session key, lane). A voucher is cumulative over its channel, names one receipt, and is
paid whole or not at all; neither side can settle what the other did not sign. Long answers are several
receipts (`step` 0, 1, …).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..content.compositions import MAX_ADAPTERS, AdapterWeight
from ..encoding.fields import U8, U32, U64, U128, Hash32, Label, Name, Signature65, Size
from ..ids import Address, Cid
from ..requests.records import MAX_PARTS, Sampling
from .seconding import DrawnSecond

MAX_CONTRIBUTORS = 4_096


@dataclass(frozen=True, slots=True)
class Shares:
    """A price divided among the roles; the five amounts sum to the price exactly."""

    platform: U128
    worker: U128
    author: U128
    work_pool: U128
    contributors: U128


@dataclass(frozen=True, slots=True)
class Receipt:
    """Signed (EIP-712) by the lane's key. `details` is the hash of the canonical CBOR of `ReceiptDetails`."""

    request_hash: Hash32
    payer: Address
    lane: Address
    seq: U64
    epoch: U64
    step: U32
    artefact: Cid
    adapters: Annotated[tuple[AdapterWeight, ...], Size(0, MAX_ADAPTERS)]
    prompt_tokens: U32
    output_tokens: U32
    output_root: Hash32
    price: U128
    shares: Shares
    details: Hash32


@dataclass(frozen=True, slots=True)
class ReceiptDetails:
    """What a receipt commits but the chain need not judge. Times are milliseconds and only informative."""

    tokenizer: Hash32
    template: Hash32
    sampling: Sampling
    finish: Label
    retrieved_rows: Annotated[tuple[Hash32, ...], Size(0, 64)] = ()
    prompt_template: Hash32 | None = None
    tool_calls: Annotated[tuple[Hash32, ...], Size(0, 64)] = ()
    queue_ms: U32 = 0
    load_ms: U32 = 0
    first_token_ms: U32 = 0
    total_ms: U32 = 0


@dataclass(frozen=True, slots=True)
class SignedReceipt:
    """A receipt with the lane key's signature and the opening of its details."""

    receipt: Receipt
    signature: Signature65
    details: ReceiptDetails


@dataclass(frozen=True, slots=True)
class Voucher:
    """Signed (EIP-712) by the payer's session key.

    `cumulative` includes `price`; `receipt_hash` is the receipt's digest.
    """

    payer: Address
    lane: Address
    seq: U64
    epoch: U64
    cumulative: U128
    price: U128
    receipt_hash: Hash32


@dataclass(frozen=True, slots=True)
class SignedVoucher:
    """What pays."""

    voucher: Voucher
    signature: Signature65


@dataclass(frozen=True, slots=True)
class Weight:
    """One contributor's part of an answer, in parts per million; `payee` is where the money goes."""

    payee: Address
    ppm: U32


@dataclass(frozen=True, slots=True)
class PartEffect:
    """What one part of a prompt did; `part` is its hash."""

    channel: Name
    part: Hash32
    payee: Address
    effect_micro: U64


@dataclass(frozen=True, slots=True)
class Effects:
    """What the channels of one answer did, as measured: the adapter against its base, each part left out."""

    adapter_micro: U64
    parts: Annotated[tuple[PartEffect, ...], Size(0, MAX_PARTS)]


@dataclass(frozen=True, slots=True)
class AttributionStatement:
    """Weights of one receipt's contributors, summing to 1,000,000. `method` names how they were found;
    `prior` means no influence was measured and the manifest's prior weights apply. Travels sealed by the
    attributor's Ed25519 key. Where the prompt had parts, `effects` says what they did, and the weights are
    those over all channels. Who is not the receipt's worker says in `drawn` how it came to be asked.
    `faithfulness` is the measurement of the index that lets its scores divide money. `challenged` is the
    place of a row of the index that is not its row's gradient, as the attributor found: it then goes by the
    priors.
    """

    receipt_hash: Hash32
    adapter: Cid
    index: Cid | None
    method: Label
    query: Hash32
    weights: Annotated[tuple[Weight, ...], Size(1, MAX_CONTRIBUTORS)]
    effects: Effects | None = None
    drawn: DrawnSecond | None = None
    faithfulness: Cid | None = None
    challenged: U32 | None = None


@dataclass(frozen=True, slots=True)
class Credit:
    """Token units earned by an account from one receipt, in a role: platform, worker, author, work_pool,
    contributor. `part`: of which of the receipt's adapters, by its place there, where it has several.
    """

    account: Address
    role: Label
    amount: U128
    part: U8 | None = None
