"""The bare engine as a process: TorchEngine stepped by the loop that asks, nothing around it.

Run by `arms`.
"""

from __future__ import annotations

import sys
from collections import deque

from commonlore.peer.config import Config
from commonlore.protocol.requests.records import ChatMessage
from commonlore.worker.engine.engine import Engine
from commonlore.worker.engine.process.serve import build_engine
from commonlore.worker.engine.types import EngineConfig, GenerationRequest

from ..child import next_order, say
from .load import Load, Timing, report


def engine_config(base_dir: str, precision: str) -> EngineConfig:
    """What a worker's node would give its engine, at one thread."""
    config = Config()
    return EngineConfig(
        base_dir,
        precision,
        threads=1,
        pages=config.engine_pages,
        max_batch=config.max_batch,
        slots=config.engine_slots,
        device="cpu",
    )


def run(engine: Engine, load: Load) -> list[Timing]:
    """Answer the load, keeping `concurrency` requests under way."""
    waiting = deque(enumerate(load.prompts))
    under_way: dict[bytes, Timing] = {}
    done: list[Timing] = []
    while waiting or under_way:
        while waiting and len(under_way) < load.concurrency:
            number, prompt = waiting.popleft()
            key = number.to_bytes(4, "big")
            under_way[key] = Timing()
            messages = (ChatMessage("user", prompt),)
            engine.add(engine.prepare(GenerationRequest(key, load.sampling, messages)))
        for event in engine.step():
            timing = under_way[event.request_id]
            timing.took(len(event.tokens))
            if event.finish is not None:
                timing.end()
                done.append(under_way.pop(event.request_id))
    return done


def main() -> int:
    """Obey the parent until it closes."""
    order = next_order()
    if order is None:
        return 0
    engine = build_engine(engine_config(order["base_dir"], order["precision"]))
    say({"ready": True})
    while (order := next_order()) is not None:
        say(report(run(engine, Load(**order))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
