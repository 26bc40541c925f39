"""This project's engine, stepped by the loop that asks."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import Refused
from commonlore.protocol.ids import Cid, cid_of
from commonlore.protocol.inference.messages import RefusalCode
from commonlore.protocol.requests.records import Sampling
from commonlore.worker.engine.engine import Engine
from commonlore.worker.engine.process.serve import build_engine
from commonlore.worker.engine.types import AdapterSource, EngineConfig, GenerationRequest
from commonlore.worker.models.architecture import LINEARS

from ..engines.jobs import Answered, Ask, Job, Message
from .stepping import Progress, drive
from .turns import Absent, Arm, serve

ADAPTER_BYTES = 8 << 20
"""More than one takes in memory."""


class OurArm(Arm):
    """An engine. An adapter that its memory does not hold is loaded when it is asked for."""

    def __init__(self, engine: Engine, settings: Mapping[str, Any]) -> None:
        self._engine = engine
        self._folder, self._rank = Path(settings["adapters"]), int(settings["rank"])
        self._slots, self._kept = int(settings["slots"]), int(settings["kept"])
        self._under_way: dict[bytes, int] = {}
        self._made = 0

    def facts(self) -> Message:
        """See Arm."""
        return {
            "version": version("commonlore"),
            "torch": version("torch"),
            "slots": self._slots,
            "kept_in_memory": self._kept,
        }

    def run(self, job: Job) -> list[Answered]:
        """See Arm."""
        return drive(self, job)

    # ---- adapters

    def bring(self, adapter: int) -> None:
        """See Arm."""
        self._engine.load_adapter(self._source(adapter))

    def hold_in_memory(self, adapters: Sequence[int]) -> None:
        """See Arm. As many others run afterwards as there are slots."""
        if len(adapters) + self._slots > self._kept:
            raise Absent("not enough adapters are kept in memory")
        for adapter in adapters:
            self.bring(adapter)
        others = [other for other in range(len(adapters) + self._slots) if other not in adapters]
        self.run(Job(tuple(Ask((other + 1,), other) for other in others[: self._slots]), 1, self._slots))

    def activate(self, adapter: int) -> None:
        """See Arm. Nothing is to be done: the engine fills a slot when a request starts (`filled_ms`)."""

    def filled_ms(self) -> float:
        """See Arm."""
        return self._engine.stats().slot_fill_ns / 1e6

    def _source(self, adapter: int) -> AdapterSource:
        path = self._folder / f"a{adapter:04}" / "adapter_model.safetensors"
        return AdapterSource(_cid(adapter), str(path), self._rank, 2 * self._rank, LINEARS)

    # ---- the loop's engine

    def start(self, number: int, ask: Ask, tokens: int) -> bool:
        """See Stepper."""
        self._made += 1
        key = self._made.to_bytes(8, "big")
        adapters = () if ask.adapter is None else (AdapterWeight(_cid(ask.adapter), PPM),)
        request = GenerationRequest(
            key, Sampling(seed=0, max_tokens=tokens), prompt_tokens=ask.prompt, adapters=adapters
        )
        prepared = self._engine.prepare(request)
        prepared.answer.eos_token_ids = frozenset()  # every engine answers to the full length
        self._under_way[key] = number
        try:
            self._engine.add(prepared)
        except Refused as refused:
            if refused.code is not RefusalCode.UNKNOWN_ADAPTER or ask.adapter is None:
                raise
            self.bring(ask.adapter)
            self._engine.add(prepared)
        return True

    def step(self) -> list[Progress]:
        """See Stepper."""
        return [
            Progress(self._under_way[event.request_id], event.tokens, event.finish is not None)
            for event in self._engine.step()
        ]


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
        adapter_ram=settings["kept"] * ADAPTER_BYTES,
        device="cpu",  # as the peers
    )
    return OurArm(build_engine(config), settings)


if __name__ == "__main__":
    sys.exit(serve(open_arm))
