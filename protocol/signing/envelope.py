"""A sealed record: what was said, by which peer.

The canonical CBOR list [tag, record, public key, signature].

The Ed25519 signature is over the record's own encoding under the domain `commonlore/<tag>/1`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from ..encoding.codec import class_of, decode, decode_value, encode, encode_value, tag_of
from ..encoding.shapes import Record
from ..errors import LocalProtocolError, RemoteProtocolError
from ..ids import PeerId, peer_id_of
from .keys import PeerKey, verify_ed25519

T = TypeVar("T", bound=Record, covariant=True)
_Inner = TypeVar("_Inner", bound=Record)

MAX_ADVERT_BYTES = 4_096
"""Nothing larger is gossiped."""


@dataclass(frozen=True, slots=True)
class Sealed(Generic[T]):
    """A record whose seal was verified. `raw` is the envelope as it came, to be stored or passed on."""

    record: T
    public_key: bytes
    peer_id: PeerId
    raw: bytes


def seal(key: PeerKey, record: Record, max_bytes: int = MAX_ADVERT_BYTES) -> bytes:
    """The envelope of a record, signed. Raises LocalProtocolError when it is larger than `max_bytes`."""
    tag, body = tag_of(type(record)), encode(record)
    raw = encode_value([tag, body, key.public, key.sign(_domain(tag), body)])
    if len(raw) > max_bytes:
        raise LocalProtocolError(
            f"a sealed {tag} of {len(raw)} bytes; at most {max_bytes} may travel: list less in it"
        )
    return raw


def open_sealed(
    data: bytes, allowed: tuple[type[_Inner], ...], max_bytes: int = MAX_ADVERT_BYTES
) -> Sealed[_Inner]:
    """The record in an envelope, of one of the `allowed` classes, and who sealed it.

    Raises RemoteProtocolError when it is ill-formed, InvalidSignature when the seal is not the named key's.
    """
    match decode_value(data, max_bytes):
        case [str(tag), bytes(body), bytes(public_key), bytes(signature)]:
            cls = class_of(tag, allowed)
            verify_ed25519(public_key, _domain(tag), body, signature)
            return Sealed(decode(cls, body, max_bytes), public_key, peer_id_of(public_key), data)
        case _:
            raise RemoteProtocolError("not a sealed record ([tag, record, public key, signature])")


def _domain(tag: str) -> str:
    return f"commonlore/{tag}/1"
