"""This project's engine, stepped by the loop that asks."""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from commonlore.protocol.ids import Cid, cid_of
from commonlore.protocol.requests import AdapterWeight, Sampling
from commonlore.worker.engine.engine import Engine, LoadedAdapter
from commonlore.worker.engine.serve import build_engine
from commonlore.worker.engine.types import AdapterSource, EngineConfig, GenerationRequest
from commonlore.worker.models.architecture import LINEARS

from ..jobs import Answered, Ask, Job, Message
from .stepping import Progress, drive
from .turns import Arm, serve

WHOLE_PPM = 1_000_000


class OurArm(Arm):
    """An engine and what the adapter store does for it: room is made by evicting the least recently used."""

    def __init__(self, engine: Engine, settings: Mapping[str, Any]) -> None:
        self._engine = engine
        self._folder, self._rank = Path(settings["adapters"]), int(settings["rank"])
        self._slots = int(settings["slots"])
        self._recent: OrderedDict[int, None] = OrderedDict()  # in slots, least recently used first
        self._users: Counter[int] = Counter()
        self._under_way: dict[bytes, tuple[int, int | None]] = {}
        self._in_memory: dict[int, LoadedAdapter] = {}
        self._made = 0

    def facts(self) -> Message:
        """See Arm."""
        return {"version": version("commonlore"), "torch": version("torch"), "slots": self._slots}

    def run(self, job: Job) -> list[Answered]:
        """See Arm."""
        return drive(self, job)

    # ---- adapters

    def bring(self, adapter: int) -> None:
        """See Arm."""
        self._make_room()
        self._engine.load_adapter(self._source(adapter))
        self._recent[adapter] = None

    def hold_in_memory(self, adapters: Sequence[int]) -> None:
        """See Arm."""
        for adapter in adapters:
            self._evict(adapter)
            self._in_memory[adapter] = self._engine.read_adapter(self._source(adapter))

    def activate(self, adapter: int) -> None:
        """See Arm."""
        self._make_room()
        self._engine.install(self._in_memory.pop(adapter))
        self._recent[adapter] = None

    def _source(self, adapter: int) -> AdapterSource:
        path = self._folder / f"a{adapter:04}" / "adapter_model.safetensors"
        return AdapterSource(_cid(adapter), str(path), self._rank, 2 * self._rank, LINEARS)

    def _make_room(self) -> bool:
        if len(self._recent) < self._slots:
            return True
        victim = next((one for one in self._recent if not self._users[one]), None)
        if victim is not None:
            self._evict(victim)
        return victim is not None

    def _evict(self, adapter: int) -> None:
        self._recent.pop(adapter, None)
        self._engine.unload(_cid(adapter))

    def _ready(self, adapter: int) -> bool:
        """Whether a request may use it now, after doing what can be done for that."""
        if adapter not in self._recent:
            if not self._make_room():
                return False
            self.bring(adapter)
        self._recent.move_to_end(adapter)
        return True

    # ---- the loop's engine

    def start(self, number: int, ask: Ask, tokens: int) -> bool:
        """See Stepper."""
        if ask.adapter is not None:
            if not self._ready(ask.adapter):
                return False
            self._users[ask.adapter] += 1
        self._made += 1
        key = self._made.to_bytes(8, "big")
        adapters = () if ask.adapter is None else (AdapterWeight(_cid(ask.adapter), WHOLE_PPM),)
        sampling = Sampling(seed=0, max_tokens=tokens)
        prepared = self._engine.prepare(
            GenerationRequest(key, sampling, prompt_tokens=ask.prompt, adapters=adapters)
        )
        prepared.answer.eos_token_ids = frozenset()  # every engine answers to the full length
        self._engine.add(prepared)
        self._under_way[key] = (number, ask.adapter)
        return True

    def step(self) -> list[Progress]:
        """See Stepper."""
        return [
            Progress(self._under_way[event.request_id][0], event.tokens, self._ended(event.request_id))
            if event.finish is not None
            else Progress(self._under_way[event.request_id][0], event.tokens, False)
            for event in self._engine.step()
        ]

    def _ended(self, key: bytes) -> bool:
        _, adapter = self._under_way.pop(key)
        if adapter is not None:
            self._users[adapter] -= 1
        return True


def _cid(adapter: int) -> Cid:
    return cid_of(f"benchmark adapter {adapter}".encode())


def open_arm(settings: Mapping[str, Any]) -> Arm:
    """Raises InvalidModel when the engine does not know the precision."""
    config = EngineConfig(
        settings["base_dir"],
        settings["precision"],
        threads=1,
        pages=settings["pages"],
        max_batch=settings["batch"],
        max_queue=settings["queue"],
        slots=settings["slots"],
    )
    return OurArm(build_engine(config), settings)


if __name__ == "__main__":
    sys.exit(serve(open_arm))
