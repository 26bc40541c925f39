"""The main job on one machine: chain, peers, Datanets, adapters, answers, money. Real processes on loopback.

Rules of this file:

- It only orders and watches, through each peer's control socket and the chain; whatever happens between the
  peers happens by libp2p.
- A chapter is a generator: it yields what it has to tell and returns what the next chapters need.
- Long steps run one after the other, and training gets fewer steps where the machine is slow.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...protocol.ids import Address, Cid, checksummed, to_address
from ...worker.models.importing import import_base
from ...worker.models.reference import BaseModel, Progress
from ..datanets.corpora import HeldOut
from ..datanets.corpus_orders import contributors_of, publication_of
from ..gateway.control_client import ControlClient
from ..identity.keystore import Keystore
from ..local.local_network import LocalNetwork, hold_network
from ..local.visits import wait_for
from .events import Advanced, Answered, Asked, Began, CreditLine, Event, Fetch, Said, Told, Trained
from .money import settle_and_claim
from .plan import (
    CLIENT,
    MAX_TOKENS,
    PLAIN,
    TRAINER,
    WORKERS,
    DemoOptions,
    PlainQuestion,
    Subject,
    plan_demo,
    subjects,
)
from .training import Effort, train_within

PATIENCE_S = 60.0
ATTRIBUTION = "the worker states whose rows shaped the answer"


@dataclass(slots=True)
class Stage:
    """What the chapters share: the network, a line to every peer, and what people call each account."""

    options: DemoOptions
    network: LocalNetwork
    lines: dict[str, ControlClient]
    names: dict[Address, str]
    began: float

    @property
    def client(self) -> ControlClient:
        """The line to the client."""
        return self.lines[CLIENT]

    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.began


def run_demo(options: DemoOptions) -> Iterator[Event]:
    """The whole demo; the last event is `Finished`. Leaving the iterator ends every process.

    Raises CommonloreError: MissingDependency, PeerFailed, TrainingFailed, …
    """
    subjects_shown = subjects()
    with hold_network(plan_demo(options)) as network, ExitStack() as stack:
        stage = Stage(options, network, {}, {}, time.monotonic())
        yield from _start_chain(stage)
        yield from _import_base(options)
        yield from _start_peers(stage, stack)
        yield from _publish(stage, subjects_shown)
        trained = yield from _train(stage, subjects_shown)
        answers = yield from _ask(stage, subjects_shown)
        yield from settle_and_claim(stage, trained, answers)


# ---- a network


def _start_chain(stage: Stage) -> Iterator[Event]:
    yield Began("A chain: the contracts on an embedded EVM, behind JSON-RPC on loopback")
    stage.network.start_chain()
    deployment = stage.network.deployment
    yield Told("chain", f"{deployment.chain_id} at {stage.network.chain.url}")
    yield Told("escrow", checksummed(deployment.escrow))
    yield Told("settlement", checksummed(deployment.settlement))
    yield Told("epochs", f"{deployment.epoch_length} s each; claims open {deployment.window} s after posting")


def _import_base(options: DemoOptions) -> Iterator[Event]:
    yield Began("A base model that every worker shares")
    cache = Path(options.cache_dir) if options.cache_dir else None
    base = yield from _in_thread(lambda progress: import_base(options.base, cache, progress))
    yield Told("base", f"{base.label.name}, {base.id}")


def _in_thread(work: Callable[[Progress], BaseModel]) -> Generator[Event, None, BaseModel]:
    """Do blocking work in a thread and tell its progress; Ctrl-C need not wait for it."""
    told: queue.SimpleQueue[Advanced | BaseModel | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            told.put(work(lambda stage, done, total: told.put(Advanced(stage, done, total))))
        except Exception as error:  # handed to the caller, whatever it is
            told.put(error)

    threading.Thread(target=run, daemon=True).start()
    while True:
        match told.get():
            case Advanced() as event:
                yield event
            case BaseModel() as base:
                return base
            case error:
                raise error


def _start_peers(stage: Stage, stack: ExitStack) -> Iterator[Event]:
    yield Began("Five peers, each a process with its own keys, store and address")
    network = stage.network
    for number, name in enumerate(network.start_peers(), 1):
        yield Advanced("starting processes", number, len(network.plan.peers), name)
    for name, peer in network.peers.items():
        stage.lines[name] = stack.enter_context(ControlClient(peer.home))
        stage.names[peer.ready.owner] = name
        roles = ", ".join(peer.ready.roles) or "asks"
        yield Told(name, f"{peer.ready.peer_id} ({roles})")
    treasury = network.treasury()
    stage.names |= {treasury.platform: "platform", treasury.work_pool: "work pool"}
    started = time.monotonic()
    wait_for("the client to hear of both workers", lambda: len(_workers(stage)) == len(WORKERS), PATIENCE_S)
    known = len(stage.client.get("/peers")["connected"])
    waited = time.monotonic() - started
    yield Told(
        "found",
        f"the client knew only {network.first.name}; it is connected to {known} peers now, and"
        f" heard both workers' adverts by gossip within {waited:.1f} s",
    )


def _workers(stage: Stage) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stage.client.get("/peers")["workers"]
    return found


# ---- Datanets and adapters


def _publish(stage: Stage, chosen: tuple[Subject, ...]) -> Iterator[Event]:
    yield Began("Two Datanets: each contributor signs a shard with its own keys")
    keystore = Keystore(stage.network.home(TRAINER).keys)
    for subject in chosen:
        source = subject.corpus
        stage.names |= {payee: name for name, payee in contributors_of(source, keystore).items()}
        record = stage.lines[TRAINER].post("/datanets", publication_of(source))
        hands = ", ".join(f"{name} {len(rows)}" for name, rows in source.contributors.items())
        yield Told(source.name, f"{source.purpose}; rows: {hands}")
        yield Told("", f"version {record['version']}, {record['datanet']}; {source.licence}")


def _train(stage: Stage, chosen: tuple[Subject, ...]) -> Generator[Event, None, tuple[Trained, ...]]:
    yield Began("Two adapters: LoRA, trained and indexed for attribution by the trainer peer")
    trained: list[Trained] = []
    for number, subject in enumerate(chosen):
        share = (stage.options.budget_s - stage.seconds()) / (len(chosen) - number)
        effort = Effort(stage.options.steps, stage.options.index_rows)
        adapter = yield from train_within(stage.lines[TRAINER], subject, effort, share)
        trained.append(adapter)
        yield adapter
    aliases = {adapter.alias for adapter in trained}
    for name in (CLIENT, *WORKERS):
        line = stage.lines[name]
        wait_for(f"{name} to hear of the adapters", lambda: aliases <= _aliases(line), PATIENCE_S)  # noqa: B023
    yield Told("announced", "client and workers have heard of both adapters by gossip; no worker has one yet")
    return tuple(trained)


def _aliases(line: ControlClient) -> set[str]:
    return {adapter["alias"] for adapter in line.get("/adapters")}


# ---- answers


def _ask(stage: Stage, chosen: tuple[Subject, ...]) -> Generator[Event, None, tuple[Answered, ...]]:
    yield Began("Three answers: by an adapter, by another, by the bare base")
    answers = []
    asked: list[tuple[str | None, HeldOut | PlainQuestion]] = [(s.alias, s.question) for s in chosen]
    for adapter, question in [*asked, (None, PLAIN)]:
        answer = yield from _ask_one(stage, adapter, question)
        answers.append(answer)
        yield answer
    return tuple(answers)


def _ask_one(
    stage: Stage, adapter: str | None, question: HeldOut | PlainQuestion
) -> Generator[Event, None, Answered]:
    yield Asked(question.question, adapter)
    before = _fetches(stage)
    body = {"prompt": question.question, "max_tokens": MAX_TOKENS}
    done: dict[str, Any] = {}
    for line in stage.client.stream("/ask", body | ({"adapter": adapter} if adapter else {})):
        done = line.get("done", done)
        if "delta" in line:
            yield Said(line["delta"])
    if adapter is not None:
        yield Advanced(ATTRIBUTION, 0, 1)
    receipts = [stage.client.get(f"/receipts/{receipt['id']}") for receipt in done["receipts"]]
    if adapter is not None:
        yield Advanced(ATTRIBUTION, 1, 1)
    fetched = [fetch for fetch in _fetches(stage) if fetch not in before]
    peers = {process.ready.peer_id: name for name, process in stage.network.peers.items()}
    return Answered(
        adapter=adapter,
        question=question.question,
        text=done["text"],
        expected=question.expected,
        right=question.is_right(done["text"]),
        worker=peers[done["workers"][-1]],
        receipt_ids=tuple(receipt["id"] for receipt in receipts),
        verified=all(receipt["verified"] for receipt in receipts),
        price=done["price"],
        shares=_summed(receipts),
        credits=_credit_lines(stage, receipts),
        method=receipts[-1]["method"],
        fetch=fetched[0] if fetched else None,
    )


def _summed(receipts: list[dict[str, Any]]) -> dict[str, int]:
    roles = receipts[0]["shares"]
    return {role: sum(receipt["shares"][role] for receipt in receipts) for role in roles}


def _credit_lines(stage: Stage, receipts: list[dict[str, Any]]) -> tuple[CreditLine, ...]:
    """Credits of all receipts of an answer, by account and role."""
    amounts: dict[tuple[Address, str], int] = {}
    for credit in (credit for receipt in receipts for credit in receipt["credits"]):
        key = (to_address(credit["account"]), credit["role"])
        amounts[key] = amounts.get(key, 0) + credit["amount"]
    return tuple(
        CreditLine(stage.names.get(account, checksummed(account)), role, account, amount)
        for (account, role), amount in amounts.items()
    )


def _fetches(stage: Stage) -> list[Fetch]:
    """Every adapter that a worker has pulled so far."""
    return [
        Fetch(Cid(fetch["adapter"]), name, fetch["bytes"], fetch["milliseconds"])
        for name in WORKERS
        for fetch in stage.lines[name].get("/status")["worker"]["fetches"]
    ]
