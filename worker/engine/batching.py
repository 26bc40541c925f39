"""Which tokens the next step computes: continuous batching over pages and adapter slots, without a tensor in
sight.

Rules of this file:
- A step takes one token of every sequence that decodes, then prompt tokens, oldest first, up to the step's
  budget: a long prompt is computed in chunks and delays nobody by more than one such step.
- A sequence is admitted when its adapters fit into slots beside those of running ones, all its present tokens
  have pages and every running one can grow by a page. When pages run out, the youngest running sequence gives
  its pages back and waits first in line; its tokens are kept and recomputed.
- One sequence always fits (the context is at most all pages), so the oldest always moves.
- Who is next is `fairness`'s matter. One whose adapters find no slot is passed over, so that it holds up
  nobody who can run; but from then on nobody is admitted who would take a free slot, or keep busy one that is
  to fall free for it. So with more active adapters than slots it waits for the shortest of the others, not
  for luck.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...protocol.ids import Cid
from .fairness import OUTPUT_WEIGHT, WaitingLine
from .pages import OutOfPages, PageAllocator
from .sequence import Sequence
from .slots import SlotTable


@dataclass(frozen=True, slots=True)
class Work:
    """Compute tokens [start, start + count) of a sequence; `completes` when a token is to be sampled after
    them.
    """

    sequence: Sequence
    start: int
    count: int

    @property
    def completes(self) -> bool:
        """Whether this reaches the last token."""
        return self.start + self.count == len(self.sequence.tokens)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Sequences that run at once, tokens of a step, tokens of a page."""

    max_batch: int
    max_step_tokens: int
    page_size: int


class Batcher:
    """The waiting line, the running sequences, their pages and their adapters' slots."""

    def __init__(self, limits: BatchLimits, pages: PageAllocator, slots: SlotTable) -> None:
        self.limits = limits
        self.pages = pages
        self.slots = slots
        self.waiting = WaitingLine()
        self.running: list[Sequence] = []
        self.preemptions = 0
        self.cached_tokens = 0

    def add(self, sequence: Sequence) -> None:
        """Wait in line. No more adapters than there are slots."""
        self.waiting.add(sequence)

    def remove(self, sequence: Sequence) -> None:
        """It is over, or nobody wants it any more: its pages and slots go back."""
        if sequence in self.running:
            self.running.remove(sequence)
            self._release(sequence)
        else:
            self.waiting.remove(sequence)
        self.waiting.counters.leave(sequence)

    def schedule(self) -> list[Work]:
        """The next step's work, decoding sequences first. Empty when nothing runs or waits."""
        works = self._decodes()
        budget = self.limits.max_step_tokens - len(works)
        for sequence in self.running:
            if sequence.remaining > 1 and budget > 0:
                works.append(self._chunk(sequence, budget))
                budget -= works[-1].count
        while budget > 0 and self._admit():
            works.append(self._chunk(self.running[-1], budget))
            budget -= works[-1].count
        return works

    def advance(self, work: Work) -> None:
        """The step computed this work: its full pages may be shared from now on."""
        sequence, size = work.sequence, self.limits.page_size
        sequence.computed += work.count
        if not sequence.remaining:  # a token of output comes of it
            self.waiting.counters.charge(sequence, OUTPUT_WEIGHT)
        full = sequence.computed // size
        for index, key in enumerate(
            sequence.page_keys(full, size)[sequence.registered :], sequence.registered
        ):
            self.pages.register(sequence.table[index], key)
        sequence.registered = full

    def check_integrity(self) -> None:
        """Raises AssertionError when pages or slots are lost, shared wrongly or held by nobody."""
        self.pages.check_integrity(sequence.table for sequence in self.running)
        self.slots.check_integrity(sequence.adapters for sequence in self.running)
        if any(sequence.table for sequence in self.waiting):
            raise AssertionError("a waiting sequence holds pages")

    def _chunk(self, sequence: Sequence, budget: int) -> Work:
        return Work(sequence, sequence.computed, min(budget, sequence.remaining))

    def _decodes(self) -> list[Work]:
        works: list[Work] = []
        for sequence in list(self.running):
            ready = sequence in self.running and sequence.remaining == 1 and not sequence.held
            if ready and self._grow(sequence):
                works.append(Work(sequence, sequence.computed, 1))
        return works

    def _grow(self, sequence: Sequence) -> bool:
        """Give it the page for its last token; False when it was itself the one to give way."""
        while self._pages_of(sequence) > len(sequence.table):
            try:
                sequence.table += self.pages.allocate(1)
            except OutOfPages:
                victim = self.running.pop()
                self._release(victim)
                self.waiting.add_preempted(victim)
                self.preemptions += 1
                if victim is sequence:
                    return False
        return True

    def _admit(self) -> bool:
        """Start the next in line for whom there is room; whether there was one."""
        if len(self.running) >= self.limits.max_batch:
            return False
        wanted: frozenset[Cid] | None = None  # slots that are to fall free for the first who lacks one
        for sequence in self.waiting.candidates():
            if not self.slots.can_hold(sequence.adapters):
                wanted = wanted or self.slots.in_the_way(sequence.adapters)
            elif wanted is None or sequence.adapters <= self.slots.held - wanted:
                return self._start(sequence)
        return False

    def _start(self, sequence: Sequence) -> bool:
        """Whether there were pages. Nobody overtakes for want of them, or the long would never start."""
        size = self.limits.page_size
        known = self.pages.match(sequence.page_keys((len(sequence.tokens) - 1) // size, size))
        missing = self._pages_of(sequence) - len(known)
        if self.pages.available < missing + len(self.running):
            self.pages.release(known)
            return False
        sequence.table = known + self.pages.allocate(missing)
        sequence.computed = len(known) * size
        sequence.registered = len(known)
        sequence.cached = max(sequence.cached, sequence.computed)
        self.cached_tokens += sequence.computed
        self.waiting.admit(sequence)
        self.slots.hold(sequence.adapters)
        self.running.append(sequence)
        return True

    def _release(self, sequence: Sequence) -> None:
        self.pages.release(sequence.table)
        self.slots.release(sequence.adapters)
        sequence.table, sequence.computed, sequence.registered = [], 0, 0

    def _pages_of(self, sequence: Sequence) -> int:
        return -(-len(sequence.tokens) // self.limits.page_size)
