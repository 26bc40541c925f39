"""Withdrawals: a contributor takes a shard back, under the key that signed it.

Rules of this file: a withdrawal is sealed by the Ed25519 key of the shard's header; nobody else can withdraw
a shard, and nobody can undo it. A Datanet version names the sealed withdrawals of all versions so far in one
blob, so that whoever pulls it learns what must not be used any more.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..encoding.codec import decode_value, encode_value
from ..encoding.fields import U64, Label
from ..errors import InvalidSignature, RemoteProtocolError
from ..ids import Cid
from ..signing.envelope import Sealed, open_sealed
from .manifests import Shard

MAX_WITHDRAWAL_BYTES = 4_096
MAX_WITHDRAWALS = 4_096
MAX_LIST_BYTES = MAX_WITHDRAWALS * (MAX_WITHDRAWAL_BYTES + 8)


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A shard of a Datanet must not be used any more. Unix milliseconds."""

    datanet: Label
    shard: Cid
    reason: Label
    issued_ms: U64


def check_withdrawal(sealed: Sealed[Withdrawal], cid: Cid, shard: Shard) -> None:
    """Raises InvalidSignature or RemoteProtocolError unless this withdraws that shard, by its contributor."""
    if sealed.public_key != shard.header.ed25519_key:
        raise InvalidSignature(f"shard {cid} can be withdrawn by its contributor only")
    if (sealed.record.shard, sealed.record.datanet) != (cid, shard.header.datanet):
        raise RemoteProtocolError(f"the withdrawal is of another shard than {cid}")


def encode_withdrawals(sealed: dict[Cid, Sealed[Withdrawal]]) -> bytes:
    """The blob that a Datanet version names: the envelopes, by shard."""
    return encode_value([sealed[shard].raw for shard in sorted(sealed)])


def decode_withdrawals(data: bytes) -> dict[Cid, Sealed[Withdrawal]]:
    """The withdrawals in such a blob, by shard; whether they are their contributors' is not known yet.

    Raises RemoteProtocolError, InvalidSignature.
    """
    listed = decode_value(data, MAX_LIST_BYTES)
    if not isinstance(listed, list) or len(listed) > MAX_WITHDRAWALS:
        raise RemoteProtocolError(f"not a list of at most {MAX_WITHDRAWALS} withdrawals")
    found: dict[Cid, Sealed[Withdrawal]] = {}
    for raw in listed:
        if not isinstance(raw, bytes):
            raise RemoteProtocolError("not a list of sealed withdrawals")
        sealed = open_sealed(raw, (Withdrawal,), MAX_WITHDRAWAL_BYTES)
        found[sealed.record.shard] = sealed
    return found
