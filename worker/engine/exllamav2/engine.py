"""The Engine on exllamav2: its generator steps, this class keeps requests, adapters and deadlines.

Rules of this file:
- exllamav2 reserves the pages of a whole answer when it starts one, so nothing that runs runs out of them;
  the context is at most all pages.
- A running request is one job of the generator. One that gives way (`admission`) loses its job and its pages,
  not its tokens; it is another job later.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from pathlib import Path

from ....protocol.errors import LocalProtocolError, Refused
from ....protocol.ids import Cid
from ....protocol.inference.messages import RefusalCode
from ...models.artefacts import load_artefact
from ...models.reference import load_base
from ..batching.fairness import OUTPUT_WEIGHT
from ..batching.pages import root_key
from ..batching.prompts import Prepared
from ..batching.sequence import Sequence as Request
from ..decoding.noise import load_noise
from ..engine import LoadedAdapter
from ..lora.layout import rank_bucket
from ..lora.tiers import AdapterTiers
from ..tiered_engine import TieredEngine
from ..types import (
    MAX_LISTED_ADAPTERS,
    EngineConfig,
    EngineStats,
    FinishReason,
    RankCount,
    TokenEvent,
)
from .admission import Admission, composition_of
from .device import DeviceSlots
from .library import Library, load_library
from .lora import FactorLayout
from .model import facts_of, limits_of, open_model
from .requirements import check_requirements
from .rules import JobRules, event_of
from .start import start_generator

log = logging.getLogger("commonlore.worker.engine")


class ExLlamaV2Engine(TieredEngine):
    """One EXL2 base, exllamav2's paged cache, a LoRA composition per request."""

    def __init__(self, config: EngineConfig, library: Library, *, mixed: bool = True) -> None:
        """Load the base; not `mixed` is drain-and-switch. Raises InvalidModel, ConfigError."""
        base, artefact = load_base(Path(config.base_dir)), load_artefact(Path(config.artefact_dir))
        limits = limits_of(config, base)
        opened = open_model(library, artefact.directory, base.architecture, limits)
        load_noise()
        self._layout = FactorLayout(opened.shapes)
        facts = facts_of(config, base, artefact, self._layout)
        self._job = library.subclass(JobRules, library.job)
        self._generator = start_generator(library, opened, limits, base.architecture.vocabulary, mixed)
        self._open(base, facts, AdapterTiers(self._layout, config.slots, config.adapter_ram))
        self._slots = DeviceSlots(self._layout, self._adapters.table, opened.device)
        self._adapters.pools = self._slots
        self._admission = Admission(self._adapters.table, config.max_batch, self._generator.mode.may_join)
        self._requests: dict[bytes, Request] = {}
        self._jobs: dict[bytes, JobRules] = {}
        self._over_before_it_began: list[TokenEvent] = []
        self._stuck = False  # nothing can be computed until something changes
        self._steps = self._output_tokens = self._computed = self._cached = 0

    def stats(self) -> EngineStats:
        """See Engine."""
        resident, requests = self._adapters.resident(), tuple(self._requests.values())
        running = len(self._generator.active_jobs)
        ranks = Counter(rank_bucket(one.rank) for one in resident)
        return EngineStats(
            resident=resident[:MAX_LISTED_ADAPTERS],
            free_pages=len(self._generator.unreferenced_pages),
            queued=max(0, len(requests) - running),
            running=running,
            steps=self._steps,
            output_tokens=self._output_tokens,
            computed_tokens=self._computed,
            cached_tokens=self._cached,
            preemptions=self._admission.preemptions,
            held=sum(request.held for request in requests),
            ranks=tuple(RankCount(*one) for one in sorted(ranks.items())),
            adapter_bytes=self._adapters.used_bytes,
            slot_bytes=self._slots.bytes,
            spare_bytes=self._adapters.spare_bytes,
            slot_fills=self._slots.fills,
            slot_fill_ns=self._slots.fill_ns,
            slot_evictions=self._adapters.table.evictions,
        )

    # ---- the stepping thread

    def install(self, adapter: LoadedAdapter) -> None:
        """See Engine."""
        self._adapters.install(adapter)

    def unload(self, adapter: Cid) -> None:
        """See Engine."""
        self._adapters.unload(adapter)
        self._generator.mode.forget()

    def make_room(self, adapter: LoadedAdapter) -> None:
        """See Engine."""
        self._adapters.make_room(adapter)

    def add(self, prepared: Prepared) -> None:
        """See Engine."""
        request = prepared.request
        if request.request_id in self._requests:
            raise LocalProtocolError(f"the request {request.request_id.hex()} is already running")
        if len(self._requests) - len(self._generator.active_jobs) >= self.facts.max_queue:
            raise Refused(
                RefusalCode.BUSY, f"{self.facts.max_queue} requests are waiting already: try another worker"
            )
        self._adapters.check(request.adapters)
        if prepared.answer.finish is not None:
            self._over_before_it_began.append(event_of(prepared))
            return
        root = root_key(self.facts.artefact, request.adapters)
        entering = Request(prepared, root, tokens=[*prepared.prompt, *request.delivered])
        self._requests[request.request_id] = entering
        self._adapters.enter(request.adapters)
        self._admission.add(entering)
        self._stuck = False

    def abort(self, request_id: bytes) -> None:
        """See Engine."""
        if request_id in self._requests:
            self._remove(self._requests[request_id])

    def hold(self, request_id: bytes, held: bool) -> None:
        """See Engine."""
        if request_id in self._requests:
            self._admission.hold(self._requests[request_id], held)
            self._stuck = False

    def has_work(self) -> bool:
        """See Engine."""
        if self._over_before_it_began or (self._requests and not self._stuck):
            return True
        seconds = self.seconds_to_deadline()
        return seconds is not None and seconds <= 0

    def seconds_to_deadline(self) -> float | None:
        """See Engine."""
        deadlines = [d for one in self._requests.values() if (d := one.prepared.deadline) is not None]
        return min(deadlines) - time.monotonic() if deadlines else None

    def step(self) -> list[TokenEvent]:
        """See Engine."""
        events, self._over_before_it_began = self._over_before_it_began, []
        events += self._expire()
        self._admit()
        results = self._generator.iterate()
        self._stuck = not results
        self._steps += bool(results)
        for job in {result["job"]: None for result in results}:
            self._count(job)
        return events + [self._accept(one["job"]) for one in results if one["stage"] == "streaming"]

    def check_integrity(self) -> None:
        """Raises AssertionError when requests, jobs, pages, slots and the adapters in RAM disagree."""
        generator, admission = self._generator, self._admission
        jobs = [*generator.active_jobs, *generator.pending_jobs]
        if {id(job) for job in jobs} != {id(job) for job in self._jobs.values()}:
            raise AssertionError("the generator has other jobs than the engine")
        present = [*admission.waiting, *admission.parked, *(job.request for job in self._jobs.values())]
        if {id(one) for one in present} != {id(one) for one in self._requests.values()}:
            raise AssertionError("a request is lost or nobody's")
        held = {id(page) for job in generator.active_jobs for page in job.sequences[0].allocated_pages}
        if held != {id(page) for page in generator.referenced_pages.values()}:
            raise AssertionError("pages are referenced by no running job, or the other way round")
        if len(generator.referenced_pages) + len(generator.unreferenced_pages) != generator.max_pages:
            raise AssertionError("a page is lost or in two states")
        self._adapters.table.check_integrity(request.adapters for request in admission.running)
        self._adapters.check_integrity()

    # ---- inside a step

    def _admit(self) -> None:
        """Give the generator what may join what it runs."""
        for stopped in self._admission.give_way():
            self._end_job(stopped)
        while (request := self._admission.admit()) is not None:
            self._adapters.settle()
            weights = self._slots.weights_of(composition_of(request))
            job = self._job(request, weights, self._architecture.vocabulary)
            self._jobs[request.prepared.request.request_id] = job
            self._generator.enqueue(job)

    def _expire(self) -> list[TokenEvent]:
        now = time.monotonic()
        deadlines = [(one, one.prepared.deadline) for one in self._requests.values()]
        late = [request for request, deadline in deadlines if deadline is not None and deadline <= now]
        for request in late:
            request.answer.finish = FinishReason.DEADLINE
            self._remove(request)
        return [event_of(request.prepared, request.cached) for request in late]

    def _count(self, job: JobRules) -> None:
        self._computed += job.computed
        self._cached += job.reused - job.counted
        job.computed, job.counted = 0, job.reused

    def _accept(self, job: JobRules) -> TokenEvent:
        self._output_tokens += len(job.event.tokens)
        self._admission.waiting.counters.charge(job.request, OUTPUT_WEIGHT)
        if job.request.answer.finish is not None:
            self._remove(job.request)
            self._generator.scrub(job.used)
        return job.event

    def _remove(self, request: Request) -> None:
        del self._requests[request.prepared.request.request_id]
        self._end_job(request)
        self._admission.remove(request)
        self._adapters.leave(composition_of(request))
        self._slots.forget_unused(self._admission.compositions())
        self._stuck = False

    def _end_job(self, request: Request) -> None:
        job = self._jobs.pop(request.prepared.request.request_id, None)
        if job is not None and job.request.answer.finish in (None, FinishReason.DEADLINE):
            self._generator.cancel(job)  # one that is finished has left by itself


def build_exllamav2_engine(config: EngineConfig) -> ExLlamaV2Engine:
    """The engine of this configuration on this machine's GPU.

    Raises MissingDependency where it cannot run; InvalidModel, ConfigError.
    """
    check_requirements()
    return ExLlamaV2Engine(config, load_library())
