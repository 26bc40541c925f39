"""The adapters that an engine holds, and what each step's rows need of them.

Rules of this file:
- A slot holds one adapter; it stays until it is unloaded, which is refused while a request uses it. Who
  decides what to unload is the adapter store, not the engine.
- Compositions of several adapters are built once and kept while a request uses them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ...protocol.errors import LocalProtocolError, Refused
from ...protocol.ids import Cid
from ...protocol.messages import RefusalCode
from ...protocol.requests import AdapterWeight
from .batching import Work
from .engine import LoadedAdapter
from .lora import LoraBatch, LoraBatcher, LoraWeights, compose
from .types import ResidentAdapter

Composition = tuple[AdapterWeight, ...]


class AdapterSlots:
    """At most `count` resident adapters."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._resident: dict[Cid, LoadedAdapter] = {}
        self._compositions: dict[Composition, LoraWeights] = {}
        self._batcher = LoraBatcher()

    def resident(self) -> tuple[ResidentAdapter, ...]:
        """What the slots hold. Any thread."""
        present = tuple(self._resident.items())  # in one go: another thread may ask
        return tuple(ResidentAdapter(cid, loaded.source.rank) for cid, loaded in present)

    def install(self, adapter: LoadedAdapter) -> None:
        """Raises Refused(busy) when every slot is taken."""
        if adapter.source.adapter in self._resident:
            return
        if len(self._resident) >= self.count:
            raise Refused(RefusalCode.BUSY, f"all {self.count} adapter slots are taken: unload one first")
        self._resident[adapter.source.adapter] = adapter

    def unload(self, adapter: Cid, used: Collection[Composition]) -> None:
        """`used` are the compositions of all present requests.

        Raises Refused(busy) when one names the adapter.
        """
        if any(_names(composition, adapter) for composition in used):
            raise Refused(RefusalCode.BUSY, f"the adapter {adapter} is in use")
        self._resident.pop(adapter, None)
        self._compositions = {
            c: weights for c, weights in self._compositions.items() if not _names(c, adapter)
        }
        self._batcher.forget()

    def check(self, composition: Composition) -> None:
        """Raises Refused(unknown_adapter) unless every one of them is resident."""
        for one in composition:
            if one.adapter not in self._resident:
                raise Refused(
                    RefusalCode.UNKNOWN_ADAPTER, f"the adapter {one.adapter} is not loaded in this engine"
                )

    def forget_unused(self, used: Collection[Composition]) -> None:
        """Let go of compositions that no request uses; a single adapter at full weight costs nothing and
        stays.
        """
        self._compositions = {
            c: weights for c, weights in self._compositions.items() if len(c) == 1 or c in used
        }

    def plan(self, works: Sequence[Work]) -> LoraBatch:
        """What this step's rows add to the base; decoding rows come first, those with adapters before the
        others.
        """
        compositions = [work.sequence.prepared.request.adapters for work in works]
        decoding = [c for c, work in zip(compositions, works, strict=True) if work.count == 1]
        segments: list[tuple[int, int, LoraWeights | None]] = []
        row = len(decoding)
        for composition, work in zip(compositions[row:], works[row:], strict=True):
            segments.append((row, row + work.count, self._weights_of(composition) if composition else None))
            row += work.count
        return self._batcher.plan([self._weights_of(c) for c in decoding if c], segments)

    def _weights_of(self, composition: Composition) -> LoraWeights:
        found = self._compositions.get(composition)
        if found is None:
            found = compose([(_weights(self._resident[one.adapter]), one.weight_ppm) for one in composition])
            self._compositions[composition] = found
        return found


def _names(composition: Composition, adapter: Cid) -> bool:
    return any(one.adapter == adapter for one in composition)


def _weights(adapter: LoadedAdapter) -> LoraWeights:
    if not isinstance(adapter.weights, LoraWeights):
        raise LocalProtocolError("this adapter was read by another engine")
    return adapter.weights
