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

from ...protocol.ids import Cid
from ...protocol.requests import ChatMessage
from .prompts import Prepared
from .types import AdapterSource, EngineFacts, EngineStats, GenerationRequest, TokenEvent


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    """An adapter read and ready for a slot; `weights` are the engine's own."""

    source: AdapterSource
    weights: object


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
        """Validate and read an adapter file. Any thread. Raises InvalidAdapter."""

    @abstractmethod
    def install(self, adapter: LoadedAdapter) -> None:
        """Put it into a slot; nothing happens when it is there.

        Raises Refused(busy) when every slot is taken.
        """

    @abstractmethod
    def unload(self, adapter: Cid) -> None:
        """Free its slot; nothing happens when it has none. Raises Refused(busy) while a request uses it."""

    @abstractmethod
    def add(self, prepared: Prepared) -> None:
        """Queue a request.

        Raises Refused: busy when the queue is full, unknown_adapter when one is not resident.
        """

    @abstractmethod
    def abort(self, request_id: bytes) -> None:
        """Forget a request; nothing happens when it is not here. No event follows."""

    @abstractmethod
    def hold(self, request_id: bytes, held: bool) -> None:
        """Make a request wait where it is, or go on; nothing happens when it is not here."""

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
        """Read and install in one go. Raises InvalidAdapter, Refused(busy)."""
        self.install(self.read_adapter(source))

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
