"""The default engine: continuous batching over pages and slots, computed by a backend of this package.

Rules of this file:
- schedule → forward → sample → tell; one `step` is one pass of that loop over whatever runs.
- Every piece of work shows its last logits. Where they are not finite, that sequence ends with an error and
  its pages are forgotten and zeroed, so that a bad adapter reaches nobody else through the cache.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...protocol.encoding.codec import record_cid
from ...protocol.errors import LocalProtocolError, Refused
from ...protocol.ids import Cid
from ...protocol.inference.messages import RefusalCode
from ..models.reference import BaseModel, artefact_for, load_base
from .backends import choose_backend
from .batching.pages import PageAllocator, root_key
from .batching.prompts import Prepared
from .batching.sequence import Sequence as Running
from .batching.steps import Batcher, BatchLimits, Work
from .decoding import sampler
from .decoding.noise import load_noise
from .engine import LoadedAdapter
from .lora.layout import rank_bucket
from .lora.tiers import AdapterTiers
from .runner import Backend
from .tiered_engine import TieredEngine
from .types import (
    MAX_LISTED_ADAPTERS,
    EngineConfig,
    EngineFacts,
    EngineStats,
    FinishReason,
    RankCount,
    TokenEvent,
)


class TorchEngine(TieredEngine):
    """One base at fp32, bf16 or int4, a paged cache, a LoRA composition per request."""

    def __init__(self, config: EngineConfig) -> None:
        """Load the base. Raises InvalidModel; MissingDependency, ConfigError without the device."""
        base = load_base(Path(config.base_dir))
        artefact = artefact_for(base, config.precision)
        max_context = min(base.architecture.max_positions, (config.pages - 1) * config.page_size)
        backend = choose_backend(config, base, max_context)
        load_noise()
        self._layout = backend.layout
        facts = facts_of(config, base, backend, record_cid(artefact), max_context)
        self._open(base, facts, AdapterTiers(self._layout, config.slots, config.adapter_ram))
        self._runner = backend.build(self._adapters.pools)
        limits = BatchLimits(config.max_batch, config.max_step_tokens, config.page_size)
        self._batcher = Batcher(limits, PageAllocator(config.pages), self._adapters.table)
        self._sequences: dict[bytes, Running] = {}
        self._over_before_it_began: list[TokenEvent] = []
        self._stuck = False  # nothing can be computed until something changes: all that is here is held
        self._steps = self._output_tokens = self._computed_tokens = 0

    # ---- the stepping thread

    def install(self, adapter: LoadedAdapter) -> None:
        """See Engine."""
        self._adapters.install(adapter)

    def unload(self, adapter: Cid) -> None:
        """See Engine."""
        self._adapters.unload(adapter)

    def make_room(self, adapter: LoadedAdapter) -> None:
        """See Engine."""
        self._adapters.make_room(adapter)

    def add(self, prepared: Prepared) -> None:
        """See Engine."""
        request = prepared.request
        if request.request_id in self._sequences:
            raise LocalProtocolError(f"the request {request.request_id.hex()} is already running")
        if len(self._batcher.waiting) >= self.facts.max_queue:
            raise Refused(
                RefusalCode.BUSY, f"{self.facts.max_queue} requests are waiting already: try another worker"
            )
        self._adapters.check(request.adapters)
        root = root_key(self.facts.artefact, request.adapters)
        sequence = Running(prepared, root, tokens=[*prepared.prompt, *request.delivered])
        if prepared.answer.finish is not None:
            self._over_before_it_began.append(_event_of(sequence))
        else:
            self._sequences[request.request_id] = sequence
            self._adapters.enter(request.adapters)
            self._batcher.add(sequence)
            self._stuck = False

    def abort(self, request_id: bytes) -> None:
        """See Engine."""
        sequence = self._sequences.pop(request_id, None)
        if sequence is not None:
            self._remove(sequence)
            self._stuck = False

    def hold(self, request_id: bytes, held: bool) -> None:
        """See Engine."""
        sequence = self._sequences.get(request_id)
        if sequence is not None:
            self._batcher.hold(sequence, held)
            self._stuck = False

    def has_work(self) -> bool:
        """See Engine."""
        if self._over_before_it_began or (self._sequences and not self._stuck):
            return True
        seconds = self.seconds_to_deadline()
        return seconds is not None and seconds <= 0

    def seconds_to_deadline(self) -> float | None:
        """See Engine."""
        deadlines = [s.prepared.deadline for s in self._sequences.values() if s.prepared.deadline is not None]
        return min(deadlines) - time.monotonic() if deadlines else None

    def stats(self) -> EngineStats:
        """See Engine."""
        resident, pools = self._adapters.resident(), self._adapters.pools
        ranks = Counter(rank_bucket(one.rank) for one in resident)
        return EngineStats(
            resident=resident[:MAX_LISTED_ADAPTERS],
            free_pages=self._batcher.pages.available,
            queued=len(self._batcher.waiting),
            running=len(self._batcher.running),
            steps=self._steps,
            output_tokens=self._output_tokens,
            computed_tokens=self._computed_tokens,
            cached_tokens=self._batcher.cached_tokens,
            preemptions=self._batcher.preemptions,
            held=sum(sequence.held for sequence in tuple(self._sequences.values())),
            ranks=tuple(RankCount(*one) for one in sorted(ranks.items())),
            adapter_bytes=self._adapters.used_bytes,
            slot_bytes=pools.bytes,
            spare_bytes=self._adapters.spare_bytes,
            slot_fills=pools.fills,
            slot_fill_ns=pools.fill_ns,
            slot_evictions=self._adapters.table.evictions,
        )

    def check_integrity(self) -> None:
        """Raises AssertionError when sequences, pages, slots and the adapters in RAM disagree."""
        self._batcher.check_integrity()
        self._adapters.check_integrity()

    def step(self) -> list[TokenEvent]:
        """See Engine."""
        events, self._over_before_it_began = self._over_before_it_began, []
        events += self._expire()
        works = self._batcher.schedule()
        self._stuck = not works
        return events + self._run(works) if works else events

    # ---- inside a step

    def _expire(self) -> list[TokenEvent]:
        now = time.monotonic()
        late = [
            s
            for s in self._sequences.values()
            if s.prepared.deadline is not None and s.prepared.deadline <= now
        ]
        return [self._end(sequence, FinishReason.DEADLINE) for sequence in late]

    def _run(self, works: list[Work]) -> list[TokenEvent]:
        self._adapters.settle()
        works.sort(key=self._adapters.row_order)
        logits = self._runner.run(works, self._adapters.plan(works))
        self._steps += 1
        self._computed_tokens += sum(work.count for work in works)
        finite = [math.isfinite(total) for total in logits.sum(axis=1)]  # one bad number spoils its row's sum
        events = [self._fail(work.sequence) for work, good in zip(works, finite, strict=True) if not good]
        for work, good in zip(works, finite, strict=True):
            if good:
                self._batcher.advance(work)
        complete = [row for row, work in enumerate(works) if finite[row] and not work.sequence.remaining]
        return events + self._sample(
            [works[row].sequence for row in complete],
            logits[complete] if len(complete) < len(works) else logits,
        )

    def _sample(self, sequences: Sequence[Running], logits: sampler.Logits) -> list[TokenEvent]:
        tokens = sampler.choose(logits, [_draw_of(sequence) for sequence in sequences])
        return [self._accept(s, token, row) for s, token, row in zip(sequences, tokens, logits, strict=True)]

    def _accept(self, sequence: Running, token: int, logits: sampler.Logits) -> TokenEvent:
        sequence.tokens.append(token)
        text = sequence.answer.push(token)
        self._output_tokens += 1
        top = sequence.prepared.request.top_logprobs
        logprobs = (sampler.compute_logprobs(logits, token, top),) if top else ()
        finish = sequence.answer.finish
        event = _event_of(sequence) if finish is None else self._end(sequence, finish)
        return replace(event, tokens=(token,), text=text, logprobs=logprobs)

    def _fail(self, sequence: Running) -> TokenEvent:
        pages = list(sequence.table)
        self._batcher.pages.forget(pages)
        event = self._end(sequence, FinishReason.ERROR)
        self._runner.scrub([page for page in pages if not self._batcher.pages.is_held(page)])
        adapters = ", ".join(one.adapter for one in sequence.prepared.request.adapters) or "none"
        return replace(event, error=f"the model gave numbers that are not finite (adapters: {adapters})")

    def _end(self, sequence: Running, finish: FinishReason) -> TokenEvent:
        sequence.answer.finish = finish
        del self._sequences[sequence.prepared.request.request_id]
        self._remove(sequence)
        return _event_of(sequence)

    def _remove(self, sequence: Running) -> None:
        self._batcher.remove(sequence)
        self._adapters.leave(sequence.prepared.request.adapters)


def facts_of(
    config: EngineConfig, base: BaseModel, backend: Backend, artefact: Cid, max_context: int
) -> EngineFacts:
    """What an engine of this configuration serves."""
    return EngineFacts(
        base=base.id,
        artefact=artefact,
        name=base.label.name,
        precision=config.precision,
        tokenizer=base.manifest.tokenizer,
        chat_template=base.manifest.chat_template,
        max_context=max_context,
        max_batch=config.max_batch,
        max_queue=config.max_queue,
        pages=config.pages,
        page_size=config.page_size,
        slots=config.slots,
        max_rank=config.max_rank,
        adapter_ram=config.adapter_ram,
        packed_sizes=backend.layout.packed_sizes(config.max_rank),
        backend=backend.name,
    )


def _event_of(sequence: Running) -> TokenEvent:
    finish = sequence.answer.finish
    return TokenEvent(
        request_id=sequence.prepared.request.request_id,
        prompt_tokens=len(sequence.prepared.prompt),
        cached_tokens=sequence.cached,
        finish=None if finish is None else finish.value,
    )


def _draw_of(sequence: Running) -> sampler.Draw:
    return sampler.Draw(sequence.prepared.request.sampling, len(sequence.answer.tokens), sequence.tokens)
