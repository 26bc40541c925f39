"""Which tokens the next step computes: continuous batching over pages and adapter slots, without a tensor in
sight.

Rules of this file:
- A step takes one token of every sequence that decodes, then prompt tokens, oldest first, up to the step's
  budget: a long prompt is computed in chunks and delays nobody by more than one such step.
- A sequence is admitted when its adapters fit into slots beside those of running ones, all its present tokens
  have pages and every running one can grow by a page. When pages run out, the youngest running sequence gives
  its pages back and waits first in line; its tokens are kept and recomputed.
- One sequence always fits (the context is at most all pages), so the oldest always moves.
- One whose reader is behind (`hold`) leaves its place and its slots to others. Its pages stay as they are
  until somebody needs them, so it usually goes on without computing anything again, and before all others.
- Who is next is `fairness`'s matter. One whose adapters find no slot is passed over, so that it holds up
  nobody who can run; but from then on nobody is admitted who would take a free slot, or keep busy one that is
  to fall free for it. So with more active adapters than slots it waits for the shortest of the others, not
  for luck.
"""

from __future__ import annotations

from dataclasses import dataclass

from ....protocol.ids import Cid
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
    """The waiting line, the running sequences, those that are held, their pages and their adapters' slots."""

    def __init__(self, limits: BatchLimits, pages: PageAllocator, slots: SlotTable) -> None:
        self.limits = limits
        self.pages = pages
        self.slots = slots
        self.waiting = WaitingLine()
        self.running: list[Sequence] = []
        self.parked: list[Sequence] = []
        self.preemptions = 0
        self.cached_tokens = 0

    def add(self, sequence: Sequence) -> None:
        """Wait in line. No more adapters than there are slots."""
        self.waiting.add(sequence)

    def remove(self, sequence: Sequence) -> None:
        """It is over, or nobody wants it any more: its pages and slots go back."""
        self._take_out(sequence)
        self._release(sequence)

    def hold(self, sequence: Sequence, held: bool) -> None:
        """Its reader is behind, and it stops; or it goes on."""
        if sequence.held == held:
            return
        self._take_out(sequence)
        sequence.held = held
        if held:
            self.parked.append(sequence)
        else:
            self.waiting.add(sequence)

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
        present = [*self.running, *self.parked, *self.waiting]
        self.pages.check_integrity(sequence.table for sequence in present)
        self.slots.check_integrity(sequence.adapters for sequence in self.running)
        if any(sequence.table and not sequence.preempted for sequence in self.waiting):
            raise AssertionError("a sequence holds pages that never ran")
        if [sequence for sequence in present if sequence.held] != self.parked:
            raise AssertionError("others are parked than those that are held")

    def _chunk(self, sequence: Sequence, budget: int) -> Work:
        return Work(sequence, sequence.computed, min(budget, sequence.remaining))

    def _decodes(self) -> list[Work]:
        works: list[Work] = []
        for sequence in list(self.running):
            if sequence in self.running and sequence.remaining == 1 and self._grow(sequence):
                works.append(Work(sequence, sequence.computed, 1))
        return works

    def _grow(self, sequence: Sequence) -> bool:
        """Give it the page for its last token; False when it was itself the one to give way."""
        while self._pages_of(sequence) > len(sequence.table):
            try:
                sequence.table += self.pages.allocate(1)
            except OutOfPages:
                if self._reclaim():
                    continue
                victim = self.running.pop()
                self.slots.release(victim.adapters)
                self._release(victim)
                self.waiting.add_preempted(victim)
                self.preemptions += 1
                if victim is sequence:
                    return False
        return True

    def _reclaim(self, keep: Sequence | None = None) -> bool:
        """Take back the pages of one that does not run, but not of `keep`; whether there was one."""
        for sequence in (*reversed(self.parked), *reversed(tuple(self.waiting))):
            if sequence.table and sequence is not keep:
                self._release(sequence)
                self.preemptions += 1
                return True
        return False

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
        known = sequence.table or self._match(sequence)
        missing = self._pages_of(sequence) - len(known)
        while self.pages.available < missing + len(self.running):
            if not self._reclaim(keep=sequence):
                if known is not sequence.table:
                    self.pages.release(known)
                return False
        if known is not sequence.table:
            sequence.computed = len(known) * self.limits.page_size
            sequence.registered = len(known)
            sequence.cached = max(sequence.cached, sequence.computed)
            self.cached_tokens += sequence.computed
        sequence.table = known + self.pages.allocate(missing)
        self.waiting.admit(sequence)
        self.slots.hold(sequence.adapters)
        self.running.append(sequence)
        return True

    def _match(self, sequence: Sequence) -> list[int]:
        """The pages of its tokens, but for the last one, that others have computed: held for it."""
        size = self.limits.page_size
        return self.pages.match(sequence.page_keys((len(sequence.tokens) - 1) // size, size))

    def _take_out(self, sequence: Sequence) -> None:
        """Out of wherever it is. It keeps its pages, but no slots."""
        if sequence in self.parked:
            self.parked.remove(sequence)
            return
        if sequence in self.running:
            self.running.remove(sequence)
            self.slots.release(sequence.adapters)
            sequence.preempted = True
        else:
            self.waiting.remove(sequence)
        self.waiting.counters.leave(sequence)

    def _release(self, sequence: Sequence) -> None:
        self.pages.release(sequence.table)
        sequence.table, sequence.computed, sequence.registered = [], 0, 0

    def _pages_of(self, sequence: Sequence) -> int:
        return -(-len(sequence.tokens) // self.limits.page_size)
