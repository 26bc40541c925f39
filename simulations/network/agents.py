"""The gateways of a run, each driving a real Scheduler, and the world that connects them with the fleet.

Rule of this file: what an agent says reaches another one only through the kernel, a latency later.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

from ...protocol.gossip.adverts import WorkerAd
from ...protocol.ids import PeerId
from ...protocol.receipts.credits import compute_price
from ...scheduler.events import (
    Abandon,
    AdvertSeen,
    AskArrived,
    AskSpec,
    Completed,
    Dispatch,
    Event,
    Failed,
    GiveUp,
    Prefetch,
    Progress,
    Refused,
    Tick,
    Wake,
)
from ...scheduler.view import worker_view
from ..experiment.models import Scenario
from ..modelled.asks import COMPLETED, Ask, Attempt
from ..modelled.kernel import Alarm, Kernel, rare_collection
from ..workload.arrivals import Stream, draw_lives, draw_workload, generator
from ..workload.people import BASE, People, draw_people
from ..workload.places import draw_latencies
from .accounts import Accounts
from .decisions import NotedScheduler
from .fleet import Surroundings, Worker
from .placing import advise


def draw_map(scenario: Scenario, seed: int) -> tuple[list[int], list[list[int]]]:
    """When in an interval each worker advertises, and the latencies from each gateway to each worker."""
    places = generator(seed, Stream.PLACES)
    count, interval_us = scenario.workers.count, scenario.advert_interval_ms * 1000
    phases: list[int] = places.integers(1, interval_us + 1, count).tolist()
    return phases, draw_latencies(scenario.network, places, count)


class Gateway:
    """Asks on behalf of its payers. `latency_us` is the one-way latency to each worker."""

    def __init__(self, number: int, world: World, seed: int, latency_us: list[int]) -> None:
        self.latency_us = latency_us
        self._world = world
        config = replace(world.scenario.scheduler, advert_lifetime_ms=world.scenario.advert_lifetime_ms)
        self.scheduler = NotedScheduler(config, seed * 1_000_003 + number)
        self._alarm = Alarm(world.kernel, lambda: self._tell(Tick()))
        self._asks: dict[int, Ask] = {}
        self._next_id = 0

    def hear(self, worker: int, ad: WorkerAd) -> None:
        """A worker's advert arrives."""
        peer = self._world.people.peers[worker]
        self._tell(AdvertSeen(worker_view(peer, ad, self._world.kernel.now_ms)))

    def ask(self, ask: Ask) -> None:
        """Somebody asks."""
        work, adapters = self._world.scenario.work, self._world.people.adapters
        ask.ask_id = self._next_id = self._next_id + 1
        self._asks[ask.ask_id] = ask
        spec = AskSpec(
            ask_id=ask.ask_id,
            base=BASE,
            adapters=(adapters[ask.adapter],) if ask.adapter >= 0 else (),
            prompt_tokens=ask.prompt_tokens,
            max_tokens=work.max_output,
            max_price=work.deposit,
            deadline_ms=self._world.kernel.now_ms + work.deadline_ms,
            rank=self._world.people.ranks[ask.adapter] if ask.adapter >= 0 else 0,
        )
        self._tell(AskArrived(spec))

    # ---- what workers say

    def refused(self, attempt: Attempt, code: str) -> None:
        if self._is_current(attempt):
            attempt.ask.drop(attempt)
            self._tell(Refused(attempt.ask.ask_id, self._peer(attempt), code))

    def first_token(self, attempt: Attempt) -> None:
        if self._is_current(attempt):
            now_us, ask = self._world.kernel.now_us, attempt.ask
            attempt.first_us = now_us
            if ask.first_us < 0:
                ask.first_us = now_us
            self._tell(Progress(ask.ask_id, self._peer(attempt), ask.delivered + 1))

    def whole(self, attempt: Attempt, price: int) -> None:
        ask, now_us = attempt.ask, self._world.kernel.now_us
        ask.price += price
        if not self._is_current(attempt):
            return
        ask.delivered += attempt.output_tokens
        assert attempt.job is not None, "only a taken attempt is answered"
        ask.hit, ask.outcome, ask.done_us, ask.worker = attempt.job.hit, COMPLETED, now_us, attempt.worker
        ask.began_us = attempt.job.began_us
        ask.drop(attempt)
        ttft_ms, total_ms = (attempt.first_us - attempt.sent_us) // 1000, (now_us - attempt.sent_us) // 1000
        self._tell(Completed(ask.ask_id, self._peer(attempt), ttft_ms, total_ms, attempt.output_tokens))
        del self._asks[ask.ask_id]

    def lost(self, attempt: Attempt, tokens: int, price: int) -> None:
        ask = attempt.ask
        ask.price += price
        if self._is_current(attempt):
            ask.delivered = min(ask.delivered + tokens, ask.output_tokens - 1)
            ask.drop(attempt)
            self._tell(Failed(ask.ask_id, self._peer(attempt), ask.delivered, ask.price))

    def _is_current(self, attempt: Attempt) -> bool:
        return attempt.ask.attempt is attempt or attempt.ask.hedge is attempt

    def _peer(self, attempt: Attempt) -> PeerId:
        return self._world.people.peers[attempt.worker]

    # ---- the scheduler

    def _tell(self, event: Event) -> None:
        for action in self.scheduler.step(self._world.kernel.now_ms, event):
            match action:
                case Dispatch(ask_id=ask_id, peer=peer, hedge=hedge):
                    self._dispatch(self._asks[int(ask_id)], self._world.index_of[peer], hedge=hedge)
                case Abandon(ask_id, peer):
                    self._abandon(self._asks[int(ask_id)], self._world.index_of[peer])
                case GiveUp(ask_id, code):
                    self._give_up(self._asks.pop(int(ask_id)), code)
                case Wake(at_ms):
                    self._alarm.set(at_ms * 1000)
                case Prefetch(peer, adapter):
                    worker = self._world.index_of[peer]
                    prefetch = self._world.workers[worker].prefetch
                    self._world.kernel.after(
                        self.latency_us[worker], prefetch, self._world.adapter_of[adapter]
                    )

    def _abandon(self, ask: Ask, worker: int) -> None:
        """The other attempt was first."""
        attempt = ask.attempt_at(worker)
        if attempt is not None:
            ask.drop(attempt)
            self._cancel(attempt)

    def _cancel(self, attempt: Attempt) -> None:
        cancel = self._world.workers[attempt.worker].cancel
        self._world.kernel.after(attempt.latency_us, cancel, attempt, self)

    def _dispatch(self, ask: Ask, worker: int, *, hedge: bool) -> None:
        world = self._world
        prompt_tokens = ask.prompt_tokens + ask.delivered
        attempt = Attempt(
            ask=ask,
            worker=worker,
            epoch=world.kernel.now_ms // world.scenario.money.epoch_ms,
            prompt_tokens=prompt_tokens,
            output_tokens=ask.output_tokens - ask.delivered,
            max_price=compute_price(
                world.people.rates[worker], prompt_tokens, world.scenario.work.max_output
            ),
            sent_us=world.kernel.now_us,
            latency_us=self.latency_us[worker],
        )
        if hedge:
            ask.hedge = attempt
        else:
            ask.attempt, ask.worker = attempt, worker
        ask.attempts += 1
        world.kernel.after(attempt.latency_us, world.workers[worker].receive, attempt, self)

    def _give_up(self, ask: Ask, code: str) -> None:
        ask.outcome, ask.done_us = code, self._world.kernel.now_us
        for attempt in (ask.attempt, ask.hedge):
            if attempt is not None:
                self._cancel(attempt)
        ask.attempt = ask.hedge = None


class World:
    """Everybody in one run of one arm, and the passing of its time."""

    def __init__(self, scenario: Scenario, seed: int, people: People | None = None) -> None:
        """`people`: others than those that the scenario would draw."""
        self.scenario = scenario
        self.kernel = Kernel()
        self.people = people or draw_people(scenario, seed)
        self.accounts = Accounts(self.people, scenario.money, scenario.work.deposit)
        self.index_of = {peer: number for number, peer in enumerate(self.people.peers)}
        self.adapter_of = {each: number for number, each in enumerate(self.people.adapters)}
        self.asks: list[Ask] = []
        surroundings = Surroundings(self.kernel, scenario, self.people, self.accounts, self._publish)
        phases, latencies = draw_map(scenario, seed)
        self.workers = [Worker(number, surroundings, phase) for number, phase in enumerate(phases)]
        self.gateways = [Gateway(number, self, seed, each) for number, each in enumerate(latencies)]
        self._workload = draw_workload(scenario, seed)
        self._plan_lives(seed)
        if scenario.workers.placement_ms:
            self.kernel.after(scenario.workers.placement_ms * 1000, self._place)
        if len(self._workload):
            self.kernel.at(self._workload.arrival_us[0], self._arrive, 0)

    def run(self) -> None:
        """Until the last deadline has passed; every ask has an outcome then."""
        rest_ms = self.scenario.work.deadline_ms + 2 * self.scenario.network.loss_detected_ms + 10_000
        with rare_collection():
            self.kernel.run((self.scenario.duration_ms + rest_ms) * 1000)
        unended = [ask.number for ask in self.asks if not ask.outcome]
        assert not unended, f"asks {unended[:5]} never ended"

    def _publish(self, worker: int, ad: WorkerAd) -> None:
        for gateway in self.gateways:
            self.kernel.after(gateway.latency_us[worker], gateway.hear, worker, ad)

    def _place(self) -> int | None:
        """Workers load some of what they are advised to hold and do not."""
        schedulers, models = [gateway.scheduler for gateway in self.gateways], self.scenario.workers
        plan = advise(schedulers, self.workers, self.people, self.kernel.now_ms)
        for worker in self.workers:
            held = {*worker.engine.resident()}
            advised = (self.adapter_of[each] for each in plan.get(self.people.peers[worker.number], ()))
            for adapter in islice((each for each in advised if each not in held), models.placement_loads):
                worker.prefetch(adapter)
        is_over = self.kernel.now_ms >= self.scenario.duration_ms
        return None if is_over else models.placement_ms * 1000

    def _plan_lives(self, seed: int) -> None:
        for worker in self.workers:
            for born_us, died_us in draw_lives(
                self.scenario.churn, self.scenario.duration_ms, seed, worker.number
            ):
                self.kernel.at(born_us, worker.be_born)
                self.kernel.at(died_us, worker.die)

    def _arrive(self, number: int) -> None:
        """An ask comes, and the next one is planned."""
        work = self._workload
        if number + 1 < len(work):
            self.kernel.at(work.arrival_us[number + 1], self._arrive, number + 1)
        ask = Ask(
            number=number,
            adapter=work.adapter[number],
            payer=work.payer[number],
            prompt_tokens=work.prompt_tokens[number],
            output_tokens=work.output_tokens[number],
            arrived_us=self.kernel.now_us,
        )
        self.asks.append(ask)
        self.gateways[work.gateway[number]].ask(ask)
