"""Withdrawals: a contributor takes a shard back, under the key that signed it.

Rules of this file: a withdrawal is sealed by the Ed25519 key of the shard's header; nobody else can withdraw
a shard, and nobody can undo it. A Datanet version names the sealed withdrawals of all versions so far in one
blob, so that whoever pulls it learns what must not be used any more; behind them, in the same blob, the
sealed differences by which gradient indexes lost the rows (`attribution.differences`), by their content ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..encoding.codec import decode_value, encode_value
from ..encoding.fields import U64, Label
from ..errors import InvalidSignature, RemoteProtocolError
from ..ids import Cid, to_cid
from ..signing.envelope import Sealed, open_sealed
from .manifests import Shard

MAX_WITHDRAWAL_BYTES = 4_096
MAX_WITHDRAWALS = 4_096
MAX_DIFFERENCES = 4_096
MAX_LIST_BYTES = MAX_WITHDRAWALS * (MAX_WITHDRAWAL_BYTES + 8) + MAX_DIFFERENCES * 64


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


@dataclass(frozen=True, slots=True)
class WithdrawalList:
    """What the blob that a Datanet version names says: the withdrawals by shard, and the sealed differences
    of indexes."""

    withdrawals: Mapping[Cid, Sealed[Withdrawal]]
    differences: tuple[Cid, ...] = ()


def encode_withdrawals(listed: WithdrawalList) -> bytes:
    """The blob: the envelopes, by shard, then the names of differences in their order."""
    envelopes = [listed.withdrawals[shard].raw for shard in sorted(listed.withdrawals)]
    return encode_value([*envelopes, *listed.differences])


def decode_withdrawals(data: bytes) -> WithdrawalList:
    """What such a blob says; whether the withdrawals are their contributors' is not known yet.

    Raises RemoteProtocolError, InvalidSignature.
    """
    listed = decode_value(data, MAX_LIST_BYTES)
    if not isinstance(listed, list) or len(listed) > MAX_WITHDRAWALS + MAX_DIFFERENCES:
        raise RemoteProtocolError(
            f"not a list of at most {MAX_WITHDRAWALS} withdrawals and their differences"
        )
    found: dict[Cid, Sealed[Withdrawal]] = {}
    differences: list[Cid] = []
    for entry in listed:
        match entry:
            case bytes() if not differences:
                sealed = open_sealed(entry, (Withdrawal,), MAX_WITHDRAWAL_BYTES)
                found[sealed.record.shard] = sealed
            case str():
                differences.append(to_cid(entry))
            case _:
                raise RemoteProtocolError("not a list of sealed withdrawals, and of differences behind them")
    if len(found) > MAX_WITHDRAWALS or len(differences) > MAX_DIFFERENCES:
        raise RemoteProtocolError(f"more than {MAX_WITHDRAWALS} withdrawals or {MAX_DIFFERENCES} differences")
    return WithdrawalList(found, tuple(differences))
