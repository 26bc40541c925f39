"""Which announcements may be believed and passed on.

Three verdicts, as gossip needs them: accept (use it, pass it on), ignore (honest peers' clocks and delays
explain it: drop it without blame), reject (no honest peer sends this: blame the sender). Whether a newer
announcement of the same key is already known is the caller's to see: it keeps the state.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from ..content.names import check_alias, check_name
from ..content.splits import check_split
from ..encoding.codec import record_hash
from ..errors import InvalidSignature, ProtocolError, RemoteProtocolError, Stale
from ..signing.bindings import check_binding
from ..signing.eip712 import Domain
from ..signing.envelope import Sealed, open_sealed
from .adverts import (
    ADVERT_LIFETIME_MS,
    MAX_CLOCK_SKEW_MS,
    AdapterRecord,
    Advert,
    DatanetRecord,
    MeasurementRecord,
    PeerAd,
    WorkerAd,
)

_MULTIADDR = re.compile(r"/[\x21-\x7e]+")


class Verdict(Enum):
    """What to do with an announcement."""

    ACCEPT = "accept"
    IGNORE = "ignore"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict; with `sealed` where it is ACCEPT, with the reason where it is not."""

    verdict: Verdict
    sealed: Sealed[Advert] | None
    reason: str


def judge_advert(data: bytes, allowed: tuple[type[Advert], ...], domain: Domain, now_ms: int) -> Judged:
    """The verdict on an envelope as it came from the network. `now_ms` is Unix milliseconds. Never raises."""
    try:
        sealed = open_sealed(data, allowed)
        check_advert(sealed, domain, now_ms)
    except ProtocolError as error:
        return Judged(verdict_of(error), None, str(error))
    return Judged(Verdict.ACCEPT, sealed, "")


def verdict_of(error: ProtocolError) -> Verdict:
    """IGNORE for what is merely early or late, REJECT for what is wrong."""
    return Verdict.IGNORE if isinstance(error, Stale) else Verdict.REJECT


def check_advert(sealed: Sealed[Advert], domain: Domain, now_ms: int) -> None:
    """Raises Stale where an opened announcement is from the future or too old (`now_ms`: Unix milliseconds),
    else RemoteProtocolError where it contradicts itself, InvalidSignature where its binding is not the
    sealing peer's.
    """
    record = sealed.record
    match record:
        case WorkerAd():
            _check_worker(record, sealed.public_key, domain, now_ms)
            _check_age(record.issued_ms, now_ms)
        case PeerAd():
            check_name(record.role)
            _check_addresses(record.addresses)
            _check_age(record.issued_ms, now_ms)
        case AdapterRecord():
            check_alias(record.alias)
        case DatanetRecord():
            check_name(record.name)
        case MeasurementRecord():
            if record.measurer != sealed.public_key:
                raise InvalidSignature("a measurement that its measurer did not seal")
        case _:
            assert_never(record)
    # Records of adapters, Datanets and measurements are pulled long after: only the future is forbidden.
    if record.issued_ms > now_ms + MAX_CLOCK_SKEW_MS:
        raise Stale(f"issued {record.issued_ms - now_ms} ms in the future; check both peers' clocks")


def advert_hash(advert: WorkerAd) -> bytes:
    """How a request names the announcement whose prices it accepts: sha2-256 of the advert's encoding."""
    return record_hash(advert)


def _check_worker(advert: WorkerAd, public_key: bytes, domain: Domain, now_ms: int) -> None:
    if advert.binding.binding.ed25519_key != public_key:
        raise InvalidSignature("a worker's advert whose binding belongs to another peer")
    check_split(advert.base_split)
    if advert.base_name is not None and not advert.base_name.isprintable():
        raise RemoteProtocolError(f"a base's name that cannot be shown: {advert.base_name!r}")
    _check_addresses(advert.addresses)
    if len(set(advert.resident)) != len(advert.resident):
        raise RemoteProtocolError("a worker's advert names a resident adapter twice")
    if advert.resident_count < (named := len(advert.resident)):
        raise RemoteProtocolError(f"{named} resident adapters are named but {advert.resident_count} counted")
    if (ranks := len(advert.resident_ranks)) not in (0, named):
        raise RemoteProtocolError(f"{named} resident adapters are named but {ranks} ranks")
    check_binding(domain, advert.binding, now_ms // 1000)


def _check_age(issued_ms: int, now_ms: int) -> None:
    if (age := now_ms - issued_ms) > ADVERT_LIFETIME_MS + MAX_CLOCK_SKEW_MS:
        raise Stale(f"issued {age} ms ago; an announcement lives {ADVERT_LIFETIME_MS} ms")


def _check_addresses(addresses: tuple[str, ...]) -> None:
    for address in addresses:
        if not _MULTIADDR.fullmatch(address):
            raise RemoteProtocolError(
                f"not a multiaddr: {address[:80]!r}; expected such as /ip4/192.0.2.1/tcp/4001"
            )
