"""A network of up to 100,000 workers in closed form (`seats`), each gateway with a real scheduler (`desk`).

What is left out: a worker hears of no cancel and no prefetch, for what was fixed cannot change any more.
Money is prices only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...protocol.content.splits import BASE_SPLIT
from ...protocol.gossip.adverts import WorkerAd
from ...protocol.ids import PeerId
from ...protocol.inference.messages import RefusalCode
from ...protocol.receipts.credits import compute_price
from ...scheduler.events import AskArrived, AskSpec, Completed, Failed, Refused
from ..experiment.kinds import Columns
from ..experiment.models import Scenario
from ..modelled.asks import COMPLETED
from ..modelled.huge_pages import use_huge_pages
from ..modelled.kernel import Kernel, rare_collection
from ..modelled.seats import Seats, given_by
from ..workload.arrivals import draw_lives, draw_workload
from ..workload.people import BASE, draw_people
from .agents import draw_map
from .desk import Desk
from .fleet import MOST_LISTED, engine_speed, made_up_binding

NEVER_US = 1 << 62
MANY = 5_000
"""Workers from which on huge pages pay."""


class Trip:
    """An ask on its way: its last attempt, and what came of the ones before. Times are microseconds, 0 where
    they never came; `sent_us`, `began_us` and `hit` are of this attempt, `delivered` tokens and `price` of
    those before it; `code` counts in `Crowd`'s list of outcomes.
    """

    __slots__ = (
        "attempt",
        "began_us",
        "code",
        "delivered",
        "done_us",
        "first_us",
        "hit",
        "number",
        "price",
        "sent_us",
        "worker",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.attempt = self.worker = self.delivered = self.price = self.code = 0
        self.sent_us = self.began_us = self.first_us = self.done_us = 0
        self.hit = False


class Crowd:
    """Everybody in one run of one arm.

    `peers` are the workers' ids; `fetched` counts adapters that came over the network, `volume` token units,
    `tokens` what each worker delivered.
    """

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario
        self.kernel = Kernel()
        self.volume = 0
        self.tokens = [0] * scenario.workers.count
        self._people = draw_people(scenario, seed)
        self.peers = self._people.peers
        self._worker_of = {peer: number for number, peer in enumerate(self.peers)}
        self._seats: list[Seats | None] = [None] * scenario.workers.count
        self._dead: set[int] = set()
        self._is_mortal = scenario.churn.mean_lifetime_ms > 0
        self._lost_us = scenario.network.loss_detected_ms * 1000
        self._most_queued = scenario.workers.max_queue - 1
        self._work = draw_workload(scenario, seed)
        self._trips: list[Trip] = []
        self._codes = [COMPLETED]
        self._phases, latencies = draw_map(scenario, seed)
        self.desks = [Desk(number, self, seed, each) for number, each in enumerate(latencies)]
        self._deaths: list[list[int]] = []
        self._plan_lives(seed)
        if len(self._work):
            self.kernel.at(self._work.arrival_us[0], self._arrivals().__next__)

    @property
    def fetched(self) -> int:
        """Adapters that came over the network."""
        return sum(seats.fetched for seats in self._seats if seats is not None)

    def run(self) -> None:
        """Until the last deadline has passed; every ask has an outcome then."""
        scenario = self.scenario
        rest_ms = scenario.work.deadline_ms + 2 * scenario.network.loss_detected_ms + 10_000
        with rare_collection():
            if scenario.workers.count >= MANY:
                self.kernel.run(scenario.work.start_ms * 1000)  # when all are known, if any is known by then
                use_huge_pages()
            self.kernel.run((scenario.duration_ms + rest_ms) * 1000)
        assert all(trip.done_us for trip in self._trips), "every ask ends"
        self._settle()

    def rows(self) -> Columns:
        """The columns of `service.summarise`, a row an ask."""
        work, trips = self._work, self._trips
        pairs = [*zip(trips, work.arrival_us, strict=True)]
        return {
            "ask": list(range(len(work))),
            "arrived_us": work.arrival_us,
            "adapter": work.adapter,
            "prompt_tokens": work.prompt_tokens,
            "output_tokens": work.output_tokens,
            "outcome": [self._codes[trip.code] for trip in trips],
            "attempts": [trip.attempt for trip in trips],
            "worker": [trip.worker for trip in trips],
            "hit": [int(trip.hit) for trip in trips],
            "delivered": [trip.delivered for trip in trips],
            "ttft_us": [trip.first_us - came if trip.first_us else -1 for trip, came in pairs],
            "total_us": [-1 if trip.code else trip.done_us - came for trip, came in pairs],
            "wait_us": [trip.began_us - came for trip, came in pairs],
            "price": [trip.price for trip in trips],
        }

    def _settle(self) -> None:
        """What whole answers gave and cost, which nothing else hangs on."""
        work = self._work
        for trip in self._trips:
            if trip.code == 0:
                done, number = trip.delivered, trip.number
                tokens = work.output_tokens[number] - done
                self.tokens[trip.worker] += tokens
                self._pay(trip, work.prompt_tokens[number] + done, tokens)
                trip.delivered += tokens

    # ---- workers

    def _take_seats(self, worker: int) -> Seats:
        """A worker's state, made when it is first needed."""
        seats = self._seats[worker] = Seats(engine_speed(self.scenario, self._people.speed_ppm[worker]))
        return seats

    def death_after(self, worker: int, now_us: int) -> int:
        """When a living worker will die; long after the end where it will not."""
        return next((died_us for died_us in self._deaths[worker] if died_us > now_us), NEVER_US)

    def is_alive(self, worker: int) -> bool:
        """Whether it is on line."""
        return worker not in self._dead

    def _plan_lives(self, seed: int) -> None:
        churn, duration_ms = self.scenario.churn, self.scenario.duration_ms
        for worker in range(self.scenario.workers.count):
            lives = draw_lives(churn, duration_ms, seed, worker)
            self._deaths.append([died_us for _, died_us in lives] if churn.mean_lifetime_ms else [])
            for born_us, died_us in lives:
                self.kernel.at(born_us, self._be_born, worker, born_us)
                if churn.mean_lifetime_ms:
                    self.kernel.at(died_us, self._die, worker)

    def _be_born(self, worker: int, life_us: int) -> None:
        self._dead.discard(worker)
        self._advertise(worker)
        self.kernel.after(self._phases[worker], self._advertise_on, worker, life_us)

    def _die(self, worker: int) -> None:
        self._dead.add(worker)
        seats = self._seats[worker]
        if seats is not None:
            seats.die()

    def _advertise_on(self, worker: int, life_us: int) -> None:
        now_us = self.kernel.now_us
        if self.is_alive(worker) and self.death_after(worker, life_us) > now_us:
            self._advertise(worker)
            if now_us < self.scenario.duration_ms * 1000:
                interval_us = self.scenario.advert_interval_ms * 1000
                self.kernel.after(interval_us, self._advertise_on, worker, life_us)

    def _advertise(self, worker: int) -> None:
        now_us, people, workers = self.kernel.now_us, self._people, self.scenario.workers
        seats = self._seats[worker]
        resident = seats.resident(now_us) if seats else []
        ad = WorkerAd(
            binding=made_up_binding(people.lanes[worker]),
            base=BASE,
            artefact=BASE,
            rates=people.rates[worker],
            base_split=BASE_SPLIT,
            max_context=workers.max_context,
            max_batch=workers.max_batch,
            queue_depth=seats.queued(now_us) if seats else 0,
            running=seats.running(now_us) if seats else 0,
            free_pages=0,
            resident=tuple(people.adapters[each] for each in resident[:MOST_LISTED]),
            resident_count=len(resident),
            max_rank=64,
            addresses=(),
            seq=1 + now_us,
            issued_ms=self.kernel.now_ms,
        )
        for desk in self.desks:
            self.kernel.after(desk.latency_us[worker], desk.hear, worker, ad)

    # ---- asks

    def _arrivals(self) -> Iterator[int | None]:
        """Every ask in its turn, and how long it is to the next."""
        work, people, scenario = self._work, self._people, self.scenario.work
        adapters = [*((each,) for each in people.adapters), ()]
        nexts = [*work.arrival_us[1:], 0]
        asks = zip(work.arrival_us, nexts, work.adapter, work.prompt_tokens, work.gateway, strict=True)
        most, deposit, deadline_ms = scenario.max_output, scenario.deposit, scenario.deadline_ms
        for number, (came_us, next_us, adapter, prompt, gateway) in enumerate(asks):
            due_ms = came_us // 1000 + deadline_ms
            spec = AskSpec(number, BASE, adapters[adapter], prompt, most, deposit, due_ms)
            self._trips.append(Trip(number))
            self.desks[gateway].tell(AskArrived(spec))
            yield next_us - came_us if next_us else None

    def dispatch(self, desk: Desk, number: Any, peer: PeerId) -> None:
        """Send an ask to a worker, and plan when the gateway hears of it next."""
        trip, sent_us, worker = self._trips[number], self.kernel.now_us, self._worker_of[peer]
        latency_us = desk.latency_us[worker]
        there_us = sent_us + latency_us
        trip.attempt = attempt = trip.attempt + 1
        trip.worker, trip.sent_us = worker, sent_us
        if worker in self._dead or (self._is_mortal and self.death_after(worker, sent_us) <= there_us):
            failed, at_us = Failed(number, peer, trip.delivered, 0), there_us + self._lost_us
            self.kernel.at(at_us, self._hear_failure, desk, trip, attempt, failed, 0)
            return
        seats = self._seats[worker] or self._take_seats(worker)
        if seats.starts and seats.queued(there_us) > self._most_queued:
            refused = Refused(number, peer, RefusalCode.BUSY)
            self.kernel.at(there_us + latency_us, self._hear_failure, desk, trip, attempt, refused, 0)
            return
        work, done = self._work, trip.delivered
        prompt, tokens = work.prompt_tokens[number] + done, work.output_tokens[number] - done
        began_us, first_us, last_us, hit = seats.take(there_us, work.adapter[number], prompt, tokens)
        if self._is_mortal and last_us >= self.death_after(worker, sent_us):
            self._plan_loss(desk, trip, first_us, last_us)
            return
        trip.began_us, trip.hit = began_us, hit
        self.kernel.at(last_us + latency_us, self._hear_whole, desk, trip, attempt, first_us + latency_us)

    def _plan_loss(self, desk: Desk, trip: Trip, first_us: int, last_us: int) -> None:
        """The worker will die over this answer."""
        work, number, worker, done = self._work, trip.number, trip.worker, trip.delivered
        death_us = self.death_after(worker, trip.sent_us)
        given = given_by(first_us, last_us, death_us, work.output_tokens[number] - done)
        self._pay(trip, work.prompt_tokens[number] + done, given)
        failed = Failed(number, self.peers[worker], done + given, trip.price)
        heard_us = first_us + desk.latency_us[worker] if given else 0
        self.kernel.at(
            death_us + self._lost_us, self._hear_failure, desk, trip, trip.attempt, failed, heard_us
        )

    def _hear_whole(self, desk: Desk, trip: Trip, attempt: int, first_us: int) -> None:
        """An answer is whole; it counts unless the ask ended, or is elsewhere."""
        if trip.attempt != attempt or trip.done_us:
            return
        number, sent_us = trip.number, trip.sent_us
        if not trip.first_us:
            trip.first_us = first_us
        trip.done_us = now_us = self.kernel.now_us
        tokens = self._work.output_tokens[number] - trip.delivered
        ttft_ms, total_ms = (first_us - sent_us) // 1000, (now_us - sent_us) // 1000
        desk.tell(Completed(number, self.peers[trip.worker], ttft_ms, total_ms, tokens))

    def _hear_failure(
        self, desk: Desk, trip: Trip, attempt: int, event: Failed | Refused, first_us: int
    ) -> None:
        """An attempt failed, or was refused."""
        if trip.attempt != attempt or trip.done_us:
            return
        if first_us and not trip.first_us:
            trip.first_us = first_us
        if isinstance(event, Failed):
            self.tokens[trip.worker] += event.tokens - trip.delivered
            trip.delivered = event.tokens
        desk.tell(event)

    def end(self, number: Any, code: str) -> None:
        """An ask is over, and not answered."""
        if code not in self._codes:
            self._codes.append(code)
        trip = self._trips[number]
        trip.code, trip.done_us = self._codes.index(code), self.kernel.now_us

    def _pay(self, trip: Trip, prompt_tokens: int, tokens: int) -> None:
        if tokens:
            price = compute_price(self._people.rates[trip.worker], prompt_tokens, tokens)
            trip.price += price
            self.volume += price
