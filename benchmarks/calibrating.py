"""`python -m benchmarks.calibrating OUT`: real request logs for the simulator's calibration (experiment E6).

Three workers, a client that asks at Poisson times for adapters of Zipf popularity, a worker killed half-way:
once to fit, once to be predicted. Everything is real but the adapters' sense: processes, libp2p, engines,
receipts. Writes OUT/fit-N.jsonl and OUT/held-out-N.jsonl, the workers' own logs, and prints how the asks
ended.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from commonlore.peer.asking.answers import AskOptions
from commonlore.peer.client import Client
from commonlore.peer.config import Config
from commonlore.peer.home import Home
from commonlore.peer.local.processes import PeerProcess, without_settings, write_settings
from commonlore.protocol.content.manifests import AdapterManifest, PriorWeight, Recipe
from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.encoding.codec import encode
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import CommonloreError
from commonlore.protocol.gossip.adverts import AdapterRecord
from commonlore.protocol.ids import Address, Cid, cid_of
from commonlore.protocol.requests.records import ChatMessage, Sampling
from commonlore.worker.models.cache import default_cache_dir
from commonlore.worker.models.importing import import_base

from .child import note
from .engines.material import LINEARS, RANK, Material, prepare_material
from .nodes.load import PLACES

WORKERS = 3
LOG = "requests.jsonl"
AUTHOR = Address(b"\x11" * 20)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to ask. Rates are asks a second; lengths are lognormal about their medians."""

    seconds: float = 60.0
    rate: float = 1.5
    adapters: int = 12
    zipf: float = 1.0
    output_median: int = 24
    prompt_words: int = 24


@dataclass(frozen=True, slots=True)
class Question:
    """One ask: when, with which adapter, what, and how long the answer may be."""

    at_s: float
    adapter: int
    prompt: str
    max_tokens: int


def draw_questions(plan: Plan, seed: int) -> list[Question]:
    """A run's asks."""
    draw = random.Random(seed)
    weights = [(rank + 1) ** -plan.zipf for rank in range(plan.adapters)]
    asks, at_s = [], draw.expovariate(plan.rate)
    while at_s < plan.seconds:
        words = max(4, round(plan.prompt_words * draw.lognormvariate(0, 0.6)))
        text = " ".join(draw.choice(PLACES) for _ in range(words // 2))
        prompt = f"{seed}-{len(asks)} is a number. Tell a story of {text}."
        tokens = min(200, max(2, round(plan.output_median * draw.lognormvariate(0, 0.6))))
        asks.append(Question(at_s, draw.choices(range(plan.adapters), weights)[0], prompt, tokens))
        at_s += draw.expovariate(plan.rate)
    return asks


async def publish(client: Client, material: Material, base: Cid, count: int) -> list[Cid]:
    """Announce so many adapters from this client; their ids."""
    node, ids = client.node, []
    for number in range(count):
        path = material.adapter_file(number)
        manifest = AdapterManifest(
            name=f"random-{number}",
            base=base,
            weights=await node.content.put_file(path),
            weights_size=path.stat().st_size,
            rank=RANK,
            alpha=2 * RANK,
            targets=LINEARS,
            template=bytes(32),
            datanets=(cid_of(b"no datanet"),),
            recipe=Recipe("random", 0, 1, 0, RANK, 2 * RANK, 0, number, "bf16", "{question}"),
            early_checkpoint=None,
            factors=None,
            split=DEFAULT_SPLIT,
            priors=(PriorWeight(AUTHOR, PPM),),
            licence="CC0-1.0",
            author=bytes(32),
            author_payee=AUTHOR,
        )
        ids.append(await node.content.put(encode(manifest)))
        stamp = (await node.next_seq(), node.clock.now_ms())
        await node.announce(AdapterRecord(f"bench/random-{number}", ids[-1], base, None, None, 0, 0, *stamp))
    return ids


async def ask_all(
    client: Client, asks: list[Question], ids: list[Cid], kill: tuple[float, PeerProcess]
) -> Counter[str]:
    """Ask everything at its time and kill a worker at its; how the asks ended."""
    ends: Counter[str] = Counter()
    start = trio.current_time()

    async def one(question: Question) -> None:
        options = AskOptions(
            (ChatMessage("user", question.prompt),),
            adapters=((ids[question.adapter], PPM),),
            sampling=Sampling(seed=question.max_tokens, max_tokens=question.max_tokens, temperature_ppm=PPM),
        )
        try:
            async with client.answer(options) as answer:
                await answer.read()
            ends[f"whole, {len(answer.transcript.workers)} workers"] += 1
        except CommonloreError as error:
            ends[error.code] += 1

    async def killing() -> None:
        await trio.sleep_until(start + kill[0])
        kill[1].process.kill()
        note("a worker was killed")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(killing)
        for question in asks:
            await trio.sleep_until(start + question.at_s)
            nursery.start_soon(one, question)
    return ends


def start_workers(stack: ExitStack, folder: Path, base: str) -> list[PeerProcess]:
    """Three workers of one engine thread each; the first is where the others start from."""
    workers: list[PeerProcess] = []
    for number in range(WORKERS):
        home = Home(folder / f"worker-{number + 1}").create()
        settings: dict[str, object] = {
            "roles": ("worker",),
            "base": base,
            "threads": 1,
            "gateway_port": 0,
            "cache_dir": str(default_cache_dir()),
            "request_log": LOG,
            "credit_limit": 10**12,
        }
        if workers:
            settings["bootstrap"] = (workers[0].ready.address,)
        write_settings(home.config, settings, "Written by the benchmark.")
        worker = PeerProcess(f"worker-{number + 1}", home, without_settings(os.environ, settings))
        stack.callback(worker.stop)
        worker.wait_ready()
        workers.append(worker)
    return workers


async def one_run(plan: Plan, base: str, folder: Path, seed: int) -> tuple[Counter[str], list[Path]]:
    """A whole run: how it ended, and the workers' logs."""
    imported = import_base(base)
    material = prepare_material(imported, plan.adapters)
    with ExitStack() as stack:
        workers = await trio.to_thread.run_sync(start_workers, stack, folder, base)
        config = Config(bootstrap=(workers[0].ready.address,), cache_dir=str(default_cache_dir()))
        async with Client.connect(home=folder / "client", config=config) as client:
            ids = await publish(client, material, imported.id, plan.adapters)
            await warm_up(client, ids)
            asks = draw_questions(plan, seed)
            note(f"{len(asks)} asks in {plan.seconds:.0f} s")
            ends = await ask_all(client, asks, ids, (plan.seconds / 2, workers[-1]))
    return ends, [folder / f"worker-{number + 1}" / "logs" / LOG for number in range(WORKERS)]


async def warm_up(client: Client, ids: list[Cid]) -> None:
    """Until three workers are known, and one answered with an adapter."""
    with trio.fail_after(60):
        while len(client.node.asker.offers()) < WORKERS:  # noqa: ASYNC110 - others' processes raise no event
            await trio.sleep(0.2)
        for adapter in ids[:2]:
            options = AskOptions((ChatMessage("user", "Hello."),), adapters=((adapter, PPM),))
            async with client.answer(replace(options, sampling=Sampling(seed=1, max_tokens=4))) as answer:
                await answer.read()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run twice, and keep the logs."""
    parser = argparse.ArgumentParser(prog="benchmarks.calibrating", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=Plan.seconds)
    parser.add_argument("--rate", type=float, default=Plan.rate)
    parser.add_argument("--base", default="starter")
    parser.add_argument("--only", choices=("fit", "held-out"), help="one of the two runs")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    plan = Plan(options.seconds, options.rate)
    for seed, name in ((1, "fit"), (2, "held-out")):
        if options.only not in (None, name):
            continue
        with tempfile.TemporaryDirectory(prefix="commonlore-calibrating-") as folder:
            started = time.monotonic()
            ends, logs = trio.run(one_run, plan, options.base, Path(folder), seed)
            for number, log in enumerate(logs, 1):
                shutil.copyfile(log, options.out / f"{name}-{number}.jsonl")
            note(f"{name}: {dict(ends)}, {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
