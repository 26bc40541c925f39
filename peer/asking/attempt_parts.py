"""What an attempt to have an ask answered needs of its node, of its worker and of its ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...protocol.gossip.adverts import WorkerAd
from ...protocol.ids import Cid, PeerId
from ...protocol.signing.bindings import SignedBinding
from ...protocol.signing.eip712 import Domain
from ...protocol.signing.keys import AccountKey
from ..catalog import Catalog
from ..clock import ChainClock, Clock
from ..keyed_lock import KeyedLock
from ..store.ledger import Ledger
from ..store.records import Records
from ..wire.rpc import Rpc
from .answers import Answer


@dataclass(frozen=True, slots=True)
class Offer:
    """A worker's newest advert; requests name it by hash and so agree to its prices."""

    peer: PeerId
    ad: WorkerAd
    advert_hash: bytes


@dataclass(frozen=True, slots=True)
class AttemptParts:
    """What an attempt needs of its node.

    `binding()` gives the one in force; `entropy(n)` n random bytes.
    """

    rpc: Rpc
    ledger: Ledger
    records: Records
    catalog: Catalog
    session: AccountKey
    binding: Callable[[], SignedBinding]
    domain: Domain
    clock: Clock
    chain_clock: ChainClock
    channels: KeyedLock[bytes]
    entropy: Callable[[int], bytes]
    max_price: int
    """Token units that an answer may cost whose caller names no limit."""


@dataclass(frozen=True, slots=True)
class AttemptTerms:
    """What the ask allows this attempt: `deadline_ms` Unix milliseconds, `max_price` token units.

    `has_other()`: whether another worker could answer now, should this one be left. `claim()`: the answer
    that what is delivered goes into, asked whenever something is; None: the attempt's own.
    """

    base: Cid
    deadline_ms: int
    max_price: int
    has_other: Callable[[], bool] = lambda: False
    claim: Callable[[], Answer] | None = None
