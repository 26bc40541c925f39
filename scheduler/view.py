"""Who is out there, as this peer believes: the workers' adverts, indexed by base and by adapter.

Rules of this file: a higher `seq` replaces a lower one; an advert from outside the clock window changes
nothing; a worker that falls silent for a lifetime is forgotten. Every order kept here follows from the
order of events alone, never from hashing, so two peers with the same history choose alike. All times are
Unix milliseconds given by the caller.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..protocol.adverts import ADVERT_LIFETIME_MS, MAX_CLOCK_SKEW_MS, Rates, WorkerAd
from ..protocol.ids import Address, Cid, PeerId
from ..protocol.manifests import Split
from .pools import Pool, Ring

MAX_WARM = 64
WARM_GRACE_MS = 10_000
"""How long a worker that was sent an adapter is believed to hold it although its adverts do not say so
yet."""


@dataclass(frozen=True, slots=True)
class WorkerView:
    """The facts of one worker's advert that routing needs.

    `base` is the reference, `artefact` what is really loaded.
    """

    peer: PeerId
    lane: Address
    base: Cid
    artefact: Cid
    rates: Rates
    split: Split
    max_context: int
    max_batch: int
    max_rank: int
    queue_depth: int
    running: int
    free_pages: int
    resident: tuple[Cid, ...]
    resident_count: int
    addresses: tuple[str, ...]
    key_expires_ms: int
    seq: int
    issued_ms: int
    seen_ms: int


def worker_view(peer: PeerId, ad: WorkerAd, now_ms: int) -> WorkerView:
    """What `ad`, already checked and sealed by `peer`, says of it; seen at `now_ms`."""
    binding = ad.binding.binding
    return WorkerView(
        peer=peer,
        lane=binding.session_key,
        base=ad.base,
        artefact=ad.artefact,
        rates=ad.rates,
        split=ad.base_split,
        max_context=ad.max_context,
        max_batch=max(1, ad.max_batch),
        max_rank=ad.max_rank,
        queue_depth=ad.queue_depth,
        running=ad.running,
        free_pages=ad.free_pages,
        resident=ad.resident,
        resident_count=ad.resident_count,
        addresses=ad.addresses,
        key_expires_ms=binding.not_after * 1000,
        seq=ad.seq,
        issued_ms=ad.issued_ms,
        seen_ms=now_ms,
    )


_EMPTY = Pool()


class NetworkView:
    """The workers believed alive, at most `max_workers` (the longest silent makes room)."""

    def __init__(self, lifetime_ms: int = ADVERT_LIFETIME_MS, max_workers: int = 20_000) -> None:
        self.lifetime_ms = lifetime_ms
        self.max_workers = max_workers
        self._workers: dict[PeerId, WorkerView] = {}  # in order of seen_ms: the first has been silent longest
        self._serving: dict[Cid, Pool] = {}
        self._holding: dict[tuple[Cid, Cid], Pool] = {}
        self._warm: dict[PeerId, dict[Cid, int]] = {}
        self._rings: dict[Cid, Ring] = {}

    def __len__(self) -> int:
        return len(self._workers)

    def __iter__(self) -> Iterator[WorkerView]:
        return iter(self._workers.values())

    def get(self, peer: PeerId) -> WorkerView | None:
        return self._workers.get(peer)

    def serving(self, base: Cid) -> Pool:
        """The workers of a base."""
        return self._serving.get(base, _EMPTY)

    def holding(self, base: Cid, adapter: Cid) -> Pool:
        """The workers of a base that hold an adapter, or were just sent an ask for it."""
        return self._holding.get((base, adapter), _EMPTY)

    def ring(self, base: Cid) -> Ring:
        """The consistent-hashing ring of a base, built when first asked for and kept up from then on."""
        if base not in self._serving:
            return Ring(_EMPTY)
        if base not in self._rings:
            self._rings[base] = Ring(self._serving[base])
        return self._rings[base]

    def apply(self, now_ms: int, worker: WorkerView) -> bool:
        """Take an advert in.

        False, and nothing changed, if it is old news or from outside the clock window.
        """
        old = self._workers.get(worker.peer)
        if not self._is_current(now_ms, worker) or (old is not None and worker.seq <= old.seq):
            return False
        if old is not None and old.base != worker.base:
            self.forget(worker.peer)
            old = None
        if old is None:
            self._admit(worker)
        else:
            del self._workers[worker.peer]
            self._workers[worker.peer] = worker
        self._reindex(now_ms, worker, () if old is None else old.resident)
        return True

    def warm(self, now_ms: int, peer: PeerId, adapter: Cid) -> None:
        """Believe that `peer` holds `adapter` from now on: it was just sent work that needs it."""
        worker = self._workers.get(peer)
        if worker is None or adapter in worker.resident:
            return
        warm = self._warm.setdefault(peer, {})
        warm.pop(adapter, None)
        warm[adapter] = now_ms
        if len(warm) > MAX_WARM:
            self._cool(worker, next(iter(warm)))
        self._hold(worker.base, adapter, peer)

    def forget(self, peer: PeerId) -> WorkerView | None:
        """Drop a worker, until its next advert; returns what was known of it."""
        worker = self._workers.pop(peer, None)
        if worker is None:
            return None
        for adapter in (*worker.resident, *self._warm.pop(peer, ())):
            self._release(worker.base, adapter, peer)
        pool = self._serving[worker.base]
        pool.discard(peer)
        if worker.base in self._rings:
            self._rings[worker.base].discard(peer)
        if not pool:
            del self._serving[worker.base]
            self._rings.pop(worker.base, None)
        return worker

    def forget_stale(self, now_ms: int) -> list[WorkerView]:
        """Drop the workers whose last advert is older than a lifetime; O(dropped)."""
        dropped: list[WorkerView] = []
        while self._workers:
            oldest = next(iter(self._workers.values()))
            if oldest.seen_ms + self.lifetime_ms > now_ms:
                break
            self.forget(oldest.peer)
            dropped.append(oldest)
        return dropped

    def _is_current(self, now_ms: int, worker: WorkerView) -> bool:
        age_ms = now_ms - worker.issued_ms
        return -MAX_CLOCK_SKEW_MS <= age_ms <= self.lifetime_ms + MAX_CLOCK_SKEW_MS

    def _admit(self, worker: WorkerView) -> None:
        if len(self._workers) >= self.max_workers:
            self.forget(next(iter(self._workers)))
        self._workers[worker.peer] = worker
        self._serving.setdefault(worker.base, Pool()).add(worker.peer)
        if worker.base in self._rings:
            self._rings[worker.base].add(worker.peer)

    def _reindex(self, now_ms: int, worker: WorkerView, before: tuple[Cid, ...]) -> None:
        warm = self._warm.get(worker.peer, {})
        if before != worker.resident:
            for adapter in before:
                if adapter not in worker.resident and adapter not in warm:
                    self._release(worker.base, adapter, worker.peer)
            for adapter in worker.resident:
                self._hold(worker.base, adapter, worker.peer)
        for adapter in [
            each for each, since_ms in warm.items() if self._is_over(now_ms, worker, each, since_ms)
        ]:
            self._cool(worker, adapter)

    def _is_over(self, now_ms: int, worker: WorkerView, adapter: Cid, since_ms: int) -> bool:
        """Whether the advert tells enough: it lists the adapter, or it lists everything and the grace is
        over."""
        lists_all = worker.resident_count <= len(worker.resident)
        patience_ms = WARM_GRACE_MS if lists_all else self.lifetime_ms
        return adapter in worker.resident or now_ms - since_ms > patience_ms

    def _cool(self, worker: WorkerView, adapter: Cid) -> None:
        del self._warm[worker.peer][adapter]
        if not self._warm[worker.peer]:
            del self._warm[worker.peer]
        if adapter not in worker.resident:
            self._release(worker.base, adapter, worker.peer)

    def _hold(self, base: Cid, adapter: Cid, peer: PeerId) -> None:
        self._holding.setdefault((base, adapter), Pool()).add(peer)

    def _release(self, base: Cid, adapter: Cid, peer: PeerId) -> None:
        pool = self._holding.get((base, adapter))
        if pool is not None:
            pool.discard(peer)
            if not pool:
                del self._holding[base, adapter]
