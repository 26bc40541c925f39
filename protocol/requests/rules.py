"""Signing a request and deciding whether it may be served.

Rules of this file:
- The request hash is the EIP-712 digest of `InferenceRequest`; the payer's session key signs it.
- prompt bytes = the canonical CBOR of the prompt with its salt set to zero, cut into pieces of 1,024 bytes.
  leaf i = keccak(0x00 ‖ keccak(salt ‖ i as uint32) ‖ piece i), prompt root = the plain Merkle root of the
  leaves. So one piece can be opened (its own salt, itself and a proof) without making the others guessable.
- Adapters are distinct, none weighs nothing, and their weights make 1,000,000 ppm.
- A deadline is at most MAX_DEADLINE_S away: that long a worker remembers ids.
- A prompt is charged at most one token a byte of its turns, and an allowance for the chat template: a client
  needs no tokenizer to know what an answer can cost at most.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..content.compositions import MAX_ADAPTERS, AdapterWeight
from ..encoding.codec import encode
from ..encoding.fields import PPM
from ..encoding.merkle import MerkleTree
from ..errors import InvalidSignature, LocalProtocolError, RemoteProtocolError, Stale
from ..ids import Address, digest_of, keccak256
from ..signing.bindings import MAX_CLOCK_SKEW_S, SignedBinding, check_binding
from ..signing.eip712 import Domain, digest, require_signer
from ..signing.keys import AccountKey
from .prompt_parts import check_parts
from .records import (
    MAX_OUTPUT_TOKENS,
    ChatMessage,
    Disclosure,
    InferenceRequest,
    Prompt,
    Sampling,
    SignedRequest,
)
from .tools import CALLS, TOOLS, check_tools

MAX_DEADLINE_S = 600
PIECE_SIZE = 1_024
MAX_TOP_LOGPROBS = 20
TEMPLATE_TOKENS, TURN_TOKENS = 256, 32
"""What a chat template may add to a prompt: in all, and for each turn (its role included)."""
_WRITTEN_OUT = {TOOLS: 4, CALLS: 2}
"""By how much a chat template may lengthen what is JSON in a turn: it may indent it, and mark each call."""
_NO_SALT = bytes(32)


def request_hash(domain: Domain, request: InferenceRequest) -> bytes:
    """The 32 bytes by which receipts name a request: its EIP-712 digest."""
    return digest(domain, request)


def sign_request(
    domain: Domain, session: AccountKey, request: InferenceRequest, binding: SignedBinding, prompt: Prompt
) -> SignedRequest:
    """What the client sends.

    Raises LocalProtocolError where key, binding, prompt and request do not belong together.
    """
    if not session.address == request.payer == binding.binding.session_key:
        raise LocalProtocolError("the request's payer must be the bound session key that signs it")
    try:
        check_terms(request, prompt)
    except RemoteProtocolError as wrong:
        raise LocalProtocolError(str(wrong)) from None
    signature = session.sign_digest(request_hash(domain, request))
    return SignedRequest(request, signature, binding, prompt)


def check_request(
    domain: Domain, signed: SignedRequest, now: int, lane: Address, peer_key: bytes | None = None
) -> None:
    """Whether `lane` may serve this at `now` (Unix seconds), were there capacity, credit and the epoch is its
    own.

    `peer_key` is the 32-byte Ed25519 key of the peer that sent it, where that must be the payer's. Raises
    Stale after the deadline (or long before it), InvalidSignature where payer or binding are not who signed,
    else RemoteProtocolError.
    """
    request, binding = signed.request, signed.binding.binding
    if request.lane != lane:
        raise RemoteProtocolError(f"a request for lane 0x{request.lane.hex()}; this is 0x{lane.hex()}")
    check_deadline(request.deadline, now)
    check_terms(request, signed.prompt)
    if request.payer != binding.session_key:
        raise InvalidSignature("a request whose binding is for another session key than its payer")
    if peer_key is not None and binding.ed25519_key != peer_key:
        raise InvalidSignature("a request whose binding is for another peer than its sender")
    check_binding(domain, signed.binding, now)
    require_signer(domain, request, signed.signature, request.payer)


def check_redeemable(signed: SignedRequest, until: int) -> None:
    """Raises Stale unless the payer's vouchers can be redeemed until then (Unix seconds): the lane's redeem
    horizon.
    """
    if signed.binding.binding.not_after < until:
        raise Stale(
            f"a session key that ends at {signed.binding.binding.not_after}; it must last until {until}"
        )


def check_deadline(deadline: int, now: int) -> None:
    """Raises Stale unless `deadline` lies ahead, at most MAX_DEADLINE_S (Unix seconds)."""
    if deadline <= now - MAX_CLOCK_SKEW_S:
        raise Stale(f"the deadline {deadline} passed; it is {now}")
    if deadline > now + MAX_DEADLINE_S + MAX_CLOCK_SKEW_S:
        raise Stale(f"the deadline {deadline} is more than {MAX_DEADLINE_S} s away; it is {now}")


def check_terms(request: InferenceRequest, prompt: Prompt) -> None:
    """What a request says, whoever signed it. Raises RemoteProtocolError."""
    check_adapters(request.adapters)
    check_sampling(request.sampling)
    if request.disclosure not in frozenset(Disclosure):
        raise RemoteProtocolError(
            f"disclosure {request.disclosure} is none of {[d.value for d in Disclosure]}"
        )
    if prompt.top_logprobs > MAX_TOP_LOGPROBS:
        raise RemoteProtocolError(
            f"{prompt.top_logprobs} log-probabilities; at most {MAX_TOP_LOGPROBS} are given"
        )
    check_parts(prompt)
    check_tools(prompt)
    if not all(prompt.stop):
        raise RemoteProtocolError("an empty stop text; leave it out")
    if compute_prompt_root(prompt) != request.prompt_root:
        raise RemoteProtocolError("the prompt is not the one that the request commits")


def check_adapters(adapters: tuple[AdapterWeight, ...]) -> None:
    """Raises RemoteProtocolError unless adapters are at most MAX_ADAPTERS, distinct, and their positive
    weights make 1,000,000 ppm; none is fine.
    """
    if not adapters:
        return
    if len(adapters) > MAX_ADAPTERS:
        raise RemoteProtocolError(f"{len(adapters)} adapters; at most {MAX_ADAPTERS} answer together")
    if len({digest_of(entry.adapter) for entry in adapters}) != len(adapters):
        raise RemoteProtocolError("the same adapter twice; add up its weights")
    if min(entry.weight_ppm for entry in adapters) == 0:
        raise RemoteProtocolError("an adapter of weight 0; leave it out")
    if (whole := sum(entry.weight_ppm for entry in adapters)) != PPM:
        raise RemoteProtocolError(f"adapter weights add up to {whole} ppm; they must make {PPM}")


def check_sampling(sampling: Sampling) -> None:
    """Raises RemoteProtocolError where a parameter has no meaning for the pinned sampler."""
    if not 1 <= sampling.max_tokens <= MAX_OUTPUT_TOKENS:
        raise RemoteProtocolError(f"max_tokens {sampling.max_tokens}; 1 to {MAX_OUTPUT_TOKENS} are allowed")
    if not 1 <= sampling.top_p_ppm <= PPM:
        raise RemoteProtocolError(f"top_p of {sampling.top_p_ppm} ppm; 1 to {PPM} are allowed")
    if sampling.min_p_ppm > PPM:
        raise RemoteProtocolError(f"min_p of {sampling.min_p_ppm} ppm; 0 to {PPM} are allowed")
    if sampling.repetition_penalty_ppm == 0:
        raise RemoteProtocolError(f"a repetition penalty of 0; {PPM} ppm is none")


def most_prompt_tokens(messages: Iterable[ChatMessage]) -> int:
    """The most prompt tokens that these turns may be charged: no tokenizer makes two of one byte."""
    return TEMPLATE_TOKENS + sum(
        TURN_TOKENS + _WRITTEN_OUT.get(turn.role, 1) * len(turn.content.encode()) for turn in messages
    )


# ---- the commitment to a prompt


def prompt_bytes(prompt: Prompt) -> bytes:
    """The canonical CBOR of everything in a prompt but its salt, which is zero. Raises LocalProtocolError."""
    return encode(replace(prompt, salt=_NO_SALT))


def prompt_leaf(salt: bytes, index: int, piece: bytes) -> bytes:
    """The leaf of one piece of the prompt bytes (32 bytes); see the rules of this file."""
    return keccak256(b"\x00" + keccak256(salt + index.to_bytes(4, "big")) + piece)


def compute_prompt_root(prompt: Prompt) -> bytes:
    """The root (32 bytes) that a request commits.

    Raises LocalProtocolError where the prompt cannot be encoded.
    """
    data = prompt_bytes(prompt)
    pieces = (data[start : start + PIECE_SIZE] for start in range(0, len(data), PIECE_SIZE))
    return MerkleTree(prompt_leaf(prompt.salt, i, piece) for i, piece in enumerate(pieces)).root
