"""Peer bindings: one owner, one session key and one peer key, all three of which signed that they belong
together.

The owner and the session key sign the binding's EIP-712 digest (the Escrow judges those two); the Ed25519 key
signs the same digest under the domain `commonlore/binding/1`. Absent signature == invalid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ..encoding.fields import U64, Key32, Signature64, Signature65
from ..errors import LocalProtocolError, RemoteProtocolError, Stale
from ..ids import Address
from .eip712 import Domain, digest, require_signer
from .keys import AccountKey, PeerKey, verify_ed25519

BINDING_DOMAIN = "commonlore/binding/1"
MAX_CLOCK_SKEW_S = 30
"""How far two peers' clocks may differ, in seconds."""


@dataclass(frozen=True, slots=True)
class PeerBinding:
    """Ties an owner account, a secp256k1 session key and an Ed25519 peer key together, for a time (Unix
    seconds).
    """

    owner: Address
    session_key: Address
    ed25519_key: Key32
    not_before: U64
    not_after: U64


@dataclass(frozen=True, slots=True)
class SignedBinding:
    """A binding with all three signatures; any absent or wrong one makes it invalid."""

    binding: PeerBinding
    owner_signature: Signature65
    session_signature: Signature65
    ed25519_signature: Signature64


def bind(
    domain: Domain, owner: AccountKey, session: AccountKey, peer: PeerKey, not_before: int, not_after: int
) -> SignedBinding:
    """The binding of three keys from `not_before` to `not_after` (Unix seconds).

    Raises LocalProtocolError.
    """
    if not_before >= not_after:
        raise LocalProtocolError(f"a binding from {not_before} to {not_after} is never valid")
    binding = PeerBinding(owner.address, session.address, peer.public, not_before, not_after)
    signed = digest(domain, binding)
    return SignedBinding(
        binding, owner.sign_digest(signed), session.sign_digest(signed), peer.sign(BINDING_DOMAIN, signed)
    )


def check_binding(domain: Domain, signed: SignedBinding, now: int) -> None:
    """Raises InvalidSignature unless all three keys signed for this deployment, Stale when `now` (Unix
    seconds) is outside.
    """
    binding = signed.binding
    if binding.not_before > now + MAX_CLOCK_SKEW_S:
        raise Stale(f"a binding that begins at {binding.not_before}; it is {now}")
    if binding.not_after <= now:
        raise Stale(f"a binding that ended at {binding.not_after}; it is {now}: bind the session key anew")
    _check_signatures(domain, signed)


@lru_cache(4096)
def _check_signatures(domain: Domain, signed: SignedBinding) -> None:
    """Three verifications, some 0.2 ms; a peer's binding stays the same in all its adverts and requests, so
    they are remembered.
    """
    binding = signed.binding
    if binding.owner == binding.session_key:
        raise RemoteProtocolError(
            "a binding whose session key is its owner: a session key must be another key"
        )
    require_signer(domain, binding, signed.owner_signature, binding.owner)
    require_signer(domain, binding, signed.session_signature, binding.session_key)
    verify_ed25519(binding.ed25519_key, BINDING_DOMAIN, digest(domain, binding), signed.ed25519_signature)
