"""Who waits, and who is next: each adapter gets its share of the work, however many ask for another. Pure.

Rules of this file:
- Virtual token counters (VTC, arXiv 2401.00588): what is computed for an adapter is added to its counter,
  prompt tokens when they are admitted, output tokens as they come, and the waiting sequence of the smallest
  counter is next. An adapter that becomes active starts no lower than the lowest active one: idle time saves
  up no credit. The plain base counts as one more adapter; a composition is charged to each of its adapters.
- Within an adapter first come, first served. A sequence that was preempted goes before all others.
- Counters alone could keep one waiting behind an unending row of newcomers, so the first in line of an
  adapter that was overtaken `MAX_OVERTAKEN` times is next, whatever its counter says.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator

from ....protocol.ids import Cid
from .sequence import Sequence

PROMPT_WEIGHT = 1
OUTPUT_WEIGHT = 2
"""A token of output costs a pass of its own, a prompt's share one."""
MAX_OVERTAKEN = 32
MAX_COUNTERS = 4096

Share = Cid | None
"""Who is charged: an adapter, or None for the plain base."""


class TokenCounters:
    """What each adapter was served in this busy period: when nothing is active any more, all is forgiven."""

    def __init__(self) -> None:
        self._served: dict[Share, int] = {}
        self._active: Counter[Share] = Counter()

    def enter(self, sequence: Sequence) -> None:
        """It waits or runs from now on."""
        level = min((self._served[share] for share in self._active), default=0)
        for share in _shares(sequence):
            if share not in self._active:
                self._served[share] = max(level, self._served.get(share, 0))
        self._active.update(_shares(sequence))
        if len(self._served) > MAX_COUNTERS:
            self._served = {share: self._served[share] for share in self._active}

    def leave(self, sequence: Sequence) -> None:
        """It is over."""
        self._active -= Counter(_shares(sequence))  # drops what falls to zero
        if not self._active:
            self._served.clear()

    def charge(self, sequence: Sequence, tokens: int) -> None:
        """So many weighted tokens were computed for it."""
        for share in _shares(sequence):
            self._served[share] += tokens

    def served(self, sequence: Sequence) -> int:
        """The counter that decides when it is next: its most served adapter's."""
        return max(self._served[share] for share in _shares(sequence))


class WaitingLine:
    """The sequences that wait, in the order in which they came; preempted ones in front."""

    def __init__(self) -> None:
        self.counters = TokenCounters()
        self._line: deque[Sequence] = deque()

    def __len__(self) -> int:
        return len(self._line)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._line)

    def add(self, sequence: Sequence) -> None:
        """A new one, or one that ran and was held."""
        if sequence.preempted:
            self._line.appendleft(sequence)
        else:
            self._line.append(sequence)
        self.counters.enter(sequence)

    def add_preempted(self, sequence: Sequence) -> None:
        """One that ran, and is to go on before all others."""
        sequence.preempted = True
        self._line.appendleft(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Nobody wants it any more."""
        self._line.remove(sequence)

    def candidates(self) -> list[Sequence]:
        """The first in line of every composition, who is next first."""
        return sorted(self._firsts(), key=self._turn)  # stable: of equals the older first

    def admit(self, sequence: Sequence) -> None:
        """It runs from now on; those who were first in line and older were overtaken."""
        for other in self._firsts():
            if other is sequence:
                break
            other.overtaken += 1
        self._line.remove(sequence)
        sequence.overtaken = 0
        if not sequence.preempted:  # what is computed again is not charged again
            self.counters.charge(sequence, PROMPT_WEIGHT * sequence.remaining)
        sequence.preempted = False

    def _firsts(self) -> Iterator[Sequence]:
        seen: set[frozenset[Cid]] = set()
        for sequence in self._line:
            if sequence.adapters not in seen:
                seen.add(sequence.adapters)
                yield sequence

    def _turn(self, sequence: Sequence) -> tuple[bool, bool, int]:
        overdue = sequence.overtaken >= MAX_OVERTAKEN
        return not sequence.preempted, not overdue, self.counters.served(sequence)


def _shares(sequence: Sequence) -> frozenset[Share]:
    return sequence.adapters or _BASE


_BASE: frozenset[Share] = frozenset((None,))
