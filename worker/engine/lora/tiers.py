"""The adapters of one engine: packed in RAM, and from there in slots while they run.

Rules of this file:
- RAM holds at most `ram_bytes` of packed adapters. One that a present request names stays; the others may be
  unloaded, the least recently used first. Who keeps a node's adapters ready decides that ahead (see
  `worker/adapters/store.py`); here a full RAM refuses.
- Slots are given by the batcher's table; `settle` makes the memory follow between planning a step and
  computing it. Nobody waits for more than one copy of a packed adapter.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

from ....protocol.content.compositions import AdapterWeight
from ....protocol.encoding.fields import PPM
from ....protocol.errors import Refused
from ....protocol.ids import Cid
from ....protocol.inference.messages import RefusalCode
from ...models.tensor_file import Allocate, TensorFile
from ..batching.slots import SlotTable
from ..batching.steps import Work
from ..engine import LoadedAdapter
from ..memory.streamed import Scratch
from ..types import AdapterSource, ResidentAdapter
from .layout import LoraLayout
from .plan import LoraPlan, PromptTerms, SlotTerm, Terms
from .slot_pools import SlotPools

Composition = tuple[AdapterWeight, ...]


class AdapterTiers:
    """RAM for `ram_bytes` of packed adapters, slots for `slots` of them. `layout` is the decoder's."""

    def __init__(self, layout: LoraLayout, slots: int, ram_bytes: int) -> None:
        self.table = SlotTable(slots)
        self.pools = SlotPools(layout, slots)
        self.ram_bytes = ram_bytes
        self.used_bytes = 0
        self._layout = layout
        self._scratch = Scratch()
        self._resident: OrderedDict[Cid, LoadedAdapter] = OrderedDict()  # least recently used first
        self._named: Counter[Cid] = Counter()

    # ---- RAM

    def read(self, source: AdapterSource, check: Callable[[Allocate], TensorFile]) -> LoadedAdapter:
        """A file that `check` reads into given bytes, ready to `install`. Any thread.

        Raises Malformed, Refused(busy) without memory, and what `check` raises.
        """
        bucket = self._layout.bucket_of(source)
        try:
            with self.pools.prepare(source.adapter, bucket), self._scratch.lend() as allocate:
                packed = self._layout.pack(check(allocate), source)
            self._layout.find_next()
        except MemoryError:
            raise Refused(
                RefusalCode.BUSY,
                f"no memory to read the adapter {source.adapter}: run with less adapter_ram",
            ) from None
        return LoadedAdapter(source, packed)

    @property
    def spare_bytes(self) -> int:
        """What is kept to read the next adapters into, beside those here. Any thread."""
        return self._layout.spare_bytes + self._scratch.bytes

    def resident(self) -> tuple[ResidentAdapter, ...]:
        """What RAM holds, the most recently used first. Any thread."""
        placed = frozenset(self.table.placed)
        present = tuple(self._resident.values())  # in one go: another thread may ask
        sources = (loaded.source for loaded in reversed(present))
        return tuple(ResidentAdapter(one.adapter, one.rank, one.adapter in placed) for one in sources)

    def install(self, adapter: LoadedAdapter) -> None:
        """Keep it in RAM. Raises Refused(busy) where it does not fit beside what is there."""
        cid = adapter.source.adapter
        if cid in self._resident:
            return
        if self.used_bytes + adapter.bytes > self.ram_bytes:
            raise Refused(
                RefusalCode.BUSY,
                f"an adapter of {adapter.bytes} bytes does not fit into the {self.ram_bytes} for adapters, "
                f"of which {self.used_bytes} are taken: unload one first",
            )
        self.table.add(cid, self._layout.bucket_of(adapter.source))
        self._resident[cid] = adapter
        self.used_bytes += adapter.bytes

    def unload(self, adapter: Cid) -> None:
        """Out of RAM, and of its slot. Raises Refused(busy) while a present request names it."""
        if adapter in self._named:
            raise Refused(RefusalCode.BUSY, f"the adapter {adapter} is in use")
        loaded = self._resident.pop(adapter, None)
        if loaded is not None:
            self.used_bytes -= loaded.bytes
            self.table.forget(adapter)
            self.settle()

    def make_room(self, adapter: LoadedAdapter) -> None:
        """Unload the least recently used that nobody names until this one fits, or none is left."""
        if adapter.source.adapter in self._resident:
            return
        for other in [one for one in self._resident if one not in self._named]:
            if self.used_bytes + adapter.bytes <= self.ram_bytes:
                return
            self.unload(other)

    # ---- requests

    def check(self, composition: Composition) -> None:
        """Raises Refused: unknown_adapter unless all are in RAM, busy when they are more than there are
        slots.
        """
        for one in composition:
            if one.adapter not in self._resident:
                raise Refused(
                    RefusalCode.UNKNOWN_ADAPTER, f"the adapter {one.adapter} is not loaded in this engine"
                )
        if len(composition) > self.table.count:
            raise Refused(
                RefusalCode.BUSY,
                f"the request composes {len(composition)} adapters; this engine has {self.table.count} slots",
            )

    def enter(self, composition: Composition) -> None:
        """A request names these from now on."""
        for one in composition:
            self._named[one.adapter] += 1
            self._resident.move_to_end(one.adapter)

    def leave(self, composition: Composition) -> None:
        """It is over."""
        self._named -= Counter(one.adapter for one in composition)  # drops what falls to zero

    # ---- a step

    def settle(self) -> None:
        """Zero and fill slots as the table decided."""
        self.pools.apply(self.table.take_moves(), self._resident)

    def plan(self, works: Sequence[Work]) -> LoraPlan:
        """What this step's rows add to the base; single rows come first."""
        decoding = tuple(self._terms(work) for work in works if work.count == 1)
        prompts: list[PromptTerms] = []
        row = len(decoding)
        for work in works[row:]:
            prompts.append(PromptTerms(row, row + work.count, self._terms(work)))
            row += work.count
        return LoraPlan(decoding, tuple(prompts))

    def row_order(self, work: Work) -> tuple[bool, int, int, int]:
        """Single rows first; of these one adapter's side by side, a bucket's too, then composed, then base
        rows.
        """
        terms = self._terms(work)
        kind = 0 if len(terms) == 1 else 1 if terms else 2
        return work.count > 1, kind, *((terms[0].bucket, terms[0].slot) if terms else (0, 0))

    def check_integrity(self) -> None:
        """Raises AssertionError when RAM's account, slots and their memory disagree. Not amid a step."""
        if sum(loaded.bytes for loaded in self._resident.values()) != self.used_bytes:
            raise AssertionError("the bytes of packed adapters do not add up")
        if self.used_bytes > self.ram_bytes:
            raise AssertionError(f"{self.used_bytes} bytes of packed adapters; {self.ram_bytes} are allowed")
        if not self._named.keys() <= self._resident.keys():
            raise AssertionError("a request names an adapter that is not in RAM")
        if not self.table.held <= self._named.keys():
            raise AssertionError("a slot is held for an adapter that no request names")
        self.pools.check_integrity(self.table.place_of(adapter) for adapter in self.table.placed)

    def _terms(self, work: Work) -> Terms:
        """In one order whatever the request's: pages are shared between orders, so sums must be the same."""
        found: list[SlotTerm] = []
        for one in sorted(work.sequence.prepared.request.adapters, key=lambda one: one.adapter):
            place = self.table.place_of(one.adapter)
            found.append(SlotTerm(place.bucket, place.slot, one.weight_ppm / PPM))
        return tuple(found)
