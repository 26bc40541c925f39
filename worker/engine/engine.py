"""What every engine does, whatever computes inside: one base, continuous batching, an adapter per request.

Rules of this file:
- Two sides. `prepare`, `read_adapter`, `count_tokens` and `stats` may run in any thread beside a step;
  everything else belongs to the one thread that steps.
- A request or adapter that is wrong raises at the call that brought it; what goes wrong later ends that
  request with `FinishReason.ERROR`. Neither disturbs another request.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...protocol.ids import Cid
from ...protocol.requests.records import ChatMessage
from .batching.prompts import Prepared
from .types import AdapterSource, EngineFacts, EngineStats, GenerationRequest, TokenEvent

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    """An adapter read, checked and packed as the engine's slots want it: one block, 1-D."""

    source: AdapterSource
    packed: Tensor

    @property
    def bytes(self) -> int:
        """What it takes in RAM."""
        return self.packed.nbytes


class Engine(ABC):
    """An inference engine. Use it from one thread, but for the methods that say otherwise."""

    facts: EngineFacts

    @abstractmethod
    def count_tokens(self, messages: Sequence[ChatMessage]) -> int:
        """Prompt tokens of these turns. Any thread. Raises InvalidModel."""

    @abstractmethod
    def prepare(self, request: GenerationRequest) -> Prepared:
        """Check and tokenise. Any thread. Raises RemoteProtocolError, Refused(too_long), InvalidModel."""

    @abstractmethod
    def read_adapter(self, source: AdapterSource) -> LoadedAdapter:
        """Validate, read and pack an adapter file. Any thread.

        Raises InvalidAdapter, NotFound, Refused(busy) without memory.
        """

    @abstractmethod
    def install(self, adapter: LoadedAdapter) -> None:
        """Keep it in RAM, from where it gets a slot when a request that names it starts to run; nothing
        happens when it is there.

        Raises Refused(busy) when it does not fit.
        """

    @abstractmethod
    def unload(self, adapter: Cid) -> None:
        """Out of RAM and slot; nothing happens when it is not there.

        Raises Refused(busy) while a present request names it.
        """

    @abstractmethod
    def make_room(self, adapter: LoadedAdapter) -> None:
        """Unload adapters that no present request names, the least recently used first, until this one fits
        or none is left to go; nothing happens when it is there.
        """

    @abstractmethod
    def add(self, prepared: Prepared) -> None:
        """Queue a request.

        Raises Refused: busy when the queue is full or its adapters are more than there are slots,
        unknown_adapter when one is not in RAM.
        """

    @abstractmethod
    def abort(self, request_id: bytes) -> None:
        """Forget a request; nothing happens when it is not here. No event follows."""

    @abstractmethod
    def hold(self, request_id: bytes, held: bool) -> None:
        """Make a request wait, its place in the batch and its slots for others, or go on; nothing happens
        when it is not here.
        """

    @abstractmethod
    def has_work(self) -> bool:
        """Whether a step would do anything now."""

    @abstractmethod
    def seconds_to_deadline(self) -> float | None:
        """When a step is due although nothing can be computed: the nearest deadline; None without one."""

    @abstractmethod
    def step(self) -> list[TokenEvent]:
        """Compute once for everything that runs; the events of the tokens that this gave."""

    @abstractmethod
    def stats(self) -> EngineStats:
        """Load at this moment. Any thread."""

    def load_adapter(self, source: AdapterSource) -> None:
        """Read and install in one go, in the place of others where need be.

        Raises InvalidAdapter, Refused(busy).
        """
        adapter = self.read_adapter(source)
        self.make_room(adapter)
        self.install(adapter)

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[TokenEvent]:
        """Run these requests to their ends in this thread: the bare engine, for tests and measurements."""
        open_ids = {request.request_id for request in requests}
        try:
            for request in requests:
                self.add(self.prepare(request))
            while open_ids:
                for event in self.step():
                    if event.finish is not None:
                        open_ids.discard(event.request_id)
                    yield event
        finally:
            for request_id in open_ids:
                self.abort(request_id)
