"""Who has a claim to which adapters in RAM, and who is next to get one.

Rules of this file:
- A claim names adapters with their bytes. Claimed adapters never take more bytes than there are; a claim is
  granted whole or not at all and never grows, so nobody waits in a circle.
- What is claimed already takes nothing more. Otherwise who came first is next, and one that does not fit is
  passed over, so that it holds up nobody who fits; but after `MAX_OVERTAKEN` of them nobody passes, not even
  one that takes nothing, since it would keep bytes that the other waits for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import trio

from ...protocol.errors import Refused
from ...protocol.ids import Cid
from ...protocol.inference.messages import RefusalCode

MAX_OVERTAKEN = 32


@dataclass(slots=True, eq=False)
class _Waiting:
    sizes: Mapping[Cid, int]
    overtaken: int = 0
    granted: trio.Event = field(default_factory=trio.Event)


class Claims:
    """Claims to `limit` bytes of adapters."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._holders: Counter[Cid] = Counter()
        self._sizes: dict[Cid, int] = {}
        self._line: list[_Waiting] = []

    def __contains__(self, adapter: Cid) -> bool:
        """Whether somebody has a claim to it."""
        return adapter in self._holders

    async def take(self, sizes: Mapping[Cid, int]) -> None:
        """Wait for a claim to these, to be given back by `release`.

        Raises Refused(busy) when they are more than there can be.
        """
        if (total := sum(sizes.values())) > self._limit:
            raise Refused(
                RefusalCode.BUSY,
                f"the request's adapters take {total} bytes; this worker has {self._limit} for them",
            )
        if not sizes:
            return
        waiting = _Waiting(sizes)
        self._line.append(waiting)
        self._grant()
        try:
            await waiting.granted.wait()
        except trio.Cancelled:
            self._leave(waiting)
            raise

    def release(self, adapters: AbstractSet[Cid]) -> None:
        """One claim to all of these is over."""
        self._holders -= Counter(adapters)  # drops what falls to zero
        for adapter in adapters - self._holders.keys():
            del self._sizes[adapter]
        self._grant()

    def _grant(self) -> None:
        """To whoever in line may have one now."""
        passed: list[_Waiting] = []
        for waiting in tuple(self._line):
            if sum((self._sizes | dict(waiting.sizes)).values()) <= self._limit:
                self._line.remove(waiting)
                self._holders.update(waiting.sizes.keys())
                self._sizes.update(waiting.sizes)
                waiting.granted.set()
                for older in passed:
                    older.overtaken += 1
            elif waiting.overtaken >= MAX_OVERTAKEN:
                return
            else:
                passed.append(waiting)

    def _leave(self, waiting: _Waiting) -> None:
        """Whoever waited for it is gone."""
        if waiting.granted.is_set():
            self.release(waiting.sizes.keys())
        else:
            self._line.remove(waiting)
            self._grant()
