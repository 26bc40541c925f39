"""Who has read which beginning of a prompt: what workers' KV caches may still hold, as far as this peer's own
asks tell."""

from __future__ import annotations

from collections import OrderedDict

from ..protocol.ids import PeerId
from .events import AskSpec
from .members import Member
from .view import NetworkView

MAX_PREFIXES = 16_384
READERS = 2
"""How many workers are remembered for one beginning: the last ones."""


class Prefixes:
    """A bounded memory; what was read or asked for last stays longest."""

    __slots__ = ("_readers",)

    def __init__(self) -> None:
        self._readers: OrderedDict[bytes | int, tuple[PeerId, ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._readers)

    def look(self, view: NetworkView, spec: AskSpec) -> dict[Member, int]:
        """Workers of its base that read a beginning of this prompt before, and how many of its tokens."""
        found: dict[Member, int] = {}
        for key, tokens in spec.prefixes:
            for peer in self._readers.get(key, ()):
                member = view.member(peer)
                if member is not None and member.ad.base == spec.base:
                    found[member] = max(tokens, found.get(member, 0))
        return found

    def read(self, spec: AskSpec, peer: PeerId) -> None:
        """`peer` reads this prompt now."""
        for key, _ in spec.prefixes:
            others = (each for each in self._readers.pop(key, ()) if each != peer)
            self._readers[key] = (peer, *others)[:READERS]
        while len(self._readers) > MAX_PREFIXES:
            self._readers.popitem(last=False)
