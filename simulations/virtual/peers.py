"""Real keys, manifests, workers and askers for a simulation in virtual time.

What is real: ids, signatures, adverts, the wire format of calls, the inference conversation, receipts,
vouchers, the store's SQL, the worker's door, the client's attempts and retries. What is modelled: the engine,
the network's bytes on their way, gossip (an advert arrives everywhere one latency later), and the chain
(none: payers have the scenario's deposit as credit).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import trio

from ...peer.asking.asker import Asker
from ...peer.asking.attempt_parts import AttemptParts
from ...peer.asking.prefetch import METHOD as PREFETCH
from ...peer.catalog import Catalog
from ...peer.clock import ChainClock
from ...peer.keyed_lock import KeyedLock
from ...peer.serving.conversation_parts import PaidStep, ServingParts
from ...peer.serving.door import DoorParts, WorkerService
from ...peer.serving.offers import Offers, Terms
from ...peer.settling.funds import Funds
from ...peer.store.ledger import Ledger
from ...peer.wire.calls import Call
from ...peer.wire.rpc import Rpc
from ...protocol.content.manifests import AdapterManifest, PriorWeight, Recipe
from ...protocol.content.splits import BASE_SPLIT, DEFAULT_SPLIT
from ...protocol.encoding.codec import decode, encode, record_cid
from ...protocol.encoding.fields import PPM
from ...protocol.ids import Cid, PeerId, cid_of, keccak256
from ...protocol.inference.messages import Ask
from ...protocol.requests.records import Suggestion
from ...protocol.signing.bindings import SignedBinding, bind
from ...protocol.signing.keys import AccountKey, PeerKey
from ...scheduler.core import Scheduler
from ...worker.adapters.store import AdapterStore, FetchedAdapter
from ...worker.engine.types import EngineFacts, PackedSize
from ..experiment.models import Scenario
from ..modelled.workers import Engine
from ..network.accounts import DOMAIN
from ..workload.people import BASE, People, account
from .engine import ModelledProcess
from .kernel import TrioKernel
from .store import open_memory_store
from .wire import MemoryHost

NEVER_S = 1 << 40
RANK = 8


@dataclass(frozen=True, slots=True)
class Identity:
    """One peer's keys, bound to each other."""

    peer: PeerKey
    session: AccountKey
    binding: SignedBinding

    @property
    def peer_id(self) -> PeerId:
        """Its libp2p id."""
        return self.peer.peer_id


@cache
def identity(kind: str, number: int) -> Identity:
    """The one peer of that name: its keys are hashes of what they are for, and worth nothing elsewhere."""
    peer, session, owner = (
        keccak256(f"{kind} {number} {use}".encode()) for use in ("peer", "session", "owner")
    )
    key, account_key = PeerKey.generate(peer), AccountKey.from_secret(session)
    binding = bind(DOMAIN, AccountKey.from_secret(owner), account_key, key, 0, NEVER_S)
    return Identity(key, account_key, binding)


def make_manifest(number: int) -> AdapterManifest:
    """An adapter's manifest. Its author earns what no contributor does: attribution is not simulated here."""
    author = account("author", number)
    return AdapterManifest(
        name=f"adapter-{number}",
        base=BASE,
        weights=cid_of(f"weights {number}".encode()),
        weights_size=1,
        rank=RANK,
        alpha=RANK,
        targets=("q_proj",),
        template=bytes(32),
        datanets=(cid_of(b"datanet"),),
        recipe=Recipe("simulated", 1, 1, 1, RANK, RANK, 0, 0, "fp32", "{question}"),
        early_checkpoint=None,
        factors=None,
        split=DEFAULT_SPLIT,
        priors=(PriorWeight(author, PPM),),
        licence="none",
        author=bytes(32),
        author_payee=author,
    )


class VirtualClock:
    """Unix milliseconds that began with the simulation."""

    def __init__(self, kernel: TrioKernel) -> None:
        self._kernel = kernel

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return self._kernel.time_us() // 1000


class Unattributed:
    """No statements are made."""

    def expect(self, ask: Ask, receipt_hash: bytes) -> None:
        """Nobody waits."""

    def take(self, step: PaidStep) -> None:
        """Nothing is stated."""

    def give_up(self, receipt_hash: bytes) -> None:
        """Nothing was expected."""


@dataclass(frozen=True, slots=True)
class Library:
    """The adapters' manifests, by number and by id; everybody has them."""

    manifests: tuple[AdapterManifest, ...]
    by_id: dict[Cid, bytes]
    adapter_of: dict[Cid, int]

    async def fetch(self, cid: Cid, _limit: int) -> bytes:
        """A manifest's bytes."""
        return self.by_id[cid]


def make_library(count: int) -> Library:
    """So many adapters."""
    manifests = tuple(make_manifest(number) for number in range(count))
    ids = [record_cid(manifest) for manifest in manifests]
    return Library(
        manifests,
        {cid: encode(manifest) for cid, manifest in zip(ids, manifests, strict=True)},
        {cid: number for number, cid in enumerate(ids)},
    )


@dataclass(frozen=True, slots=True)
class Parts:
    """What all peers share. `lengths(ask)` are the tokens of a prompt and those that its answer will have."""

    scenario: Scenario
    library: Library
    clock: VirtualClock
    lengths: Callable[[int], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Served:
    """What a worker's service leaves behind: what its engine gave, and what it was paid."""

    process: ModelledProcess
    ledger: Ledger


def make_facts(scenario: Scenario) -> EngineFacts:
    """What the modelled engine says of itself."""
    workers = scenario.workers
    return EngineFacts(
        base=BASE,
        artefact=BASE,
        name="modelled",
        precision="fp32",
        tokenizer=bytes(32),
        chat_template=bytes(32),
        max_context=workers.max_context,
        max_batch=workers.max_batch,
        max_queue=min(65_535, workers.max_queue),
        pages=1,
        page_size=16,
        slots=workers.slots,
        max_rank=64,
        packed_sizes=(PackedSize(64, 1),),
    )


def make_offers(scenario: Scenario, own: Identity, people: People, number: int) -> Offers:
    """A worker's standing offer, with the prices that its people give it."""
    workers = scenario.workers
    fixed = (workers.max_context, workers.max_batch, 64, workers.slots, ())
    return Offers(Terms(lambda: own.binding, BASE, BASE, people.rates[number], BASE_SPLIT, *fixed))


def serve(
    host: MemoryHost,
    own: Identity,
    parts: Parts,
    offers: Offers,
    engine: Engine,
) -> Served:
    """Let a real worker service answer at this host, on a modelled engine and an empty store."""
    scenario, library, clock = parts.scenario, parts.library, parts.clock
    process = ModelledProcess(engine, make_facts(scenario), library.adapter_of, parts.lengths)
    store, catalog = open_memory_store(), Catalog(library.fetch)

    async def fetch(adapter: Cid) -> FetchedAdapter:
        return FetchedAdapter(await catalog.adapter(adapter), Path("modelled"))

    serving = ServingParts(
        domain=DOMAIN,
        lane_key=own.session,
        ledger=store.ledger,
        clock=clock,
        engine=cast(Any, process),
        channels=KeyedLock(),
        step_tokens=scenario.workers.receipt_tokens,
        attribution=Unattributed(),
    )
    service = WorkerService(
        DoorParts(
            serving=serving,
            requests=store.requests,
            records=store.records,
            catalog=catalog,
            adapters=AdapterStore(process, fetch),
            offers=offers,
            funds=Funds(None, own.session.address, scenario.work.deposit, store.ledger),
            chain_clock=chain_clock(scenario, clock),
            base_split=BASE_SPLIT,
        )
    )
    rpc = Rpc(cast(Any, host))
    service.register(rpc)
    rpc.serve(PREFETCH, _prefetching(engine, library))
    return Served(process, store.ledger)


def _prefetching(engine: Engine, library: Library) -> Callable[[Call], Any]:
    async def prefetch(call: Call) -> None:
        suggestion = decode(Suggestion, await call.receive())
        engine.prefetch(library.adapter_of[suggestion.adapter])

    return prefetch


def make_asker(
    host: MemoryHost,
    own: Identity,
    parts: Parts,
    scheduler: Scheduler,
    entropy: Callable[[int], bytes],
    nursery: trio.Nursery,
) -> Asker:
    """A real client at this host, with an empty store."""
    scenario, library, clock = parts.scenario, parts.library, parts.clock
    store, catalog = open_memory_store(), Catalog(library.fetch)
    attempts = AttemptParts(
        rpc=Rpc(cast(Any, host)),
        ledger=store.ledger,
        records=store.records,
        catalog=catalog,
        session=own.session,
        binding=lambda: own.binding,
        domain=DOMAIN,
        clock=clock,
        chain_clock=chain_clock(scenario, clock),
        channels=KeyedLock(),
        entropy=entropy,
        max_price=scenario.work.deposit,
    )
    asker = Asker(scheduler, attempts, catalog, nursery)
    nursery.start_soon(asker.run)
    return asker


def chain_clock(scenario: Scenario, clock: VirtualClock) -> ChainClock:
    """Epochs of the scenario's length, a second at least."""
    return ChainClock(clock, 0, max(1, scenario.money.epoch_ms // 1000))
