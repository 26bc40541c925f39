"""A modelled engine: continuous batching with adapter slots, told in a few events an answer rather than one a
token.

Rules of this file: all sequences of a batch advance together, a step taking `step_us` + n ·
`step_us_per_sequence` (more where ranks cost), so progress is one number and the next to finish is the one
that needs least of it; a prefill holds decoding up; a job whose adapter is still loading lets others pass;
adapters in use are never evicted. What is left out: preemption, KV memory, prefix reuse, chunked prefill.
Times are whole microseconds, progress is in millionths of a step.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

from .kernel import Alarm, Kernel
from .machines import Machine

MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class EngineSpeed:
    """One worker's costs, its speed included."""

    max_batch: int
    slots: int
    disk: int
    step_us: int
    step_us_per_sequence: int
    prefill_us_per_token: int
    load_us: int
    download_us: int
    overhead_us: int = 0
    step_us_per_rank: int = 0


@dataclass(slots=True, eq=False)
class Job:
    """An answer under way at one worker. `adapter` is an index, or negative for the base alone; `hit` says
    whether its adapter was in a slot when it came. The `on_` calls tell its owner; times are microseconds, -1
    while unknown.
    """

    number: int
    adapter: int
    prompt_tokens: int
    output_tokens: int
    on_first: Callable[[Job], None]
    on_whole: Callable[[Job], None]
    rank: int = 0
    hit: bool = False
    came_us: int = -1
    claimed_us: int = -1
    began_us: int = -1
    first_us: int = -1
    joined: int = 0
    ended: bool = False


class Engine:
    """The modelled engine of one worker, on a machine of its own unless one is given. `fetched` counts
    adapters that came over the network."""

    def __init__(self, kernel: Kernel, speed: EngineSpeed, machine: Machine | None = None) -> None:
        self.speed = speed
        self._machine = machine or Machine()
        self._machine.join(self)
        self._is_working = False
        self.fetched = 0
        self._kernel = kernel
        self._queue: dict[Job, None] = {}
        self._prefilling: Job | None = None
        self._running: list[tuple[int, int, Job]] = []
        self._batch = 0
        self._progress = 0
        self._counted_us = 0
        self._finish = Alarm(kernel, self._finish_next)
        self._read = Alarm(kernel, self._begin_decoding)
        self._unread_us = 0
        self._slots: OrderedDict[int, int] = (
            OrderedDict()
        )  # adapter -> jobs using it; the least recently used first
        self._loading: dict[int, Alarm] = {}
        self._disk: OrderedDict[int, None] = OrderedDict()
        self._line_free_us = 0

    @property
    def queued(self) -> int:
        """Jobs not yet being answered."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Jobs being answered."""
        return self._batch + (self._prefilling is not None)

    def resident(self) -> list[int]:
        """Adapters ready in slots, the most recently used first."""
        return [adapter for adapter in reversed(self._slots) if adapter not in self._loading]

    def add(self, job: Job) -> None:
        """Take a job; its calls follow."""
        job.came_us = self._kernel.now_us
        job.hit = job.adapter < 0 or self._is_ready(job.adapter)
        self._queue[job] = None
        self._pump()

    def prefetch(self, adapter: int) -> None:
        """Load an adapter for later, if a slot is free or unused."""
        if adapter not in self._slots:
            self._load(adapter, users=0)

    def abort(self, job: Job) -> None:
        """Stop a job; `delivered` still says what it had given. It calls nobody any more."""
        if job.ended:
            return
        self.settle()
        queued = job in self._queue
        self._end(job)
        if queued:
            del self._queue[job]
        elif job is not self._prefilling:
            self._running = [entry for entry in self._running if entry[2] is not job]
            self._running.sort()
            self._batch -= 1
        self._plan()
        self._pump()

    def stop(self) -> list[Job]:
        """The worker dies: every job ends where it is, slots empty, the disk stays.

        Returns the jobs, oldest first.
        """
        self.settle()
        jobs = [*(job for _, _, job in self._running), *self._queue]
        if self._prefilling is not None and not self._prefilling.ended:
            jobs.append(self._prefilling)
        for job in jobs:
            self._end(job)
        for alarm in self._loading.values():
            alarm.clear()
        self._read.clear()
        self._queue, self._running, self._batch, self._prefilling = {}, [], 0, None
        self._loading, self._slots = {}, OrderedDict()
        self._plan()
        return sorted(jobs, key=lambda job: job.number)

    def delivered(self, job: Job) -> int:
        """Output tokens that a job has given by now."""
        if job.first_us < 0:
            return 0
        return min(job.output_tokens, 1 + (self._progress_now() - job.joined) // MICRO)

    # ---- answering

    def _pump(self) -> None:
        """Begin what can begin: loads for those who wait, then the prefill of the first who is ready."""
        for job in list(self._queue):
            if self._claim(job) and self._may_prefill(job):
                self._prefill(job)

    def _may_prefill(self, job: Job) -> bool:
        has_room = self._prefilling is None and self._batch < self.speed.max_batch
        return has_room and (job.adapter < 0 or self._is_ready(job.adapter))

    def _prefill(self, job: Job) -> None:
        self.settle()
        del self._queue[job]
        self._prefilling = job
        job.began_us = self._kernel.now_us
        self._unread_us = self.speed.overhead_us + job.prompt_tokens * self.speed.prefill_us_per_token
        self._plan()

    def _begin_decoding(self) -> None:
        job = self._prefilling
        assert job is not None, "a worker that dies stops reading"
        self._prefilling = None
        self._counted_us = self._kernel.now_us
        if not job.ended:
            job.first_us, job.joined = self._kernel.now_us, self._progress
            self._batch += 1
            heappush(self._running, (self._progress + (job.output_tokens - 1) * MICRO, job.number, job))
            job.on_first(job)
        self._plan()
        self._pump()

    def _finish_next(self) -> None:
        self.settle()
        goal, _, job = heappop(self._running)
        self._progress = max(self._progress, goal)
        self._batch -= 1
        self._end(job)
        self._plan()
        job.on_whole(job)
        self._pump()

    def _plan(self) -> None:
        """Ring when the prompt is read or, where none is, the next job of the batch has all its tokens."""
        is_working = self._prefilling is not None or self._batch > 0
        if is_working is not self._is_working:
            self._is_working = is_working
            self._machine.work(1 if is_working else -1)
        self.replan()

    def replan(self) -> None:
        """The same, without a word to the machine."""
        if self._prefilling is not None:
            self._finish.clear()
            self._read.set(self._counted_us + -(-self._unread_us * self._machine.pace_ppm // MICRO))
        elif self._running:
            missing = max(0, self._running[0][0] - self._progress)
            self._finish.set(self._counted_us + -(-missing * self._step_us() // MICRO))
        else:
            self._finish.clear()

    def settle(self) -> None:
        """Count the progress made since it was counted last."""
        now_us = self._kernel.now_us
        if self._prefilling is not None:
            read_us = (now_us - self._counted_us) * MICRO // self._machine.pace_ppm
            self._unread_us = max(0, self._unread_us - read_us)
        self._progress = self._progress_now()
        self._counted_us = now_us

    def _progress_now(self) -> int:
        if not self._batch or self._prefilling is not None:
            return self._progress
        return self._progress + (self._kernel.now_us - self._counted_us) * MICRO // self._step_us()

    def _step_us(self) -> int:
        speed = self.speed
        step_us = speed.step_us + self._batch * speed.step_us_per_sequence
        if speed.step_us_per_rank:
            largest = max((job.rank for _, _, job in self._running), default=0)
            step_us += self._batch * largest * speed.step_us_per_rank
        return step_us * self._machine.pace_ppm // MICRO

    def _end(self, job: Job) -> None:
        job.ended = True
        if job.adapter >= 0 and job.claimed_us >= 0:
            self._slots[job.adapter] -= 1

    # ---- adapters

    def _is_ready(self, adapter: int) -> bool:
        return adapter in self._slots and adapter not in self._loading

    def _claim(self, job: Job) -> bool:
        """Hold the job's adapter in a slot, loading it where it is not; False while every slot is in use."""
        if job.adapter < 0 or job.claimed_us >= 0:
            return True
        if job.adapter in self._slots:
            self._slots[job.adapter] += 1
            self._slots.move_to_end(job.adapter)
        elif not self._load(job.adapter, users=1):
            return False
        job.claimed_us = self._kernel.now_us
        return True

    def _load(self, adapter: int, users: int) -> bool:
        if len(self._slots) >= self.speed.slots and not self._evict():
            return False
        self._slots[adapter] = users
        loaded_us = self._kernel.now_us + self.speed.load_us
        if adapter not in self._disk:
            self._line_free_us = max(self._line_free_us, self._kernel.now_us) + self.speed.download_us
            loaded_us = self._line_free_us + self.speed.load_us
            self.fetched += 1
        self._keep(adapter)
        self._loading[adapter] = Alarm(self._kernel, lambda: self._loaded(adapter))
        self._loading[adapter].set(loaded_us)
        return True

    def _loaded(self, adapter: int) -> None:
        del self._loading[adapter]
        self._pump()

    def _evict(self) -> bool:
        for adapter, users in self._slots.items():
            if users == 0 and adapter not in self._loading:
                del self._slots[adapter]
                return True
        return False

    def _keep(self, adapter: int) -> None:
        self._disk[adapter] = None
        self._disk.move_to_end(adapter)
        while len(self._disk) > self.speed.disk:
            self._disk.popitem(last=False)
