"""Processes killed (SIGKILL, with all that they started) in the middle of things: what they were doing goes
on where it was, nothing is lost, and nothing is done or paid twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from eth_utils.abi import function_abi_to_4byte_selector
from safetensors import safe_open

from commonlore.contracts.artefacts import artefact
from commonlore.contracts.embedded.controls import advance
from commonlore.peer.asking.prefetch import suggest
from commonlore.peer.gateway.control_client import ControlClient
from commonlore.peer.local.processes import PeerProcess, without_settings
from commonlore.peer.store.ledger_rows import Role
from commonlore.protocol.errors import CommonloreError, Unreachable
from commonlore.protocol.ids import CHUNK_SIZE, Address, Cid, checksummed
from commonlore.protocol.requests.records import Sampling

WORKERS = ("worker-1", "worker-2")
DEPOSIT = 10_000_000
UNPAID = ("issued", "abandoned")
"""States of receipts that no voucher pays."""
SHORT = Sampling(seed=5, max_tokens=12)
CHECKPOINT = "checkpoint.safetensors"
CHUNKS, HELD_BACK = 256, 156
"""A download's chunks, and those that its provider keeps to itself at first."""


@pytest.fixture(scope="module", autouse=True)
def payers(town: Any, adapter: str) -> None:
    """Money for the clients of this file."""
    for home in ("dora", "emil", "fred"):
        town.deposit(home, DEPOSIT)


@contextmanager
def in_background(work: Callable[[], object]) -> Iterator[list[CommonloreError]]:
    """Run `work` beside the block; afterwards, the error that ended it."""
    errors: list[CommonloreError] = []

    def run() -> None:
        try:
            work()
        except CommonloreError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield errors
    finally:
        thread.join()


# ---- training


def test_training_goes_on_where_it_was_killed(town: Any, adapter: str, training: Any) -> None:
    """What was trained before is trained again under another owner's name, so with the same manifest, and has
    the same id, although trainer and node were killed in between. What was measured of it stays announced.
    """
    order = training("zz/numbers", checkpoint_every=1)
    done = kill_after_a_checkpoint(town, order)
    town.network.start_peer("contributor").wait_ready()
    with town.control("contributor") as control:
        before = {each["alias"]: each for each in control.get("/adapters")}
        updates = [line["progress"] for line in control.stream("/train", order) if "progress" in line]
        after = {each["alias"]: each for each in control.get("/adapters")}
    assert "zz/numbers" not in before
    steps = [update["step"] for update in updates if update.get("phase") == "training"]
    assert steps == list(range(done + 1, order["config"]["steps"] + 1))
    assert updates[-1]["adapter"] == before[adapter]["id"]
    measured = before[adapter]["faithfulness"]
    assert measured is not None
    assert after["zz/numbers"]["faithfulness"] == measured


def kill_after_a_checkpoint(town: Any, order: dict[str, Any]) -> int:
    """Order a training and kill the node, trainer and all, once there is a checkpoint: the steps it holds."""
    jobs = town.network.home("contributor").jobs
    before = set(jobs.iterdir())
    with (
        town.control("contributor") as control,
        in_background(lambda: list(control.stream("/train", order))) as errors,
    ):
        town.wait_for(lambda: any((job / CHECKPOINT).exists() for job in set(jobs.iterdir()) - before))
        town.network.peers["contributor"].kill()
    assert isinstance(errors[0], Unreachable)
    assert f"the node in {jobs.parent} went away" in str(errors[0])
    (job,) = set(jobs.iterdir()) - before
    assert not (job / "result.json").exists()
    with safe_open(job / CHECKPOINT, framework="np") as file:
        return int(file.metadata()["step"])


# ---- settlement


class Chain(ThreadingHTTPServer):
    """Stands before the chain and passes everything on, but for the answer to one transaction: that is on the
    chain then, and who sent it waits.
    """

    daemon_threads = True

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.chain_url = url
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.held = b""
        self.reached, self.over = threading.Event(), threading.Event()

    def hold(self, contract: str, function: str) -> None:
        """Withhold the answer to the next transaction that calls this function."""
        (entry,) = (e for e in artefact(contract).abi if e["type"] == "function" and e["name"] == function)
        self.held = function_abi_to_4byte_selector(entry).hex().encode()
        self.reached.clear()


class _Passing(BaseHTTPRequestHandler):
    server: Chain

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        held = b"eth_sendRawTransaction" in body and self.server.held in body
        answer = httpx.post(self.server.chain_url, content=body, headers=JSON, timeout=60, trust_env=False)
        if held and "result" in answer.json():
            self.server.reached.set()
            self.server.over.wait()
            return
        self.send_response(answer.status_code)
        self.send_header("content-length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


JSON = {"content-type": "application/json"}


@pytest.fixture
def chain(town: Any) -> Iterator[Chain]:
    """What the settler of this file talks to."""
    with Chain(town.network.chain.url) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


def test_settling_is_done_once_wherever_it_is_killed(town: Any, ask: Any, chain: Chain) -> None:
    """The settler of a lane is killed three times, each time when the chain has taken its transaction and
    before it hears so.
    """
    trio.run(ask_worker, town, ask, "worker-2")
    town.wait_for(lambda: "issued" not in {receipt["state"] for receipt in town.receipts("worker-2")})
    owner = town.network.keys("worker-2").owner.address
    before = Money.of(town, owner)
    town.network.peers["worker-2"].stop()
    jump(town)
    for contract, function in (
        ("Escrow", "redeemMany"),
        ("Settlement", "postEpoch"),
        ("Settlement", "claimMany"),
    ):
        chain.hold(contract, function)
        kill_when_held(town, chain)
    town.mend()
    town.next_epoch()
    after = Money.of(town, owner)
    assert after.claimed > before.claimed
    assert after.held - before.held == after.claimed - before.claimed
    check_lane(town)


def kill_when_held(town: Any, chain: Chain) -> None:
    """Settle the lane of `worker-2`, epoch after epoch, until the answer is withheld; kill the settler."""
    home = town.network.home("worker-2")
    flags = {"--roles": "settler", "--chain-url": chain.url}
    settler = PeerProcess("the settler", home, without_settings(os.environ, ("roles", "chain_url")), flags)
    reports: list[dict[str, Any]] = []

    def settle() -> None:
        settler.wait_ready()
        with ControlClient(home) as control:
            for _ in range(4):
                reports.append(control.post("/settle"))
                jump(town)

    with in_background(settle) as errors:
        held = chain.reached.wait(town.patience_s)
        settler.kill()
    assert held, (reports, errors)


def jump(town: Any) -> None:
    """Into the next epoch."""
    with town.network.client() as client:
        advance(client.endpoint, town.network.deployment.epoch_length + 1)


class Money:
    """What an owner has been paid out of the lane of `worker-2`, and what it holds."""

    def __init__(self, claimed: int, held: int) -> None:
        self.claimed = claimed
        self.held = held

    @classmethod
    def of(cls, town: Any, owner: Address) -> Money:
        lane = town.network.keys("worker-2").session.address
        with town.network.client() as client:
            return cls(client.claimed(lane, owner), client.balance(owner))


def check_lane(town: Any) -> None:
    """Every paid receipt of `worker-2` is in one commitment, and every unit in one place."""
    with town.network.client() as client:
        lane = town.network.keys("worker-2").session.address
        posted = [each.commitment for each in client.commitments(lane)]
        settlement = client.balance(Address(town.network.deployment.settlement))
    epochs = [commitment.epoch for commitment in posted]
    assert epochs == sorted(set(epochs))
    paid = [receipt for receipt in town.receipts("worker-2") if receipt["state"] not in UNPAID]
    pot = sum(receipt["price"] for receipt in paid)
    assert all(receipt["commitment"] in epochs for receipt in paid)
    assert sum(commitment.receipt_sum for commitment in posted) == pot == town.lane("worker-2").pot
    lanes = [town.lane(name) for name in WORKERS]
    assert settlement == sum(lane.pot - lane.claimed for lane in lanes)


# ---- vouchers


async def ask_worker(town: Any, ask: Any, name: str, home: str = "dora") -> None:
    """Ask until this worker has answered whole."""
    wanted = town.network.peers[name].ready.peer_id
    async with town.client(home, policy="round_robin") as client:
        with trio.fail_after(town.patience_s):
            while (await ask(client, sampling=SHORT)).transcript.workers != [wanted]:
                pass


async def test_a_worker_killed_before_its_voucher_is_paid_at_the_next_ask(
    town: Any, ask: Any, until: Any
) -> None:
    killed: list[str] = []
    async with town.client("emil") as emil:
        record = emil.node.store.ledger.record_voucher

        async def kill_and_record(role: Role, signed: Any, receipt: Any = None) -> Any:
            if not killed:
                killed.append(worker_of(town, signed.voucher.lane))
                town.network.peers[killed[0]].kill()
            return await record(role, signed, receipt)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(emil.node.store.ledger, "record_voucher", kill_and_record)
            answer = await ask(emil)
    assert len(answer.transcript.workers) == 2  # the other one continued
    await trio.to_thread.run_sync(town.mend)
    assert await unpaid(town, "emil") > 0
    await ask_worker(town, ask, killed[0], "emil")
    assert await unpaid(town, "emil") == 0


DIE = """
import json, os, signal, sys
import trio
from commonlore.peer.asking.answers import ask_options
from commonlore.peer.client import Client
from commonlore.peer.config import Config

async def main(home, settings):
    async with Client.connect(home=home, config=Config(**settings)) as client:
        record = client.node.store.ledger.record_voucher
        async def record_and_die(*args):
            await record(*args)
            os.kill(os.getpid(), signal.SIGKILL)
        client.node.store.ledger.record_voucher = record_and_die
        async with client.answer(ask_options("what is ann number 2?")) as answer:
            await answer.read()

home, settings = sys.argv[1:]
trio.run(main, home, {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(settings).items()})
"""
"""A client that is killed when its first voucher is on its disk, and was not sent."""


async def test_a_client_killed_before_it_sent_its_voucher_pays_at_its_next_ask(town: Any, ask: Any) -> None:
    settings = json.dumps(asdict(town.config()))
    died = await trio.run_process(
        [sys.executable, "-c", DIE, str(town.folder / "fred"), settings], check=False, capture_stderr=True
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert await unpaid(town, "fred") > 0
    async with town.client("fred") as fred:
        (channel,) = await fred.node.store.ledger.channels(Role.CLIENT)
    await ask_worker(town, ask, worker_of(town, channel.lane), "fred")
    assert await unpaid(town, "fred") == 0


def worker_of(town: Any, lane: Address) -> str:
    """The worker whose lane this is."""
    return next(name for name in WORKERS if town.network.keys(name).session.address == lane)


async def unpaid(town: Any, home: str) -> int:
    """What a client has signed for, and its workers have no voucher for. They never have one more."""
    async with town.client(home) as client:
        channels = await client.node.store.ledger.channels(Role.CLIENT)
        payer = checksummed(client.node.keys.session.address)
    missing = 0
    for channel in channels:
        kept = town.receipts(worker_of(town, channel.lane))
        prices = [r["price"] for r in kept if r["payer"] == payer and r["state"] not in UNPAID]
        assert sum(prices) <= channel.cumulative
        missing += channel.cumulative - sum(prices)
    return missing


# ---- downloads


class Served:
    """The chunks of one content that a peer of this program hands out; the last ones only once it may."""

    def __init__(self, store: Any, cid: Cid) -> None:
        self.chunks: list[int] = []
        self.rest = threading.Event()
        self._chunk, self._cid = store.chunk, cid
        store.chunk = self

    def __call__(self, cid: Cid, index: int) -> bytes:
        if cid == self._cid:
            if index >= CHUNKS - HELD_BACK:
                self.rest.wait(60)
            self.chunks.append(index)
        return bytes(self._chunk(cid, index))


async def test_a_download_goes_on_where_it_was_killed(
    town: Any, publish: Callable[..., Awaitable[Cid]], until: Any
) -> None:
    """A worker is told of an adapter with large weights, and killed when it has some of them."""
    data = hashlib.shake_256(b"large").digest(CHUNKS * CHUNK_SIZE)
    worker, blobs = town.network.peers["worker-1"].ready.peer_id, town.network.home("worker-1").blobs
    async with town.client("emil") as emil:
        adapter = await publish(emil, "emil/large", data)
        weights = (await emil.node.catalog.adapter(adapter)).weights
        served = Served(emil.node.content.store, weights)
        marks, content = blobs / "partial" / f"{weights}.bits", blobs / "content" / weights

        async def begun() -> bool:
            await suggest(emil.node.rpc, worker, adapter, emil.node.binding.current())
            return len(chunks_in(marks)) == CHUNKS - HELD_BACK

        async def finished() -> bool:
            await suggest(emil.node.rpc, worker, adapter, emil.node.binding.current())
            return content.exists()

        await until(begun)
        town.network.peers["worker-1"].kill()
        kept = chunks_in(marks)
        served.rest.set()
        await trio.to_thread.run_sync(town.mend)
        served.chunks.clear()
        await until(finished)
        assert sorted(served.chunks) == sorted(set(range(CHUNKS)) - kept)
    assert content.read_bytes() == data
    assert not marks.exists()


def chunks_in(marks: Path) -> set[int]:
    """The chunks that a download in progress has."""
    bits = marks.read_bytes() if marks.exists() else b""
    return {index for index in range(8 * len(bits)) if bits[index // 8] >> index % 8 & 1}
