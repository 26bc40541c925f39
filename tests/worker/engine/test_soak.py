"""Many more adapters than fit, for a long time: nothing is lost, nothing grows.

10,000 adapters are registered, RAM has room for 200 of them, 8 can run at once, and 3,000 requests ask for
them under a power law, some composed, some aborted. The registered ids share 40 files' contents, which are
read, checked and packed each time as any file is; the base is the tiny one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import psutil
import pytest

from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.ids import Cid, cid_of
from commonlore.protocol.requests.records import Sampling
from commonlore.worker.adapters.fake import write_fake_adapter
from commonlore.worker.engine.torch_engine import TorchEngine
from commonlore.worker.engine.types import AdapterSource, GenerationRequest
from commonlore.worker.models.reference import BaseModel

REGISTERED = 10_000
RESIDENT = 200
REQUESTS = 3_000
UNDER_WAY = 24
FILES = 40
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def registered(tiny: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> list[AdapterSource]:
    folder = tmp_path_factory.mktemp("registered")
    files = [
        write_fake_adapter(folder / f"{number}", tiny.architecture, 4, ("q_proj", "down_proj"), seed=number)
        for number in range(FILES)
    ]
    return [
        replace(files[number % FILES], adapter=cid_of(f"registered {number}".encode()))
        for number in range(REGISTERED)
    ]


@dataclass
class Load:
    """Draws requests: the n-th most popular adapter is asked for in proportion to 1 / n."""

    adapters: list[AdapterSource]
    draw: random.Random
    asked: int = 0

    def next(self) -> tuple[GenerationRequest, list[AdapterSource]]:
        """A request and the adapters that it names."""
        self.asked += 1
        kind = self.draw.random()
        chosen = [] if kind < 0.05 else self._choose(2 if kind > 0.95 else 1)
        request = GenerationRequest(
            request_id=self.asked.to_bytes(4, "big"),
            sampling=Sampling(seed=self.asked, max_tokens=self.draw.randint(1, 6)),
            prompt_tokens=tuple(self.draw.randrange(3, 300) for _ in range(self.draw.randint(2, 20))),
            adapters=tuple(AdapterWeight(one.adapter, PPM // len(chosen)) for one in chosen),
        )
        return request, chosen

    def _choose(self, count: int) -> list[AdapterSource]:
        found: set[int] = set()
        while len(found) < count:  # the density of 1 / n, drawn by its inverse
            found.add(int(REGISTERED ** self.draw.random()) - 1)
        return [self.adapters[number] for number in sorted(found)]


class Soak:
    """Keeps requests under way until all were asked, and looks on."""

    def __init__(self, engine: TorchEngine, load: Load) -> None:
        self.engine = engine
        self.load = load
        self.ended = 0
        self.steps = 0
        self.loads = 0
        self.resident: set[Cid] = set()
        self.open: set[bytes] = set()
        self.memory: list[float] = []

    def run(self) -> None:
        while self.load.asked < REQUESTS or self.open:
            while self.load.asked < REQUESTS and len(self.open) < UNDER_WAY:
                self._ask()
            self._step()
            self.steps += 1
            if self.steps % 100 == 0:
                self.engine.check_integrity()

    def _ask(self) -> None:
        request, adapters = self.load.next()
        for source in adapters:
            if source.adapter not in self.resident:
                self.loads += 1
                self.engine.load_adapter(source)
                self.resident = {one.adapter for one in self.engine.stats().resident}
        self.engine.add(self.engine.prepare(request))
        self.open.add(request.request_id)
        if self.load.asked % 50 == 0:
            self.engine.abort(request.request_id)
            self.open.discard(request.request_id)
        if self.load.asked % 500 == 0:
            self.memory.append(psutil.Process().memory_info().rss / MEBIBYTE)

    def _step(self) -> None:
        for event in self.engine.step():
            if event.finish is not None:
                assert event.finish in ("length", "stop"), event
                self.open.discard(event.request_id)
                self.ended += 1


def test_a_power_law_over_ten_thousand_adapters(build_engine, registered: list[AdapterSource]) -> None:
    engine = build_engine(slots=8, pages=128, adapter_ram=RESIDENT * build_engine().facts.packed_bytes(8))
    soak = Soak(engine, Load(registered, random.Random(11)))
    soak.run()
    engine.check_integrity()
    stats = engine.stats()
    assert soak.ended == REQUESTS - REQUESTS // 50
    assert (stats.running, stats.queued, stats.free_pages) == (0, 0, 127)
    assert sum(one.count for one in stats.ranks) == RESIDENT
    assert soak.loads > 1_000
    assert stats.slot_evictions > 1_000
    assert soak.memory[-1] - soak.memory[1] < 8, soak.memory
