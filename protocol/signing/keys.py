"""Keys and signatures: Ed25519 for what travels on the network, secp256k1 for what a contract may have to
judge.

Secrets come as arguments: nothing here is random. Every Ed25519 signature is over `domain ‖ 0x00 ‖ payload`,
so that what was signed as one thing never passes for another. secp256k1 signatures are r ‖ s ‖ v with v 27 or
28 and s in the lower half (EIP-2, as OpenZeppelin's ECDSA demands); nonces are RFC 6979.
"""

from __future__ import annotations

from coincurve import PrivateKey, PublicKey
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from ..errors import InvalidSignature, LocalProtocolError
from ..ids import Address, PeerId, keccak256, peer_id_of

_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


class PeerKey:
    """An Ed25519 key: a peer's identity on the network."""

    __slots__ = ("_key", "peer_id", "public")

    def __init__(self, key: SigningKey) -> None:
        self._key = key
        self.public: bytes = bytes(key.verify_key)
        self.peer_id: PeerId = peer_id_of(self.public)

    @classmethod
    def generate(cls, entropy: bytes) -> PeerKey:
        """The key whose seed is these 32 bytes. Raises LocalProtocolError on another length."""
        if len(entropy) != 32:
            raise LocalProtocolError(f"an Ed25519 seed has 32 bytes, not {len(entropy)}")
        return cls(SigningKey(entropy))

    @property
    def seed(self) -> bytes:
        """The secret 32 bytes, to be stored encrypted."""
        return bytes(self._key)

    def sign(self, domain: str, payload: bytes) -> bytes:
        """64 bytes: the signature of `payload` under a domain tag."""
        return self._key.sign(_under(domain, payload)).signature

    def __repr__(self) -> str:
        return f"PeerKey({self.peer_id})"


class AccountKey:
    """A secp256k1 key: an EVM account. Owners and session keys are such keys."""

    __slots__ = ("_key", "address")

    def __init__(self, key: PrivateKey) -> None:
        self._key = key
        self.address: Address = _address_of(key.public_key)

    @classmethod
    def from_secret(cls, secret: bytes) -> AccountKey:
        """The key of these 32 bytes. Raises LocalProtocolError unless they are a number in 1 … order - 1."""
        if len(secret) != 32 or not 0 < int.from_bytes(secret, "big") < _ORDER:
            raise LocalProtocolError(
                "not a secp256k1 secret: expected 32 bytes, a number below the curve's order"
            )
        return cls(PrivateKey(secret))

    @property
    def secret(self) -> bytes:
        """The secret 32 bytes, to be stored encrypted."""
        return self._key.secret

    def sign_digest(self, digest: bytes) -> bytes:
        """65 bytes: the signature of a 32-byte digest, recoverable with `recover`."""
        signature = self._key.sign_recoverable(digest, hasher=None)  # pyright: ignore[reportUnknownMemberType]
        return signature[:64] + bytes((27 + signature[64],))

    def __repr__(self) -> str:
        return f"AccountKey(0x{self.address.hex()})"


def verify_ed25519(public: bytes, domain: str, payload: bytes, signature: bytes) -> None:
    """Raises InvalidSignature unless `signature` is `public`'s over `payload` under this domain tag."""
    try:
        VerifyKey(public).verify(_under(domain, payload), signature)
    except (BadSignatureError, ValueError):
        raise InvalidSignature(f"not signed by Ed25519 key {public.hex()[:16]}… as {domain}") from None


def recover(digest: bytes, signature: bytes) -> Address:
    """The account whose key made the 65-byte `signature` of `digest`.

    Raises InvalidSignature on any form but the canonical.
    """
    if len(signature) != 65 or signature[64] not in (27, 28):
        raise InvalidSignature("not a secp256k1 signature: expected 65 bytes, r ‖ s ‖ v with v 27 or 28")
    if int.from_bytes(signature[32:64], "big") > _ORDER // 2:
        raise InvalidSignature("a secp256k1 signature whose s is in the upper half of the order")
    try:
        key = PublicKey.from_signature_and_message(
            signature[:64] + bytes((signature[64] - 27,)), digest, hasher=None
        )
    except ValueError:
        raise InvalidSignature("a secp256k1 signature that belongs to no key") from None
    return _address_of(key)


def _under(domain: str, payload: bytes) -> bytes:
    return domain.encode() + b"\x00" + payload


def _address_of(key: PublicKey) -> Address:
    return Address(keccak256(key.format(compressed=False)[1:])[12:])
