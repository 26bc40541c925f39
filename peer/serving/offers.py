"""A worker's standing offer: what it advertises, and which of its recent adverts a request may still refer
to."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from ...protocol.content.manifests import Split
from ...protocol.encoding.codec import record_hash
from ...protocol.errors import Refused
from ...protocol.gossip.adverts import Rates, WorkerAd
from ...protocol.ids import Cid
from ...protocol.inference.messages import RefusalCode
from ...protocol.signing.bindings import SignedBinding

MAX_NAMED_ADAPTERS = 32
REMEMBERED_ADVERTS = 64
"""At an advert every ten seconds a client may be about ten minutes behind, the longest a request may live."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What does not change while a worker runs, and its binding in force."""

    binding: Callable[[], SignedBinding]
    base: Cid
    artefact: Cid
    rates: Rates
    base_split: Split
    max_context: int
    max_batch: int
    max_rank: int
    slots: int
    addresses: tuple[str, ...]
    base_name: str | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """The engine's state at one moment. `resident` are the most recently used of `resident_count` adapters,
    each with its rank.
    """

    queue_depth: int = 0
    running: int = 0
    free_pages: int = 0
    resident: tuple[tuple[Cid, int], ...] = ()
    resident_count: int = 0


class Offers:
    """Makes adverts and remembers their rates by hash."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._rates: OrderedDict[bytes, Rates] = OrderedDict()

    def advertise(self, load: Load, seq: int, now_ms: int) -> WorkerAd:
        """The next advert; `seq` must rise. Its hash (record_hash) is what requests name."""
        t, named = self._terms, load.resident[:MAX_NAMED_ADAPTERS]
        ad = WorkerAd(
            binding=t.binding(),
            base=t.base,
            artefact=t.artefact,
            rates=t.rates,
            base_split=t.base_split,
            max_context=t.max_context,
            max_batch=t.max_batch,
            queue_depth=min(load.queue_depth, 65_535),
            running=min(load.running, 65_535),
            free_pages=load.free_pages,
            resident=tuple(adapter for adapter, _ in named),
            resident_count=load.resident_count,
            max_rank=t.max_rank,
            addresses=t.addresses[:8],
            seq=seq,
            issued_ms=now_ms,
            resident_ranks=tuple(rank for _, rank in named),
            slots=t.slots,
            base_name=t.base_name,
        )
        self._rates[record_hash(ad)] = ad.rates
        while len(self._rates) > REMEMBERED_ADVERTS:
            self._rates.popitem(last=False)
        return ad

    def rates_of(self, advert_hash: bytes) -> Rates:
        """The prices a request agreed to.

        Raises Refused when the advert it names is not among the recent ones.
        """
        rates = self._rates.get(advert_hash)
        if rates is None:
            raise Refused(
                RefusalCode.STALE, "the request names an advert that this worker no longer honours; ask again"
            )
        return rates
