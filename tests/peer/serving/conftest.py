"""A worker and a client on real hosts and real stores; only the engine is made up, and answers as told."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import trio

from commonlore.peer.aio import open_aio
from commonlore.peer.asking.answers import Answer, AskOptions
from commonlore.peer.asking.asker import Asker
from commonlore.peer.asking.attempt import Attempt
from commonlore.peer.asking.attempt_parts import AttemptParts, AttemptTerms, Offer
from commonlore.peer.catalog import Catalog
from commonlore.peer.clock import ChainClock, WallClock
from commonlore.peer.keyed_lock import KeyedLock
from commonlore.peer.serving.conversation_parts import PaidStep, ServingParts
from commonlore.peer.serving.door import DoorParts, WorkerService
from commonlore.peer.serving.offers import Load, Offers
from commonlore.peer.serving.offers import Terms as Standing
from commonlore.peer.settling.funds import Funds
from commonlore.peer.store.ledger_rows import Channel, ReceiptState, Role
from commonlore.peer.store.node_store import Store, open_store
from commonlore.peer.wire.rpc import Rpc
from commonlore.protocol.content.manifests import AdapterManifest
from commonlore.protocol.content.splits import BASE_SPLIT
from commonlore.protocol.encoding.codec import encode, record_cid
from commonlore.protocol.errors import NotFound
from commonlore.protocol.gossip.adverts import Rates, WorkerAd
from commonlore.protocol.ids import Address, Cid, cid_of
from commonlore.protocol.inference.messages import Ask
from commonlore.protocol.requests.records import ChatMessage, Sampling
from commonlore.protocol.signing.bindings import SignedBinding, bind
from commonlore.protocol.signing.eip712 import Domain
from commonlore.protocol.signing.envelope import open_sealed, seal
from commonlore.protocol.signing.keys import AccountKey, PeerKey
from commonlore.scheduler.core import Scheduler, SchedulerConfig
from commonlore.worker.adapters.store import AdapterStore, FetchedAdapter
from commonlore.worker.engine.types import EngineFacts, GenerationRequest, TokenEvent

DOMAIN = Domain(31_337, Address(b"\xe5" * 20))
BASE, ARTEFACT = cid_of(b"base"), cid_of(b"artefact")
STEP_TOKENS = 4
RATES = Rates(prompt_per_1000=1_000, output_per_1000=10_000, request_fee=100)


def account(number: int) -> AccountKey:
    return AccountKey.from_secret(bytes([number]) * 32)


@dataclass
class MadeUpEngine:
    """Answers with the tokens 0, 1, 2, … of `prompt_tokens`; `gate` stops it before each token."""

    prompt_tokens: int = 7
    gate: Callable[[int], Any] | None = None
    resident: dict[Cid, int] = field(default_factory=dict)
    facts: EngineFacts = field(
        default_factory=lambda: EngineFacts(
            BASE, ARTEFACT, "made-up", "fp32", bytes(32), bytes(32), 4_096, 8, 8, 64, 16, 4, 64
        )
    )

    async def generate(self, wanted: GenerationRequest) -> AsyncIterator[TokenEvent]:
        first, last = len(wanted.delivered), wanted.sampling.max_tokens
        for token in range(first, last):
            await trio.lowlevel.checkpoint()
            if self.gate is not None:
                await self.gate(token)
            finish = "length" if token + 1 == last else None
            yield TokenEvent(
                wanted.request_id, (token,), f" {token}", prompt_tokens=self.prompt_tokens, finish=finish
            )

    async def count_tokens(self, messages: Any) -> int:
        return self.prompt_tokens

    async def load_adapter(self, source: Any) -> None:
        self.resident[source.adapter] = source.rank

    async def unload_adapter(self, adapter: Cid) -> None:
        self.resident.pop(adapter, None)


class Noted:
    """Attribution that only remembers which receipts somebody waits for."""

    def __init__(self) -> None:
        self.expected: set[bytes] = set()
        self.taken: list[PaidStep] = []

    def expect(self, ask: Ask, receipt_hash: bytes) -> None:
        self.expected.add(receipt_hash)

    def take(self, step: PaidStep) -> None:
        self.expected.discard(step.receipt_hash)
        self.taken.append(step)

    def give_up(self, receipt_hash: bytes) -> None:
        self.expected.discard(receipt_hash)


@dataclass
class Pair:
    """A worker and a client that talk over libp2p."""

    engine: MadeUpEngine
    service: WorkerService
    attribution: Noted
    worker_store: Store
    client_store: Store
    parts: AttemptParts
    offer: Offer
    offers: Offers
    bindings: list[SignedBinding]
    manifests: dict[Cid, bytes]
    third: Any
    """A further host that the client knows, where it was asked for."""

    def renew(self, not_after: int) -> None:
        """Bind the keys of both anew."""
        self.bindings[:] = _bind(self.parts.clock.now_ms() // 1000 - 60, not_after)

    def ad_of_third(self) -> WorkerAd:
        """What the third would offer: the worker's offer on its own lane."""
        return replace(self.offer.ad, binding=self.bindings[2])

    def publish(self, manifest: AdapterManifest) -> Cid:
        """Make a manifest known to both."""
        self.manifests[record_cid(manifest)] = encode(manifest)
        return record_cid(manifest)

    def options(self, **changed: Any) -> AskOptions:
        known: dict[str, Any] = {
            "messages": (ChatMessage("user", "how much is it?"),),
            "sampling": Sampling(seed=1, max_tokens=6),
        }
        return AskOptions(**known | changed)

    async def ask(
        self,
        *,
        max_price: int = 10_000,
        deadline_s: float = 60,
        has_other: Callable[[], bool] = lambda: False,
        take: Callable[[Any], Any] | None = None,
        adapters: tuple[Any, ...] = (),
        parts: AttemptParts | None = None,
        **changed: Any,
    ) -> Answer:
        """One attempt, to its end."""
        _, receive = trio.open_memory_channel[Any](0)
        answer = Answer(adapters, receive)
        deadline_ms = self.parts.clock.now_ms() + int(deadline_s * 1000)
        terms = AttemptTerms(BASE, deadline_ms, max_price, has_other)

        async def pass_on(delta: Any) -> None:
            if take is not None:
                await take(delta)

        await Attempt(parts or self.parts, self.options(**changed), answer, self.offer, terms).run(pass_on)
        return answer

    def asker(self, nursery: trio.Nursery, *adverts: tuple[WorkerAd, int]) -> Asker:
        """The client's, running; it has seen these adverts of hosts by number, or just the worker's."""
        asker = Asker(Scheduler(SchedulerConfig(), 7), self.parts, self.parts.catalog, nursery)
        for ad, host in adverts or ((self.offer.ad, 0),):
            self.see(asker, ad, host)
        nursery.start_soon(asker.run)
        return asker

    @staticmethod
    def see(asker: Asker, ad: WorkerAd, host: int) -> None:
        """The asker hears an advert, sealed by a host's key."""
        asker.see(open_sealed(seal(PeerKey.generate(bytes([host + 1]) * 32), ad), (WorkerAd,)))

    async def idle(self) -> None:
        """The client has its answer a moment before the worker has written down its voucher."""
        with trio.fail_after(60):
            while self.service.serving_now:  # noqa: ASYNC110 - it raises no event
                await trio.sleep(0.005)

    async def channels(self) -> tuple[Channel, Channel]:
        """The channel as the worker and as the client know it, when the worker has done."""
        await self.idle()
        payer = self.parts.session.address
        return (
            await self.worker_store.ledger.channel(Role.WORKER, payer, self.lane),
            await self.client_store.ledger.channel(Role.CLIENT, payer, self.lane),
        )

    async def states(self) -> list[ReceiptState]:
        """Of the worker's receipts, the oldest first, when it has done."""
        await self.idle()
        return [stored.state for stored in reversed(await self.worker_store.ledger.receipts())]

    @property
    def lane(self) -> Address:
        return self.offer.ad.binding.binding.session_key


@pytest.fixture
def pair(hosts: Any, tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Pair]]:
    """Opens a `Pair`; `credit` is what the worker lends a payer, `third` asks for a further host."""

    @asynccontextmanager
    async def open_pair(
        credit: int = 1_000_000, engine: MadeUpEngine | None = None, third: bool = False
    ) -> AsyncIterator[Pair]:
        async with AsyncExitStack() as stack:
            opened = await stack.enter_async_context(hosts(3 if third else 2))
            if third:
                await opened[1].connect(opened[2].addresses[0])
            aio = await stack.enter_async_context(open_aio())
            stores = [
                await stack.enter_async_context(open_store(tmp_path / name, aio)) for name in ("w.db", "c.db")
            ]
            yield _make_pair(opened, stores, credit, engine or MadeUpEngine())

    return open_pair


def _make_pair(opened: list[Any], stores: list[Store], credit: int, engine: Any) -> Pair:
    worker_host, client_host, third = (*opened, None)[:3]
    clock = WallClock()
    chain_clock = ChainClock(clock, 0, 3_600)
    now = clock.now_ms() // 1000
    lane, session = account(11), account(12)
    bindings = _bind(now - 60, now + 30 * 86_400)
    manifests: dict[Cid, bytes] = {}

    async def fetch(cid: Cid, _limit: int) -> bytes:
        if cid not in manifests:
            raise NotFound(f"nobody has {cid}")
        return manifests[cid]

    offers = Offers(
        Standing(
            lambda: bindings[0],
            BASE,
            ARTEFACT,
            RATES,
            BASE_SPLIT,
            4_096,
            8,
            64,
            4,
            tuple(worker_host.addresses),
        )
    )
    ad = offers.advertise(Load(), 1, clock.now_ms())
    attribution = Noted()
    worker_catalog, client_catalog = Catalog(fetch), Catalog(fetch)

    async def fetch_adapter(adapter: Cid) -> FetchedAdapter:
        return FetchedAdapter(await worker_catalog.adapter(adapter), Path("weights"))

    serving = ServingParts(
        DOMAIN, lane, stores[0].ledger, clock, engine, KeyedLock(), STEP_TOKENS, attribution
    )
    service = WorkerService(
        DoorParts(
            serving=serving,
            requests=stores[0].requests,
            records=stores[0].records,
            catalog=worker_catalog,
            adapters=AdapterStore(engine, fetch_adapter),
            offers=offers,
            funds=Funds(None, lane.address, credit, stores[0].ledger),
            chain_clock=chain_clock,
            base_split=BASE_SPLIT,
        )
    )
    service.register(Rpc(worker_host))
    parts = AttemptParts(
        rpc=Rpc(client_host),
        ledger=stores[1].ledger,
        records=stores[1].records,
        catalog=client_catalog,
        session=session,
        binding=lambda: bindings[1],
        domain=DOMAIN,
        clock=clock,
        chain_clock=chain_clock,
        channels=KeyedLock(),
        entropy=os.urandom,
        max_price=1_000_000,
    )
    offer = Offer(worker_host.peer_id, ad, _advert_hash(ad))
    made = (engine, service, attribution, stores[0], stores[1], parts, offer, offers, bindings, manifests)
    return Pair(*made, third)


def _bind(not_before: int, not_after: int) -> list[SignedBinding]:
    """The bindings of the worker, the client and the third; their peer keys are those of the hosts."""
    return [
        bind(
            DOMAIN,
            account(21 + n),
            account(11 + n),
            PeerKey.generate(bytes([n + 1]) * 32),
            not_before,
            not_after,
        )
        for n in range(3)
    ]


def _advert_hash(ad: Any) -> bytes:
    from commonlore.protocol.gossip.rules import advert_hash

    return advert_hash(ad)
