"""A network of up to 100,000 workers in closed form (`seats`), each gateway with a real scheduler (`desk`).

What is left out: a worker hears of no cancel and no prefetch, for what was fixed cannot change any more.
Money is prices only. State of asks is kept in arrays, so that a million of them fit.
"""

from __future__ import annotations

from array import array

from ..protocol.adverts import WorkerAd
from ..protocol.credits import BASE_SPLIT, compute_price
from ..protocol.ids import PeerId
from ..protocol.messages import RefusalCode
from ..scheduler.events import AskSpec, Completed, Event, Failed, Refused
from .agents import draw_map
from .asks import COMPLETED
from .desk import Desk
from .fleet import MOST_LISTED, engine_speed, made_up_binding
from .kernel import Kernel, rare_collection
from .kinds import Columns
from .models import Scenario
from .people import BASE, draw_people
from .seats import Seats, given_by
from .workload import draw_lives, draw_workload

NEVER_US = 1 << 62


class AskColumns:
    """What becomes of each ask, by its number; times are microseconds, 0 where they never came."""

    __slots__ = ("attempts", "began_us", "code", "delivered", "done_us", "first_us", "hit", "price", "worker")

    def __init__(self, count: int) -> None:
        empty = bytes(8 * count)
        self.attempts, self.worker, self.hit = array("q", empty), array("q", empty), array("q", empty)
        self.began_us, self.first_us, self.done_us = array("q", empty), array("q", empty), array("q", empty)
        self.delivered, self.price, self.code = array("q", empty), array("q", empty), array("q", empty)


class Crowd:
    """Everybody in one run of one arm.

    `worker_of` numbers peers; `fetched` counts adapters that came over the network, `volume` token units,
    `tokens` what each worker delivered.
    """

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario
        self.kernel = Kernel()
        self.volume = 0
        self.tokens = [0] * scenario.workers.count
        self._people = draw_people(scenario, seed)
        self._peers = self._people.peers
        self.worker_of = {peer: number for number, peer in enumerate(self._peers)}
        self._seats: dict[int, Seats] = {}
        self._dead: set[int] = set()
        self._lost_us = scenario.network.loss_detected_ms * 1000
        self._most_queued = (scenario.workers.max_queue or 1 << 62) - 1
        self._work = draw_workload(scenario, seed)
        self._asks = AskColumns(len(self._work))
        self._codes = [COMPLETED]
        self._phases, latencies = draw_map(scenario, seed)
        self.desks = [Desk(number, self, seed, each) for number, each in enumerate(latencies)]
        self._deaths: list[list[int]] = []
        self._plan_lives(seed)
        if len(self._work):
            self.kernel.at(self._work.arrival_us[0], self._arrive, 0)

    @property
    def fetched(self) -> int:
        """Adapters that came over the network."""
        return sum(seats.fetched for seats in self._seats.values())

    def run(self) -> None:
        """Until the last deadline has passed; every ask has an outcome then."""
        scenario = self.scenario
        rest_ms = scenario.work.deadline_ms + 2 * scenario.network.loss_detected_ms + 10_000
        with rare_collection():
            self.kernel.run((scenario.duration_ms + rest_ms) * 1000)
        assert min(self._asks.done_us, default=1), "every ask ends"

    def rows(self) -> Columns:
        """The columns of `service.summarise`, a row an ask."""
        work, asks = self._work, self._asks
        whole = [code == 0 for code in asks.code]
        since = zip(asks.first_us, asks.done_us, work.arrival_us, whole, strict=True)
        times = [
            (first - came if first else -1, done - came if ok else -1) for first, done, came, ok in since
        ]
        return {
            "ask": list(range(len(work))),
            "arrived_us": work.arrival_us,
            "adapter": work.adapter,
            "prompt_tokens": work.prompt_tokens,
            "output_tokens": work.output_tokens,
            "outcome": [self._codes[code] for code in asks.code],
            **{name: list(getattr(asks, name)) for name in ("attempts", "worker", "hit", "delivered")},
            "ttft_us": [first for first, _ in times],
            "total_us": [total for _, total in times],
            "wait_us": [began - came for began, came in zip(asks.began_us, work.arrival_us, strict=True)],
            "price": list(asks.price),
        }

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
        if worker in self._seats:
            self._seats[worker].die()

    def _advertise_on(self, worker: int, life_us: int) -> None:
        now_us = self.kernel.now_us
        if self.is_alive(worker) and self.death_after(worker, life_us) > now_us:
            self._advertise(worker)
            if now_us < self.scenario.duration_ms * 1000:
                interval_us = self.scenario.advert_interval_ms * 1000
                self.kernel.after(interval_us, self._advertise_on, worker, life_us)

    def _advertise(self, worker: int) -> None:
        now_us, people, workers = self.kernel.now_us, self._people, self.scenario.workers
        seats = self._seats.get(worker)
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

    def _arrive(self, number: int) -> None:
        work = self._work
        if number + 1 < len(work):
            self.kernel.at(work.arrival_us[number + 1], self._arrive, number + 1)
        self.desks[work.gateway[number]].ask(number)

    def spec(self, number: int) -> AskSpec:
        """What the scheduler is told of an ask."""
        work, adapter = self.scenario.work, self._work.adapter[number]
        return AskSpec(
            ask_id=number,
            base=BASE,
            adapters=(self._people.adapters[adapter],) if adapter >= 0 else (),
            prompt_tokens=self._work.prompt_tokens[number],
            max_tokens=work.max_output,
            max_price=work.deposit,
            deadline_ms=self.kernel.now_ms + work.deadline_ms,
        )

    def dispatch(self, number: int, worker: int, latency_us: int) -> tuple[int, Event, int]:
        """Send an ask to a worker: when the gateway hears of it next, what, and when the first token came (0:
        none)."""
        asks, work, sent_us, peer = self._asks, self._work, self.kernel.now_us, self._peers[worker]
        asks.attempts[number] += 1
        asks.worker[number] = worker
        done, there_us = asks.delivered[number], sent_us + latency_us
        death_us = self.death_after(worker, sent_us) if self._deaths[worker] else NEVER_US
        if worker in self._dead or death_us <= there_us:
            return there_us + self._lost_us, Failed(number, peer, done, 0), 0
        seats = self._seats.get(worker) or self._take_seats(worker)
        if seats.queued(there_us) > self._most_queued:
            return there_us + latency_us, Refused(number, peer, RefusalCode.BUSY), 0
        tokens, prompt = work.output_tokens[number] - done, work.prompt_tokens[number] + done
        first_us, last_us, hit = seats.take(there_us, work.adapter[number], prompt, tokens)
        if last_us >= death_us:
            given = given_by(first_us, last_us, death_us, tokens)
            event = Failed(number, peer, done + given, self._pay(number, worker, prompt, given))
            return death_us + self._lost_us, event, first_us + latency_us if given else 0
        asks.hit[number] = hit
        asks.began_us[number] = first_us - seats.prefill_us(prompt)
        heard_us, began_us = last_us + latency_us, first_us + latency_us
        ttft_ms, total_ms = (began_us - sent_us) // 1000, (heard_us - sent_us) // 1000
        return heard_us, Completed(number, peer, ttft_ms, total_ms, tokens), began_us

    def heard(self, number: int, worker: int, event: Event, first_us: int) -> None:
        """The gateway hears how a dispatch went."""
        asks = self._asks
        if first_us and not asks.first_us[number]:
            asks.first_us[number] = first_us
        if isinstance(event, Completed):
            before, tokens = asks.delivered[number], event.tokens
            self.tokens[worker] += tokens
            asks.delivered[number] = before + tokens
            self._pay(number, worker, self._work.prompt_tokens[number] + before, tokens)
            asks.done_us[number] = self.kernel.now_us
        elif isinstance(event, Failed):
            self.tokens[worker] += event.tokens - asks.delivered[number]
            asks.delivered[number] = event.tokens

    def peer_of(self, worker: int) -> PeerId:
        """A worker's id."""
        return self._peers[worker]

    def end(self, number: int, code: str) -> None:
        """An ask is over, and not answered."""
        if code not in self._codes:
            self._codes.append(code)
        self._asks.code[number] = self._codes.index(code)
        self._asks.done_us[number] = self.kernel.now_us

    def _pay(self, number: int, worker: int, prompt_tokens: int, tokens: int) -> int:
        price = compute_price(self._people.rates[worker], prompt_tokens, tokens) if tokens else 0
        self._asks.price[number] += price
        self.volume += price
        return self._asks.price[number]
