"""A scenario with real peers in virtual time: real protocol, receipts and retries, up to some 2,000 peers.

The same workload, latencies, lives and engine model as `agents.World`, and the same scheduler; so both take
the same decisions, which a test holds. Each gateway is one payer here. Schedulers believe prompts to have
`LEAST_PROMPT` tokens at least, as a client's estimate does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import trio

from ...peer.asking.answers import AskOptions
from ...peer.asking.asker import Asker
from ...peer.serving.offers import Load, Offers
from ...protocol.encoding.fields import PPM
from ...protocol.errors import CommonloreError
from ...protocol.gossip.adverts import WorkerAd
from ...protocol.ids import PeerId
from ...protocol.requests.records import ChatMessage, Sampling
from ...protocol.signing.envelope import open_sealed, seal
from ..experiment.models import Scenario
from ..modelled.asks import COMPLETED, Ask
from ..modelled.workers import Engine
from ..network.accounts import Settlement
from ..network.agents import draw_map
from ..network.decisions import Decision, NotedScheduler
from ..network.fleet import MOST_LISTED, engine_speed
from ..workload.arrivals import Stream, draw_lives, draw_workload, generator
from ..workload.people import BASE, People, draw_people
from .engine import LEAST_PROMPT, prompt_of
from .kernel import TrioKernel
from .money import settle_ledgers
from .peers import (
    Identity,
    Parts,
    Served,
    VirtualClock,
    identity,
    make_asker,
    make_library,
    make_offers,
    serve,
)
from .time import drive, run_virtually
from .wire import MemoryHost, Wire

LAST_VOUCHERS_S = 30


@dataclass(slots=True)
class _Worker:
    """One worker: what is real of it, and its engine's model."""

    number: int
    own: Identity
    host: MemoryHost
    engine: Engine
    offers: Offers
    served: Served
    life: int = 0
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """What came of a run: its asks, the decisions of each gateway, the tokens that each worker gave, adapters
    that were fetched, and the end of all money."""

    asks: list[Ask]
    decisions: list[list[Decision]]
    tokens: list[int]
    fetched: int
    settlement: Settlement
    events: int


def real_people(scenario: Scenario, seed: int) -> People:
    """The people of a run with ids that real keys and manifests have."""
    own = [identity("worker", number) for number in range(scenario.workers.count)]
    library = make_library(scenario.adapters.count)
    return replace(
        draw_people(scenario, seed),
        peers=tuple(each.peer_id for each in own),
        lanes=tuple(each.session.address for each in own),
        adapters=tuple(library.by_id),
    )


def run_virtual(scenario: Scenario, seed: int) -> Told:
    """One arm with one seed, with real peers; the same for the same seed."""
    with _quiet():
        return run_virtually(lambda: _simulate(scenario, seed), seed)


@contextmanager
def _quiet() -> Iterator[None]:
    """Real peers log whom they lost, which is what churn is for."""
    log = logging.getLogger("commonlore.peer")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


async def _simulate(scenario: Scenario, seed: int) -> Told:
    async with trio.open_nursery() as nursery:
        world = _VirtualWorld(scenario, seed, nursery)
        nursery.start_soon(drive, world.kernel)
        await world.run()
        told = await world.told()
        nursery.cancel_scope.cancel()
    return told


class _VirtualWorld:
    """Everybody in one run."""

    def __init__(self, scenario: Scenario, seed: int, nursery: trio.Nursery) -> None:
        self.kernel = TrioKernel()
        self.asks: list[Ask] = []
        self._scenario = scenario
        self._nursery = nursery
        self._people = real_people(scenario, seed)
        self._work = draw_workload(scenario, seed)
        self._phases, self._latencies = draw_map(scenario, seed)
        library, clock = make_library(scenario.adapters.count), VirtualClock(self.kernel)
        work = self._work
        lengths = list(zip(work.prompt_tokens, work.output_tokens, strict=True))
        self._parts = Parts(scenario, library, clock, lengths.__getitem__)
        clients = [identity("client", number) for number in range(scenario.network.gateways)]
        self._number_of = {each.peer_id: number for number, each in enumerate(clients)}
        self._worker_of = {peer: number for number, peer in enumerate(self._people.peers)}
        lost_us = scenario.network.loss_detected_ms * 1000
        self._wire = Wire(self.kernel, self._latency_us, lost_us, nursery)
        self.schedulers = [self._make_scheduler(seed, number) for number in range(len(clients))]
        self._askers = [self._make_asker(own, number, seed) for number, own in enumerate(clients)]
        self._workers = [self._make_worker(number) for number in range(scenario.workers.count)]
        for worker in self._workers:
            for born_us, died_us in draw_lives(scenario.churn, scenario.duration_ms, seed, worker.number):
                self.kernel.at(born_us, self._be_born, worker)
                self.kernel.at(died_us, self._die, worker)

    async def run(self) -> None:
        """Ask what the workload says; every ask has an outcome when this returns."""
        async with trio.open_nursery() as asking:
            for number, arrival_us in enumerate(self._work.arrival_us):
                await trio.sleep_until(arrival_us / 1e6)
                asking.start_soon(self._ask, number)

    async def told(self) -> Told:
        """What came of it, once the last vouchers have arrived."""
        await trio.sleep(LAST_VOUCHERS_S)
        for ask in self.asks:
            self._add_job(ask)
        people, money = self._people, self._scenario.money
        ledgers = [worker.served.ledger for worker in self._workers]
        return Told(
            asks=self.asks,
            decisions=[each.decisions for each in self.schedulers],
            tokens=[worker.served.process.tokens for worker in self._workers],
            fetched=sum(worker.engine.fetched for worker in self._workers),
            settlement=await settle_ledgers(ledgers, people, trees=money.trees),
            events=self.kernel.events,
        )

    def _add_job(self, ask: Ask) -> None:
        """What the engine of the last worker knows of an ask."""
        job = self._workers[ask.worker].served.process.jobs.get(ask.number) if ask.worker >= 0 else None
        if job is not None and ask.outcome == COMPLETED:
            ask.hit, ask.began_us = job.hit, job.began_us

    def _latency_us(self, one: PeerId, other: PeerId) -> int:
        client, worker = (one, other) if one in self._number_of else (other, one)
        return self._latencies[self._number_of[client]][self._worker_of[worker]]

    def _make_scheduler(self, seed: int, number: int) -> NotedScheduler:
        config = replace(self._scenario.scheduler, advert_lifetime_ms=self._scenario.advert_lifetime_ms)
        return NotedScheduler(config, seed * 1_000_003 + number)

    def _make_asker(self, own: Identity, number: int, seed: int) -> Asker:
        host = MemoryHost(own.peer_id, self._wire)
        entropy = generator(seed, Stream.ENTROPY, number).bytes
        return make_asker(host, own, self._parts, self.schedulers[number], entropy, self._nursery)

    def _make_worker(self, number: int) -> _Worker:
        own = identity("worker", number)
        speed = engine_speed(self._scenario, self._people.speed_ppm[number])
        host, engine = MemoryHost(own.peer_id, self._wire), Engine(self.kernel, speed)
        offers = make_offers(self._scenario, own, self._people, number)
        return _Worker(number, own, host, engine, offers, serve(host, own, self._parts, offers, engine))

    # ---- lives and adverts, as in `fleet`

    def _be_born(self, worker: _Worker) -> None:
        worker.host.alive = True
        worker.life += 1
        self._advertise(worker)
        self.kernel.after(self._phases[worker.number], self._advertise_on, worker, worker.life)

    def _die(self, worker: _Worker) -> None:
        worker.life += 1
        worker.engine.stop()
        worker.host.die()

    def _advertise_on(self, worker: _Worker, life: int) -> None:
        if worker.host.alive and life == worker.life:
            self._advertise(worker)
            self.kernel.after(self._scenario.advert_interval_ms * 1000, self._advertise_on, worker, life)

    def _advertise(self, worker: _Worker) -> None:
        engine, worker.seq = worker.engine, worker.seq + 1
        resident = engine.resident()
        named = tuple((self._people.adapters[each], 8) for each in resident[:MOST_LISTED])
        load = Load(engine.queued, engine.running, 0, named, len(resident))
        ad = worker.offers.advertise(load, worker.seq, self.kernel.now_ms)
        sealed = open_sealed(seal(worker.own.peer, ad), (WorkerAd,))
        for number, asker in enumerate(self._askers):
            self.kernel.after(self._latencies[number][worker.number], asker.see, sealed)

    # ---- asks

    async def _ask(self, number: int) -> None:
        work, gateway = self._work, self._work.gateway[number]
        ask = Ask(
            number,
            work.adapter[number],
            work.payer[number],
            work.prompt_tokens[number],
            work.output_tokens[number],
            self.kernel.time_us(),
        )
        self.asks.append(ask)
        try:
            async with self._askers[gateway].ask(self._options(number)) as answer:
                async for delta in answer:
                    ask.delivered += len(delta.tokens)
                    ask.first_us = self.kernel.time_us() if ask.first_us < 0 else ask.first_us
                ask.outcome, ask.done_us = COMPLETED, self.kernel.time_us()
        except CommonloreError as error:
            ask.outcome, ask.done_us = error.code, self.kernel.time_us()
        script = answer.transcript
        ask.price, ask.attempts = script.price, len(script.workers)
        ask.worker = self._worker_of[script.workers[-1]] if script.workers else -1

    def _options(self, number: int) -> AskOptions:
        work, adapter = self._work, self._work.adapter[number]
        prompt = prompt_of(number, max(LEAST_PROMPT, work.prompt_tokens[number]))
        return AskOptions(
            messages=(ChatMessage("user", prompt),),
            adapters=((self._people.adapters[adapter], PPM),) if adapter >= 0 else (),
            base=BASE,
            sampling=Sampling(seed=number, max_tokens=self._scenario.work.max_output),
            max_price=self._scenario.work.deposit,
            deadline_s=self._scenario.work.deadline_ms / 1000,
        )
