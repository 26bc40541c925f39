"""The workers of a run: a modelled engine behind the real admission, adverts and receipts; they are born and
die.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ...protocol.content.splits import BASE_SPLIT
from ...protocol.errors import Refused
from ...protocol.gossip.adverts import WorkerAd
from ...protocol.ids import Address
from ...protocol.inference.messages import RefusalCode
from ...protocol.signing.bindings import PeerBinding, SignedBinding
from ...scheduler.admission import Admission
from ..experiment.models import Scenario
from ..modelled.asks import Attempt
from ..modelled.kernel import Kernel
from ..modelled.workers import Engine, EngineSpeed, Job
from ..workload.people import BASE, People
from .accounts import Accounts, Bill

MOST_LISTED = 32
"""Adapters that an advert names."""


class Client(Protocol):
    """What a worker tells whoever sent it an attempt; each call arrives one latency after it is planned."""

    def refused(self, attempt: Attempt, code: str) -> None: ...
    def first_token(self, attempt: Attempt) -> None: ...
    def whole(self, attempt: Attempt, price: int) -> None: ...
    def lost(self, attempt: Attempt, tokens: int, price: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all agents of a run share. `publish` sends a worker's advert to everybody."""

    kernel: Kernel
    scenario: Scenario
    people: People
    accounts: Accounts
    publish: Callable[[int, WorkerAd], None]


class Worker:
    """One worker peer. `tokens` counts what it delivered."""

    def __init__(self, number: int, world: Surroundings, phase_us: int) -> None:
        self.number = number
        self.alive = False
        self.tokens = 0
        self._world = world
        self._phase_us = phase_us
        self._seq = 0
        self._life = 0
        self._broken_us = 0
        self._linked: set[Client] = set()
        self._admission = Admission()
        self._open: dict[Job, tuple[Attempt, Client]] = {}
        self._binding = made_up_binding(world.people.lanes[number])
        self.engine = Engine(world.kernel, engine_speed(world.scenario, world.people.speed_ppm[number]))

    # ---- life

    def be_born(self) -> None:
        """Come on line and say so; adverts follow at the network's interval, each worker in its own phase."""
        self.alive = True
        self._life += 1
        self._advertise()
        self._world.kernel.after(self._phase_us, self._advertise_on, self._life)

    def die(self) -> None:
        """Vanish without a word: what is paid for by then stays paid, connections break a while later."""
        self.alive = False
        delay_us = self._world.scenario.network.loss_detected_ms * 1000
        self._broken_us = self._world.kernel.now_us + delay_us
        for job in self.engine.stop():
            attempt, client = self._close(job)
            tokens = self.engine.delivered(job)
            receipt_tokens = self._world.scenario.workers.receipt_tokens
            price = self._pay(attempt, tokens // receipt_tokens * receipt_tokens)
            self.tokens += tokens
            self._world.kernel.after(delay_us, client.lost, attempt, tokens, price)

    def _advertise_on(self, life: int) -> None:
        if self.alive and life == self._life:
            self._advertise()
            interval_us = self._world.scenario.advert_interval_ms * 1000
            self._world.kernel.after(interval_us, self._advertise_on, life)

    def _advertise(self) -> None:
        workers, people = self._world.scenario.workers, self._world.people
        resident = self.engine.resident()
        listed = resident[:MOST_LISTED]
        self._seq += 1
        ad = WorkerAd(
            binding=self._binding,
            base=BASE,
            artefact=BASE,
            rates=people.rates[self.number],
            base_split=BASE_SPLIT,
            max_context=workers.max_context,
            max_batch=workers.max_batch,
            queue_depth=self.engine.queued,
            running=self.engine.running,
            free_pages=0,
            resident=tuple(people.adapters[each] for each in listed),
            resident_count=len(resident),
            max_rank=workers.max_rank,
            addresses=(),
            seq=self._seq,
            issued_ms=self._world.kernel.now_ms,
            resident_ranks=tuple(people.ranks[each] for each in listed),
            slots=workers.slots,
        )
        self._world.publish(self.number, ad)

    # ---- asks

    def receive(self, attempt: Attempt, client: Client) -> None:
        """An attempt arrives: take it, decline it, or be gone."""
        kernel, scenario = self._world.kernel, self._world.scenario
        if client in self._linked and attempt.sent_us < self._broken_us:
            kernel.at(self._broken_us, client.lost, attempt, 0, 0)  # over a connection that is no more
            return
        self._linked.discard(client)
        if not self.alive:
            kernel.after(scenario.network.loss_detected_ms * 1000, client.lost, attempt, 0, 0)
            return
        self._linked.add(client)
        if self.engine.queued >= scenario.workers.max_queue:
            kernel.after(attempt.latency_us, client.refused, attempt, RefusalCode.BUSY)
            return
        payer = attempt.ask.payer
        try:
            limit = self._world.accounts.limit(payer)
            self._admission.admit(self._world.people.payers[payer], attempt.max_price, 0, limit)
        except Refused as refusal:
            kernel.after(attempt.latency_us, client.refused, attempt, refusal.code)
            return
        self._take(attempt, client)

    def cancel(self, attempt: Attempt, client: Client) -> None:
        """The client stops waiting: it pays for what was delivered."""
        job = attempt.job
        if job is not None and not job.ended:
            self.engine.abort(job)
            self._close(job)
            tokens = self.engine.delivered(job)
            self.tokens += tokens
            self._world.kernel.after(
                attempt.latency_us, client.lost, attempt, tokens, self._pay(attempt, tokens)
            )

    def prefetch(self, adapter: int) -> None:
        """A gateway suggests an adapter."""
        if self.alive:
            self.engine.prefetch(adapter)

    def _take(self, attempt: Attempt, client: Client) -> None:
        ask = attempt.ask
        rank = self._world.people.ranks[ask.adapter] if ask.adapter >= 0 else 0
        tokens = attempt.prompt_tokens, attempt.output_tokens
        job = Job(ask.number, ask.adapter, *tokens, self._first, self._whole, rank)
        attempt.job = job
        self._open[job] = (attempt, client)
        self.engine.add(job)

    def _first(self, job: Job) -> None:
        attempt, client = self._open[job]
        self._world.kernel.after(attempt.latency_us, client.first_token, attempt)

    def _whole(self, job: Job) -> None:
        attempt, client = self._close(job)
        price = self._pay(attempt, job.output_tokens)
        self.tokens += job.output_tokens
        self._world.kernel.after(attempt.latency_us, client.whole, attempt, price)

    def _close(self, job: Job) -> tuple[Attempt, Client]:
        attempt, client = self._open.pop(job)
        self._admission.release(self._world.people.payers[attempt.ask.payer], attempt.max_price)
        return attempt, client

    def _pay(self, attempt: Attempt, tokens: int) -> int:
        ask = attempt.ask
        bill = Bill(ask.payer, self.number, ask.adapter, attempt.epoch, attempt.prompt_tokens, tokens)
        return self._world.accounts.pay(bill, self._world.scenario.workers.receipt_tokens)


def engine_speed(scenario: Scenario, speed_ppm: int) -> EngineSpeed:
    """The engine of a worker that takes `speed_ppm` millionths of the model's times."""
    workers = scenario.workers
    return EngineSpeed(
        max_batch=workers.max_batch,
        slots=workers.slots,
        disk=workers.disk,
        step_us=max(1, workers.step_us * speed_ppm // 1_000_000),
        step_us_per_sequence=workers.step_us_per_sequence * speed_ppm // 1_000_000,
        prefill_us_per_token=workers.prefill_us_per_token * speed_ppm // 1_000_000,
        overhead_us=workers.overhead_us * speed_ppm // 1_000_000,
        step_us_per_rank=workers.step_us_per_rank * speed_ppm // 1_000_000,
        load_us=workers.load_ms * 1000,
        download_us=workers.adapter_kb * 1_000_000 // workers.download_kb_s,
    )


def made_up_binding(lane: Address) -> SignedBinding:
    never = (1 << 64) - 1
    binding = PeerBinding(lane, lane, bytes(32), 0, never)
    return SignedBinding(binding, bytes(65), bytes(65), bytes(64))
