"""One request on its way through an engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from ....protocol.ids import Cid
from .pages import next_key
from .prompts import Answer, Prepared


@dataclass(slots=True, eq=False)
class Sequence:
    """`computed` tokens have their keys and values in the pages of `table`; while it is `held` it says
    nothing new. `preempted`: it ran and waits. `overtaken` counts younger ones admitted before it.
    """

    prepared: Prepared
    root: bytes
    tokens: list[int]
    table: list[int] = field(default_factory=list)
    computed: int = 0
    cached: int = 0
    held: bool = False
    preempted: bool = False
    overtaken: int = 0
    keys: list[bytes] = field(default_factory=list)
    registered: int = 0
    _adapters: frozenset[Cid] | None = None

    @property
    def answer(self) -> Answer:
        """Its output side."""
        return self.prepared.answer

    @property
    def adapters(self) -> frozenset[Cid]:
        """The adapters that it composes."""
        if self._adapters is None:
            self._adapters = frozenset(one.adapter for one in self.prepared.request.adapters)
        return self._adapters

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
