"""Which tokens the next step computes: continuous batching over pages, without a tensor in sight.

Rules of this file:
- A step takes one token of every sequence that decodes, then prompt tokens, oldest first, up to the step's
  budget: a long prompt is computed in chunks and delays nobody by more than one such step.
- A sequence is admitted when all its present tokens have pages and every running one can grow by a page. When
  pages run out, the youngest running sequence gives its pages back and waits first in line; its tokens are
  kept and recomputed.
- One sequence always fits (the context is at most all pages), so the oldest always moves.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from .pages import OutOfPages, PageAllocator, next_key
from .prompts import Answer, Prepared


@dataclass(slots=True, eq=False)
class Sequence:
    """One request on its way. `computed` tokens have their keys and values in the pages of `table`; while it
    is `held` it keeps them and says nothing new.
    """

    prepared: Prepared
    root: bytes
    tokens: list[int]
    table: list[int] = field(default_factory=list)
    computed: int = 0
    cached: int = 0
    held: bool = False
    keys: list[bytes] = field(default_factory=list)
    registered: int = 0

    @property
    def answer(self) -> Answer:
        """Its output side."""
        return self.prepared.answer

    @property
    def remaining(self) -> int:
        """Tokens whose keys and values are not computed: 1 while it decodes."""
        return len(self.tokens) - self.computed

    def page_keys(self, count: int, page_size: int) -> list[bytes]:
        """The keys of its first `count` pages, which must be full."""
        while len(self.keys) < count:
            start = len(self.keys) * page_size
            previous = self.keys[-1] if self.keys else self.root
            self.keys.append(next_key(previous, self.tokens[start : start + page_size]))
        return self.keys[:count]


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
    """The waiting line, the running sequences and their pages."""

    def __init__(self, limits: BatchLimits, pages: PageAllocator) -> None:
        self.limits = limits
        self.pages = pages
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.preemptions = 0
        self.cached_tokens = 0

    def add(self, sequence: Sequence) -> None:
        """Last in line."""
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """It is over, or nobody wants it any more: its pages go back."""
        if sequence in self.running:
            self.running.remove(sequence)
            self._release(sequence)
        else:
            self.waiting.remove(sequence)

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
        full = sequence.computed // size
        for index, key in enumerate(
            sequence.page_keys(full, size)[sequence.registered :], sequence.registered
        ):
            self.pages.register(sequence.table[index], key)
        sequence.registered = full

    def check_integrity(self) -> None:
        """Raises AssertionError when pages are lost, shared wrongly or held by nobody."""
        self.pages.check_integrity(sequence.table for sequence in self.running)
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
                self.waiting.appendleft(victim)
                self.preemptions += 1
                if victim is sequence:
                    return False
        return True

    def _admit(self) -> bool:
        """Start the first in line, if there is room; whether there was."""
        if not self.waiting or len(self.running) >= self.limits.max_batch:
            return False
        sequence, size = self.waiting[0], self.limits.page_size
        known = self.pages.match(sequence.page_keys((len(sequence.tokens) - 1) // size, size))
        missing = self._pages_of(sequence) - len(known)
        if self.pages.available < missing + len(self.running):
            self.pages.release(known)
            return False
        self._start(sequence, known, missing)
        return True

    def _start(self, sequence: Sequence, known: list[int], missing: int) -> None:
        sequence.table = known + self.pages.allocate(missing)
        sequence.computed = len(known) * self.limits.page_size
        sequence.registered = len(known)
        sequence.cached = max(sequence.cached, sequence.computed)
        self.cached_tokens += sequence.computed
        self.running.append(self.waiting.popleft())

    def _release(self, sequence: Sequence) -> None:
        self.pages.release(sequence.table)
        sequence.table, sequence.computed, sequence.registered = [], 0, 0

    def _pages_of(self, sequence: Sequence) -> int:
        return -(-len(sequence.tokens) // self.limits.page_size)
